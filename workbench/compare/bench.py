"""What the cells of a study share: the models, the request, the base's scorecard."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from workbench.compare.places import budget_of
from workbench.compare.study import Study
from workbench.facts.fact import Request
from workbench.job_inputs import neutral_texts, request_for
from workbench.measure.scorecard import Scorecard, measure
from workbench.models.load import load
from workbench.models.model import Model
from workbench.progress import SILENT, Progress
from workbench.recent import remember


@dataclass(frozen=True, eq=False)
class Bench:
    """What the cells of a study share: the models, the request, the base's scorecard."""

    study: Study

    @cached_property
    def base(self) -> Model:
        """The model before any edit."""
        return load(self.study.model)

    @cached_property
    def oracle(self) -> Model | None:
        """The model that never knew."""
        return load(self.study.oracle) if self.study.oracle else None

    @cached_property
    def request(self) -> Request:
        """What is to be forgotten."""
        return request_for(self.base, self.study.request)

    @cached_property
    def neutral(self) -> tuple[str, ...]:
        """Texts for the perplexity."""
        return neutral_texts(self.base, self.study.request)

    @cached_property
    def parameters(self) -> int:
        """The budget of a place."""
        return budget_of(self.base.structure, self.study.budget)

    def model(self, label: str) -> Model:
        """Return what a cell is before any edit: the oracle for its own cell, or the base."""
        return self.oracle if label == "oracle" and self.oracle else self.base

    @cached_property
    def base_card(self) -> Scorecard:
        """The base's scorecard."""
        return measure(self.base, self.request, neutral=self.neutral, limit=self.study.limit)

    def card(self, model: Model, progress: Progress = SILENT) -> Scorecard:
        """Measure a model against the base."""
        return measure(
            model,
            self.request,
            base_card=self.base_card,
            neutral=self.neutral,
            limit=self.study.limit,
            progress=progress,
        )


_BENCHES: dict[str, Bench] = {}


def bench_of(study: Study) -> Bench:
    """Return a study's bench; a worker keeps the last one."""
    return remember(_BENCHES, study.model_dump_json(), lambda: Bench(study), most=1)
