"""Where does a model recall some facts: as a plan, and as a recorded run."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from workbench.errors import unknown_name
from workbench.facts.fact import Request
from workbench.localize.corruption import Noise, corruption_named
from workbench.localize.localization import Localization
from workbench.localize.registry import LOCALIZERS, localize
from workbench.models.load import load
from workbench.models.model import Model
from workbench.plans.facts import FactsPlan
from workbench.plans.plan import Recorded, options
from workbench.progress import SILENT, Progress
from workbench.store.store import RunStore


@dataclass(frozen=True)
class LocalizePlan(FactsPlan):
    """Settings of a localization; what is None stays at the localizer's own default.

    Attributes:
        model: demo, smollm2, a folder or a hub id.
        request, facts, relation, subject, most, seed: which facts; see `FactsPlan`.
        method: name of the localizer.
        corruption: noise, replace or image.
        samples: corrupted samples per fact.
        metric: what is measured.
        window: layers restored together.
    """

    KIND: ClassVar[str] = "localize"

    method: str = "causal_tracing"
    corruption: str | None = None
    samples: int | None = None
    metric: str | None = None
    window: int | None = None

    def arguments(self) -> list[str]:
        """Return the command's words behind `workbench localize MODEL`."""
        return options(
            request=self.request,
            facts=self.facts,
            method=self.method,
            corruption=self.corruption,
            samples=self.samples,
            metric=self.metric,
            window=self.window,
            relation=self.relation,
            subject=self.subject,
            most=self.most if self.most != LocalizePlan.most else None,
            seed=self.seed or None,
        )

    def settings(self) -> dict[str, Any]:
        """Return the localizer's keyword arguments.

        Raises:
            WorkbenchError: no localizer or corruption of this name.
        """
        if self.method not in LOCALIZERS:
            raise unknown_name("localizer", self.method, LOCALIZERS)
        given = {"metric": self.metric, "window": self.window}
        settings: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        defaults = inspect.signature(LOCALIZERS[self.method]).parameters
        if self.corruption or self.samples:
            own = type(defaults["corruption"].default) if "corruption" in defaults else Noise
            kind = corruption_named(self.corruption) if self.corruption else own
            more = {"samples": self.samples} if self.samples else {}
            settings["corruption"] = kind(seed=self.seed, **more)
        elif self.seed and "corruption" in defaults:
            settings["corruption"] = replace(defaults["corruption"].default, seed=self.seed)
        elif self.seed and "seed" in defaults:
            settings["seed"] = self.seed
        return settings


def run_localize(
    plan: LocalizePlan,
    model: Model | None = None,
    request: Request | None = None,
    *,
    store: RunStore | None = None,
    progress: Progress = SILENT,
) -> Recorded[Localization]:
    """Localize and record the run.

    Args:
        plan: what to do.
        model: the plan's model, if it is loaded already.
        request: the plan's request, if it is loaded already.
        store: where to record; the user's own by default.
        progress: where to report.

    Raises:
        WorkbenchError: the plan does not fit the model or its facts.
    """
    settings = plan.settings()
    model = model or load(plan.model, progress=progress)
    facts = plan.chosen(model, request, progress)
    store = store or RunStore.default()
    with store.start("localize", plan.to_json(), name=plan.request, seed=plan.seed) as run:
        found = localize(plan.method, model, facts, progress=progress, **settings)
        found.save(run.path)
    return Recorded(run.id, run.path, found)
