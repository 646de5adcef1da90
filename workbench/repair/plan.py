"""A repair plan: what a repair will do, written so that people can read, change and save it.

The surgeon writes plans and the patient carries them out. Nothing in a plan is ever run as code:
it is data, checked here, whoever wrote it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field

from workbench.checked import Checked, Scalar, checked
from workbench.edit.registry import make_config
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet
from workbench.facts.readers import make_fact, parse_json, read_text
from workbench.models.atomic import write_json
from workbench.models.components import ComponentSet

FORMAT = "workbench-repair-1"
Check = Literal[
    "forgotten", "instead", "beside", "aside", "kept", "neighbors", "perplexity", "relearned"
]
CHECKS: tuple[Check, ...] = get_args(Check)


class Evidence(Checked):
    """What the patient said when it was asked.

    Attributes:
        relation: what about the subject.
        answer: its answer.
        agreed: share of the wordings that it answered so.
        asked: how many wordings it was asked in.
    """

    relation: str
    answer: str
    agreed: float = Field(ge=0, le=1)
    asked: int = Field(ge=1)


class Limits(Checked):
    """What a repair must reach, or else nothing is changed.

    Attributes:
        forgotten: largest share of the forgotten facts' wordings that are still answered.
        instead: least share of their own prompts answered as wished (refused, or corrected).
        beside: least share of what else is on file about the subject that stays.
        aside: least share of other questions about the subject that are answered much as before;
            none of them is known to the edit.
        kept: least accuracy on held-back facts, as a share of the base's.
        neighbors: the same of what stands near the forgotten facts.
        perplexity: most of the base's perplexity on neutral texts, as a multiple.
        relearned: most of the facts that a short training on other facts may bring back.
    """

    forgotten: float = Field(0.0, ge=0, le=1)
    instead: float = Field(0.9, ge=0, le=1)
    beside: float = Field(0.9, ge=0, le=1)
    aside: float = Field(0.6, ge=0, le=1)
    kept: float = Field(0.97, ge=0, le=1)
    neighbors: float = Field(0.9, ge=0, le=1)
    perplexity: float = Field(1.05, ge=1)
    relearned: float = Field(0.25, ge=0, le=1)


class RepairPlan(Checked):
    """One repair.

    Attributes:
        format: of this record.
        model: name of the patient.
        fingerprint: SHA-256 of the base's parameters.
        said: the words that asked for it.
        action: to forget or to correct.
        subject: whom it is about.
        facts: what to forget, as records of a fact file; with foils that are right, to correct.
        evidence: what the patient said about them.
        keep: how many facts are kept as they are: about the subject, in training, held back.
        sites: where it edits, by site: at the subject's tokens, or where the answer is read out.
        method: the edit method.
        settings: settings that differ from its defaults; for one site written "answer.weight".
        stronger: settings to try next, one after the other, while too little is forgotten.
        gentler: the same while too much is lost.
        limits: what must be reached.
        checks: which of the limits are looked at.
        seed: of every draw.
    """

    format: Literal["workbench-repair-1"] = FORMAT
    model: str
    fingerprint: str
    said: str = ""
    action: Literal["forget", "correct"]
    subject: str
    facts: tuple[dict[str, Any], ...] = Field(min_length=1)
    evidence: tuple[Evidence, ...] = ()
    keep: dict[str, int] = Field(default_factory=dict)
    sites: dict[Literal["subject", "answer"], str] = Field(min_length=1)
    method: str = "stamp"
    settings: dict[str, Scalar] = Field(default_factory=dict)
    stronger: tuple[dict[str, Scalar], ...] = ()
    gentler: tuple[dict[str, Scalar], ...] = ()
    limits: Limits = Limits()
    checks: tuple[Check, ...] = Field(CHECKS, min_length=1)
    seed: int = 0

    @property
    def forget(self) -> FactSet:
        """The facts it is about."""
        return FactSet(tuple(make_fact(r, f"Fact {i}") for i, r in enumerate(self.facts, 1)))

    @property
    def what(self) -> str:
        """What it is about, in words."""
        relations = ", ".join(dict.fromkeys(f.relation for f in self.forget))
        done = "Correct" if self.action == "correct" else "Forget"
        return f"{done} about {self.subject}: {relations}"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return self.model_dump(mode="json")

    def save(self, path: Path) -> None:
        """Write it as JSON.

        Raises:
            WorkbenchError: the place cannot be written to.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> RepairPlan:
        """Read a plan that somebody saved, and perhaps changed.

        Raises:
            WorkbenchError: it is no plan, or something in it is wrong.
        """
        return make_plan(parse_json(read_text(path), str(path)), str(path))


def make_plan(data: Any, where: str = "The plan") -> RepairPlan:
    """Check a plan's contents, whoever wrote them.

    Raises:
        WorkbenchError: with the first fault.
    """
    plan = checked(RepairPlan, data, where)
    _check(plan, where)
    return plan


def _check(plan: RepairPlan, where: str) -> None:
    """Refuse facts, components and settings that do not exist or do not fit each other."""
    facts = [make_fact(record, f"{where}, fact {i}") for i, record in enumerate(plan.facts, 1)]
    others = [f.subject for f in facts if f.subject != plan.subject]
    if others:
        raise WorkbenchError(
            f"{where} is about {plan.subject}, but one of its facts is about {others[0]}; write a "
            "plan for each subject."
        )
    if plan.action == "correct":
        _check_foils(facts, where)
        if "subject" in plan.sites:
            raise WorkbenchError(
                f"{where} corrects, and at the subject's tokens there is no answer to write yet; "
                "use the answer site."
            )
    for components in plan.sites.values():
        ComponentSet.parse(components)
    for settings in (plan.settings, *plan.stronger, *plan.gentler):
        plain = {key.rpartition(".")[2]: value for key, value in settings.items()}
        config = make_config(plan.method, plain)
        if hasattr(config, "check"):
            config.check()


def _check_foils(facts: list[Fact], where: str) -> None:
    for fact in facts:
        if not fact.foil:
            raise WorkbenchError(
                f"{where} corrects {fact.prompt!r} without saying what is right; give its foil."
            )
        if fact.foil.strip() == fact.target.strip():
            raise WorkbenchError(f"{where} corrects {fact.prompt!r} to what it says already.")
