"""The patient: carries a plan out, proves it, and can take it back.

A repair is solved for together with all that are in force, examined, and tried again with the
plan's stronger or gentler settings until every limit is met. If none of them meets all, nothing is
changed. Source of the role: RePAIR (arXiv 2604.12820).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.checked import Scalar
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet
from workbench.facts.prompts import chat
from workbench.job_inputs import bundled_world
from workbench.measure.answers import is_right
from workbench.models.delta import WeightDelta
from workbench.models.model import Model
from workbench.models.text import generate
from workbench.progress import SILENT, Progress
from workbench.repair.catalog import Catalog
from workbench.repair.exam import RepairExam
from workbench.repair.ledger import Entry, Ledger
from workbench.repair.plan import RepairPlan
from workbench.repair.solving import Dose, in_force, solve
from workbench.repair.verify import Examination, examine_repair

_ROOM = 48  # tokens of an answer
_HARM = ("beside", "aside", "kept", "neighbors", "perplexity")  # what gentler settings are for


@dataclass(frozen=True, eq=False)
class Repair:
    """A repair that meets its plan's limits, and is not in force yet.

    Attributes:
        plan: what was asked for.
        settings: the settings that met the limits.
        delta: the change of the weights by all repairs, this one with them.
        examination: what the repaired model says.
        tried: how many settings it took.
        seconds: wall time.
        after: the repairs that were in force when it was made.
    """

    plan: RepairPlan
    settings: dict[str, Scalar]
    delta: WeightDelta
    examination: Examination
    tried: int
    seconds: float
    after: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Patient:
    """A model with its ledger.

    Attributes:
        base: the model before any repair.
        catalog: what is on file about its world.
        ledger: its repairs.
    """

    base: Model
    catalog: Catalog
    ledger: Ledger

    @property
    def model(self) -> Model:
        """The model with every repair in force."""
        delta = self.ledger.delta()
        return self.base if delta is None else self.base.with_delta(delta)

    def say(self, question: str, model: Model | None = None) -> str:
        """Answer a question as the patient answers questions.

        Args:
            question: plain words.
            model: who answers; the patient as it is now by default.
        """
        (answer,) = generate(model or self.model, [self.prompt(question)], max_new_tokens=_ROOM)
        return answer.strip()

    def prompt(self, question: str) -> str:
        """Write a question the way the patient is used to: in chat form, or as in its own world."""
        if self.base.tokenizer.chat_template:
            return chat(self.base, question)
        if bundled_world(self.base) and question.strip().endswith("?"):
            return f"Q: {question.strip()}\nA:"
        return question

    def try_repair(self, plan: RepairPlan, *, progress: Progress = SILENT) -> Repair:
        """Make a repair that meets its limits; the ledger stays as it is.

        Raises:
            WorkbenchError: the plan is for another model, is about what was repaired already, or no
                setting meets its limits; nothing is changed.
            Cancelled: the progress asked to stop; nothing is changed.
        """
        start = time.perf_counter()
        if plan.fingerprint != self.base.fingerprint:
            raise WorkbenchError(
                f"The plan was made for another model ({plan.model}, {plan.fingerprint[:12]}); "
                "make a new one."
            )
        active = self.ledger.active
        doses = [entry.dose for entry in active]
        gone = [f for dose in in_force([*doses, Dose(plan, {})])[:-1] for f in dose.plan.forget]
        earlier = FactSet(tuple(gone))
        exam = RepairExam.of(self.base, self.catalog, plan, earlier, progress=progress)
        harder = gentler = 0
        best: Examination | None = None
        tries = 0
        while True:
            tries += 1
            settings: dict[str, Scalar] = {**plan.settings}
            for more in (*plan.stronger[:harder], *plan.gentler[:gentler]):
                settings |= more
            dose = Dose(plan, settings)
            delta = solve(self.base, self.catalog, [*doses, dose], progress=progress)
            assert delta is not None  # there is at least this dose
            examination = examine_repair(
                *(self.base, self.base.with_delta(delta), plan, exam),
                earlier=earlier,
                progress=progress,
            )
            failed = {f.check for f in examination.failed}
            if not failed:
                seconds = time.perf_counter() - start
                names = tuple(entry.id for entry in active)
                return Repair(plan, settings, delta, examination, tries, seconds, names)
            if best is None or len(examination.failed) <= len(best.failed):
                best = examination
            before_harder, before_gentler = harder, gentler
            harder += bool(failed - set(_HARM)) and harder < len(plan.stronger)
            gentler += bool(failed & set(_HARM)) and gentler < len(plan.gentler)
            if (harder, gentler) == (before_harder, before_gentler):
                break
        raise WorkbenchError(
            f"No setting of the plan meets its limits, so nothing was changed: after {tries} tries "
            f"{'; '.join(map(str, best.failed))}. Loosen the limits, or ask for less at once."
        )

    def keep(self, repair: Repair, *, user: str = "") -> Entry:
        """Put a repair in force.

        Raises:
            WorkbenchError: it cannot be written, or another repair came in between.
        """
        answers = repair.examination.answers.to_dict("records")
        return self.ledger.add(
            repair.plan,
            repair.settings,
            repair.delta,
            found=repair.examination.to_json(),
            answers=[{str(k): v for k, v in row.items()} for row in answers],
            seconds=repair.seconds,
            user=user,
            after=repair.after,
        )

    def undo(self, name: str, *, progress: Progress = SILENT) -> Model:
        """Take one repair back and return the model without it; the others stay.

        What is left is solved for anew, unless it was in force by itself before. Without any repair
        the model is the base, bit for bit.

        Raises:
            WorkbenchError: there is no such repair in force.
        """
        active = self.ledger.active
        self.ledger.entry(name)  # a name that never was is told first
        left = [entry for entry in active if entry.id != name]
        if len(left) == len(active):
            raise WorkbenchError(f"The repair {name} is not in force; it was taken back before.")
        names = [entry.id for entry in left]
        delta = self.ledger.state_of(names)
        if delta is None:
            delta = solve(self.base, self.catalog, [e.dose for e in left], progress=progress)
        self.ledger.put_in_force(names, delta, instead_of=[entry.id for entry in active])
        return self.model

    def bisect(
        self, prompt: str, expected: str, *, progress: Progress = SILENT
    ) -> tuple[Entry | None, Sequence[str]]:
        """Find the repair after which a question is no longer answered as expected.

        Args:
            prompt: what is asked, in plain words.
            expected: what the answer should hold.
            progress: where to report.

        Returns:
            The first repair in force after which it is not, None if it still is; and what the model
            said at each step that was looked at.

        Raises:
            WorkbenchError: the base does not answer so either.
        """
        active = self.ledger.active
        said: list[str] = []

        def holds_after(count: int) -> bool:
            names = [entry.id for entry in active[:count]]
            delta = self.ledger.state_of(names)
            if delta is None and names:
                doses = [entry.dose for entry in active[:count]]
                delta = solve(self.base, self.catalog, doses, progress=progress)
            model = self.base if delta is None else self.base.with_delta(delta)
            answer = self.say(prompt, model)
            said.append(f"after {count} repairs: {answer}")
            return is_right(answer, (expected,))

        if not holds_after(0):
            raise WorkbenchError(
                f"The model did not say {expected!r} before any repair either, so none broke it."
            )
        if holds_after(len(active)):
            return None, said
        good, bad = 0, len(active)
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if holds_after(middle) else (good, middle)
        return active[bad - 1], said
