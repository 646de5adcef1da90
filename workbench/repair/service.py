"""From what a user says to a repair: heard, planned, allowed, confirmed, done, and written down.

Only what a user says in their own words can ask for anything. Every request is logged with its
outcome, those that were refused as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.models.model import Model
from workbench.progress import SILENT, Cancelled, Progress
from workbench.repair.catalog import Catalog
from workbench.repair.chat_surgeon import ChatSurgeon
from workbench.repair.chat_watchdog import ChatWatchdog, Hears
from workbench.repair.intent import Turn
from workbench.repair.ledger import REPAIRED, UNDONE, Entry, Ledger
from workbench.repair.patient import Patient, Repair
from workbench.repair.plan import RepairPlan
from workbench.repair.policy import Policy, read_policy
from workbench.repair.surgeon import Surgeon
from workbench.repair.watchdog import Watchdog

NOTHING_ASKED = (
    "Nothing is asked to be forgotten or corrected. Say for instance: Please forget where Ada "
    "Brook was born."
)


@dataclass(frozen=True)
class Proposal:
    """A plan that the policy allows.

    Attributes:
        plan: the plan.
        confirm: whether the user has to be asked first.
    """

    plan: RepairPlan
    confirm: bool


@dataclass(frozen=True, eq=False)
class Service:
    """One patient and everybody who looks after it.

    Attributes:
        watchdog: who hears what is asked for.
        surgeon: who plans.
        patient: who is repaired.
        policy: who may ask for what.
        second: a chat model that may change how a plan is carried out.
    """

    watchdog: Hears
    surgeon: Surgeon
    patient: Patient
    policy: Policy = field(default_factory=Policy)
    second: ChatSurgeon | None = None

    @staticmethod
    def open(
        base: Model,
        *,
        folder: Path | None = None,
        facts: Path | None = None,
        policy: Path | None = None,
        hears: Model | None = None,
        plans: Model | None = None,
        seed: int = 0,
        progress: Progress = SILENT,
    ) -> Service:
        """Return the service of a model.

        Args:
            base: the model before any repair.
            folder: its ledger; by default one in the user's cache.
            facts: a fact file about its world; by default what the workbench knows of it.
            policy: a policy file.
            hears: a chat model that reads what is asked for, in place of the bundled watchdog.
            plans: a chat model that may change how the surgeon's plans are carried out.
            seed: of every draw.
            progress: where to report.

        Raises:
            WorkbenchError: a file is wrong, the ledger belongs to another model, or `hears` or
                `plans` is no chat model.
        """
        rules = read_policy(policy)
        ledger = Ledger.of(base, folder)
        catalog = Catalog.of(base, facts, seed=seed, progress=progress)
        surgeon = Surgeon(base, catalog, seed=seed)
        watchdog = ChatWatchdog(hears) if hears is not None else Watchdog.load()
        second = ChatSurgeon(plans) if plans is not None else None
        return Service(watchdog, surgeon, Patient(base, catalog, ledger), rules, second)

    def hear(
        self, dialogue: Sequence[Turn], *, user: str = "", progress: Progress = SILENT
    ) -> tuple[Proposal, ...]:
        """Return a plan for everything the last message asks for; none if it asks for nothing.

        Raises:
            WorkbenchError: it is not clear what is meant, there is nothing to repair, what is asked
                for contradicts itself, no plan for it can be carried out, or the policy forbids it.
        """
        text = dialogue[-1].text if dialogue else ""
        intents = self.watchdog.read(dialogue)
        if not intents:
            return ()
        ledger, names = self.patient.ledger, [i.subject for i in intents]
        try:
            model = self.patient.model
            others = [entry.dose for entry in ledger.active]
            plans = [
                self.surgeon.plan(intent, model, said=text, others=others, progress=progress)
                for intent in intents
            ]
            _check_together(plans)
            if self.second is not None:
                plans = [self.second.propose(p, self.patient.base).plan for p in plans]
            rules = [self.policy.decide(user, plan, ledger.logged()) for plan in plans]
        except WorkbenchError as error:
            ledger.log(user, text, f"refused: {error}", names)
            raise
        return tuple(Proposal(p, rule.confirm) for p, rule in zip(plans, rules, strict=True))

    def carry_out(
        self, plan: RepairPlan, *, user: str = "", progress: Progress = SILENT
    ) -> tuple[Repair, Entry]:
        """Make a repair that meets its limits, and put it in force.

        Raises:
            WorkbenchError: the policy forbids it, or no setting meets the limits; nothing changes.
            Cancelled: the progress asked to stop; nothing changes.
        """
        ledger = self.patient.ledger
        try:
            self.policy.decide(user, plan, ledger.logged())
            repair = self.patient.try_repair(plan, progress=progress)
            entry = self.patient.keep(repair, user=user)
        except (WorkbenchError, Cancelled) as error:
            ledger.log(user, plan.said, f"not done: {error or 'stopped'}", [plan.subject])
            raise
        ledger.log(user, plan.said, f"{REPAIRED} {entry.id}", [plan.subject])
        return repair, entry

    def undo(self, name: str, *, user: str = "", progress: Progress = SILENT) -> Model:
        """Take a repair back.

        Raises:
            WorkbenchError: there is no such repair in force.
        """
        model = self.patient.undo(name, progress=progress)
        self.patient.ledger.log(user, "", f"{UNDONE} {name}")
        return model


def _check_together(plans: Sequence[RepairPlan]) -> None:
    """Refuse plans that want different things of one fact."""
    wanted: dict[tuple[str, str], str] = {}
    for plan in plans:
        for fact in plan.forget:
            end = (fact.foil or "").strip() if plan.action == "correct" else "forgotten"
            other = wanted.setdefault((fact.subject, fact.relation), end)
            if other != end:
                raise WorkbenchError(
                    f"The {fact.relation} of {fact.subject} cannot be both {other} and {end}; say "
                    "which."
                )
