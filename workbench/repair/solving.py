"""From the repairs in force to one change of the weights: they are solved for together, anew.

Edits that are stacked one on another each keep what the model was when they were made, and what
they lose adds up. Here every repair in force is solved for from the untouched base at once, and
each keeps whatever none of them is about. Taking a repair back is solving without it.

Three kinds of repairs follow one another: what goes where its subject is looked up, then what goes
where it is said, then what is corrected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.checked import Scalar
from workbench.facts.fact import FactSet
from workbench.localize.sites import SiteName
from workbench.models.components import ComponentSet
from workbench.models.delta import WeightDelta
from workbench.models.model import Model
from workbench.plans.edit import EditPlan, make_edit
from workbench.progress import SILENT, Progress
from workbench.repair.catalog import Catalog
from workbench.repair.plan import RepairPlan


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
        """Which of the three kinds it is of, in their order."""
        if self.plan.action == "correct":
            return 2
        return 0 if "subject" in self.plan.sites else 1


def solve(
    base: Model, catalog: Catalog, doses: Sequence[Dose], *, progress: Progress = SILENT
) -> WeightDelta | None:
    """Solve for all repairs in force; None if there is none.

    Repairs of one kind share one solve, with the settings of the latest of them: those held for
    all of them when it was made.

    Raises:
        WorkbenchError: a plan does not fit the model, or nothing finite solves it.
    """
    working, total = base, None
    doses = in_force(doses)
    every = [fact for dose in doses for fact in dose.plan.forget]
    for kind in sorted({dose.kind for dose in doses}):
        own = [dose for dose in doses if dose.kind == kind]
        forget = FactSet(tuple({f.key: f for dose in own for f in dose.plan.forget}.values()))
        request = catalog.request(forget, replaced=kind == 2, gone=FactSet(tuple(every)))
        last = own[-1]
        plan = EditPlan(
            base.name,
            request=request.name,
            **_sites(own),
            method=last.plan.method,
            settings=last.settings,
            seed=last.plan.seed,
        )
        delta = make_edit(plan, working, request, progress=progress).delta
        total = delta if total is None else total + delta
        working = working.with_delta(delta)
    return total


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
