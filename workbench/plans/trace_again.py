"""The same trace of the edited model: has recall gone, or moved elsewhere?"""

from __future__ import annotations

from typing import Any

from workbench.errors import WorkbenchError
from workbench.facts.fact import Request
from workbench.job_inputs import JobSettings
from workbench.job_trace import trace_after
from workbench.localize.corruption import Noise
from workbench.localize.localization import Localization
from workbench.models.model import Model
from workbench.plans.localize import LocalizePlan
from workbench.plans.plan import Recorded
from workbench.progress import SILENT, Progress
from workbench.store.store import RunStore

KIND = "trace-again"


def traced_again(plan: LocalizePlan, edited: Model, store: RunStore) -> Localization | None:
    """Return the last trace of the same model with the same edits, if there is one."""
    record = store.find(KIND, _config(plan, edited))
    return Localization.load(record.path) if record else None


def _config(plan: LocalizePlan, edited: Model) -> dict[str, Any]:
    return {**plan.to_json(), "edits": [d.origin.to_json() for d in edited.deltas]}


def run_trace_again(
    plan: LocalizePlan,
    before: Localization,
    base: Model,
    edited: Model,
    request: Request | None = None,
    *,
    store: RunStore | None = None,
    progress: Progress = SILENT,
) -> Recorded[Localization]:
    """Trace an edited model as its base was traced, in units of the base's effect.

    Args:
        plan: how the base was traced.
        before: what that gave.
        base: the plan's model.
        edited: the model to look into.
        request: the plan's request, if it is loaded already.
        store: where to record; the user's own by default.
        progress: where to report.

    Raises:
        WorkbenchError: the plan is no causal tracing, whose scale is the only one that can be kept.
    """
    if plan.method != "causal_tracing":
        raise WorkbenchError(
            "Only causal tracing can be repeated on the base's scale; localize by causal tracing "
            "first."
        )
    given = plan.settings()
    settings = JobSettings(
        corruption=given.get("corruption", Noise()),
        window=given.get("window", 1),
        metric=given.get("metric", "probability"),
    )
    facts = plan.chosen(base, request, progress)
    store = store or RunStore.default()
    with store.start(KIND, _config(plan, edited), name=plan.request, seed=plan.seed) as run:
        found = trace_after(edited, base, facts, before, settings, progress)
        found.save(run.path)
    return Recorded(run.id, run.path, found)
