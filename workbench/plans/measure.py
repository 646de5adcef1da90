"""A measurement as a plan and as a recorded run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from workbench.facts.everyday import everyday_questions
from workbench.facts.fact import Request
from workbench.job_inputs import bundled_world, neutral_texts, request_for
from workbench.measure.scorecard import Scorecard, measure
from workbench.models.load import load
from workbench.models.model import Model
from workbench.plans.plan import Plan, Recorded, apply_deltas, load_deltas, options
from workbench.progress import SILENT, Progress
from workbench.store.store import RunStore


@dataclass(frozen=True)
class MeasurePlan(Plan):
    """Settings of a measurement.

    Attributes:
        model: demo, smollm2, a folder or a hub id.
        request: what was to be forgotten and kept.
        deltas: delta files to apply.
        limit: most kept facts to ask about; None for all.
        seed: of every draw.
    """

    KIND: ClassVar[str] = "measure"

    request: str = ""
    deltas: tuple[str, ...] = ()
    limit: int | None = None
    seed: int = 0

    def arguments(self) -> list[str]:
        """Return the command's words behind `workbench measure MODEL`."""
        return options(
            request=self.request, delta=self.deltas, limit=self.limit, seed=self.seed or None
        )


def run_measure(
    plan: MeasurePlan,
    base: Model | None = None,
    edited: Model | None = None,
    request: Request | None = None,
    *,
    base_card: Scorecard | None = None,
    store: RunStore | None = None,
    progress: Progress = SILENT,
) -> Recorded[Scorecard]:
    """Measure and record the run.

    Args:
        plan: what to do.
        base: the plan's model, if it is loaded already.
        edited: the same with the plan's deltas, if it is at hand already.
        request: the plan's request, if it is loaded already.
        base_card: what the base was measured at, if it was.
        store: where to record; the user's own by default.
        progress: where to report.

    Raises:
        WorkbenchError: the plan does not fit.
    """
    deltas = [] if edited else load_deltas(plan.deltas)  # a wrong path is told before the long work
    base = base or load(plan.model, progress=progress)
    edited = edited or apply_deltas(base, deltas)
    request = request or request_for(base, plan.request, seed=plan.seed, progress=progress)
    store = store or RunStore.default()
    with store.start("measure", plan.to_json(), name=request.name, seed=plan.seed) as run:
        card = measure(
            edited,
            request,
            base=base if edited.deltas else None,
            base_card=base_card if edited.deltas else None,
            neutral=neutral_texts(base, plan.request),
            everyday=() if bundled_world(base, plan.request) else everyday_questions(base),
            limit=plan.limit,
            seed=plan.seed,
            progress=progress,
        )
        run.save_json("scorecard", card.to_json())
        run.save_table("scores", card.to_frame())
    return Recorded(run.id, run.path, card)


def measured(plan: MeasurePlan, base: Model, request: Request, store: RunStore) -> Scorecard | None:
    """Return what a plan gave when it was last run on this very base and request, if it was."""
    record = store.find(plan.KIND, plan.to_json())
    if record is None:
        return None
    card = Scorecard.from_json(record.json("scorecard"))
    of_base = plan.deltas or card.model_fingerprint == base.fingerprint
    return card if of_base and card.request_fingerprint == request.fingerprint else None


def measure_both(
    plan: MeasurePlan,
    base: Model,
    edited: Model,
    request: Request,
    *,
    store: RunStore,
    progress: Progress = SILENT,
) -> tuple[Scorecard, Scorecard]:
    """Measure the base, unless it was measured already, and the edited model against it.

    Args:
        plan: how to measure the edited model.
        base: the plan's model.
        edited: the same with the plan's deltas.
        request: the plan's request.
        store: where runs are.
        progress: where to report.
    """
    bare = replace(plan, deltas=())
    before = measured(bare, base, request, store)
    if before is None:
        before = run_measure(bare, base, base, request, store=store, progress=progress).result
    after = run_measure(
        plan, base, edited, request, base_card=before, store=store, progress=progress
    ).result
    return before, after
