"""From the repairs in force to one change of the weights: they are solved for together, anew.

Edits that are stacked one on another each keep what the model was when they were made, and what
they lose adds up. Here every repair in force is solved for from the untouched base at once, and
each keeps whatever none of them is about. Taking a repair back is solving without it.

Three kinds of repairs follow one another: whole subjects, which go where they are looked up; single
things about subjects; and what is corrected. A few single things go where they are said. Of many,
that place knows too little about whom they are: they go at their subjects first, as far as their
relations read there (STAMP's target `relation`), and what is left where it is said; and what they
lose of others is weighed more until little is lost (`keeping`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from workbench.checked import Scalar
from workbench.facts.fact import FactSet, Request
from workbench.localize.sites import SiteName
from workbench.models.components import ComponentSet
from workbench.models.delta import WeightDelta
from workbench.models.model import Model
from workbench.plans.edit import EditPlan, make_edit
from workbench.progress import SILENT, Progress
from workbench.repair.beside import said_beside
from workbench.repair.catalog import Catalog
from workbench.repair.keeping import solve_keeping
from workbench.repair.plan import RepairPlan

WHOLE, SINGLE, CORRECTED = range(3)  # kinds of repairs, in the order in which they are solved for
SEVERAL = 5  # repairs of single things in force, from which on the next is one of many


@dataclass(frozen=True)
class Dose:
    """A plan, and the settings it takes.

    Attributes:
        plan: the plan.
        settings: its settings as they were last tried, those of the stronger or gentler tries
            among them.
    """

    plan: RepairPlan
    settings: dict[str, Scalar]

    @property
    def kind(self) -> int:
        """Which of the three kinds it is of."""
        if self.plan.action == "correct":
            return CORRECTED
        return WHOLE if "subject" in self.plan.sites and not self.reads else SINGLE

    @property
    def reads(self) -> bool:
        """Whether it takes from its subject only what its relation reads there."""
        return self.plan.settings.get("subject.target") == "relation"


def solve(
    base: Model, catalog: Catalog, doses: Sequence[Dose], *, progress: Progress = SILENT
) -> WeightDelta | None:
    """Solve for all repairs in force; None if there is none.

    Repairs of one kind share one solve, with the settings of the latest of them: those held for
    all of them when it was made. (Of the latest that edits the most sites, if a person wrote a plan
    for fewer.)

    Raises:
        WorkbenchError: a plan does not fit the model, or nothing finite solves it.
    """
    working, total = base, None
    doses = in_force(doses)
    every = [fact for dose in doses for fact in dose.plan.forget]
    for kind in sorted({dose.kind for dose in doses}):
        own = [dose for dose in doses if dose.kind == kind]
        forget = FactSet(tuple({f.key: f for dose in own for f in dose.plan.forget}.values()))
        request = catalog.request(forget, replaced=kind == CORRECTED, gone=FactSet(tuple(every)))
        if catalog.wider and kind != WHOLE:
            beside = said_beside(base, catalog.wider, forget, catalog.refusal)
            request = replace(request, retain=request.retain + beside)
        last = max(reversed(own), key=lambda dose: len(dose.plan.sites))
        plan = EditPlan(
            base.name,
            request=request.name,
            **_sites(own),
            method=last.plan.method,
            settings=last.settings,
            seed=last.plan.seed,
        )
        change = partial(_change, plan, working, progress)
        if any(dose.reads for dose in own):
            delta = solve_keeping(working, request, change, progress=progress)
        else:
            delta = change(request)
        total = delta if total is None else total + delta
        working = working.with_delta(delta)
    return total


def _change(plan: EditPlan, model: Model, progress: Progress, request: Request) -> WeightDelta:
    return make_edit(plan, model, request, progress=progress).delta


def one_of_many(doses: Sequence[Dose]) -> bool:
    """Whether the next single thing is one of many, by the repairs in force."""
    singles = [dose for dose in in_force(doses) if dose.kind == SINGLE]
    return len(singles) >= SEVERAL or any(dose.reads for dose in singles)


def in_force(doses: Sequence[Dose]) -> list[Dose]:
    """Leave out the repairs that a later one is about too, whole: the later word counts."""
    about = [{(f.subject, f.relation) for f in dose.plan.forget} for dose in doses]
    return [
        dose
        for i, dose in enumerate(doses)
        if not any(about[i] <= later for later in about[i + 1 :])
    ]


def _sites(doses: Sequence[Dose]) -> dict[str, Any]:
    """Return the components of every site that some plan edits."""
    found: dict[SiteName, list[str]] = {}
    for dose in doses:
        for site, components in dose.plan.sites.items():
            found.setdefault(site, []).append(components)
    return {site: str(ComponentSet.parse(", ".join(texts))) for site, texts in found.items()}
