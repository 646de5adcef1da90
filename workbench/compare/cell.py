"""One cell of a study: a method at a place with a seed - searched, edited, measured, attacked.

A cell is a plain value with a content key; what it gives is a JSON file of that name. So a study
that was stopped goes on where it was, and two studies share what they have in common.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from workbench.attack.robustness import robustness
from workbench.compare.places import budget_of, place
from workbench.compare.search import Candidate, best, quick, retained
from workbench.compare.study import REFERENCES, MethodEntry, Study
from workbench.edit.cost import Cost, forget_kept, metered
from workbench.edit.edit import Edit
from workbench.edit.registry import edit
from workbench.errors import WorkbenchError
from workbench.facts.fact import Request
from workbench.job_inputs import neutral_texts, request_for, to_trace
from workbench.measure.scorecard import Scorecard, measure
from workbench.models.components import ComponentSet
from workbench.models.load import load
from workbench.models.model import Model
from workbench.models.versions import versions
from workbench.plans.edit import EditPlan
from workbench.progress import SILENT, Progress
from workbench.recent import remember
from workbench.store.store import RunStore


@dataclass(frozen=True)
class CellName:
    """Which cell of a study.

    Attributes:
        label: the method's name in the study, or base or oracle.
        place: where it edits; empty for base and oracle.
        seed: of every draw.
    """

    label: str
    place: str = ""
    seed: int = 0

    def __str__(self) -> str:
        """Write it for people."""
        return f"{self.label} at {self.place}, seed {self.seed}" if self.place else self.label


def cells_of(study: Study) -> tuple[CellName, ...]:
    """Return every cell, base and oracle first."""
    models = [CellName("base"), *([CellName("oracle")] if study.oracle else [])]
    edits = [
        CellName(entry.label, where, seed)
        for entry in study.method
        for where in entry.places
        for seed in study.seeds
    ]
    return (*models, *edits)


def entry_of(study: Study, name: CellName) -> MethodEntry:
    """Return the method of a cell that is an edit."""
    return next(entry for entry in study.method if entry.label == name.label)


def edit_key(study: Study, name: CellName, bench: Bench) -> str:
    """Return the content key of a cell's edit and scorecard: equal keys, equal results."""
    measured = (bench.base.fingerprint, bench.request.fingerprint, bench.neutral, study.limit)
    if name.label in REFERENCES:
        return _digest(*measured, bench.model(name).fingerprint)
    entry = entry_of(study, name).model_dump(exclude={"name", "places"})
    drawn = (name.place, name.seed, bench.parameters, study.allowed_drop)
    return _digest(*measured, entry, *drawn)


def attack_key(study: Study, name: CellName, attack: int, bench: Bench) -> str:
    """Return the content key of one attack on a cell."""
    oracle = bench.oracle.fingerprint if bench.oracle else ""
    return _digest(edit_key(study, name, bench), oracle, study.attack[attack].model_dump())


def _digest(*parts: Any) -> str:
    text = json.dumps([*parts, versions()["edit-workbench"]], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


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

    def model(self, name: CellName) -> Model:
        """Return what a cell is before any edit: the oracle for its own cell, or the base."""
        return self.oracle if name.label == "oracle" and self.oracle else self.base

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


def run_cell(
    study: Study, name: CellName, store: RunStore, progress: Progress = SILENT
) -> dict[str, Any]:
    """Search, edit and measure one cell; the edit is recorded as a run.

    Raises:
        WorkbenchError: the place cannot be found, or no candidate could be made.
    """
    bench = bench_of(study)
    if name.label in REFERENCES:
        card = bench.base_card if name.label == "base" else bench.card(bench.model(name), progress)
        return {"status": "done", "scores": card.to_json()["scores"]}
    facts = to_trace(bench.base, study.request, bench.request.forget, progress=progress)
    chosen = place(
        name.place, bench.base, facts, bench.parameters, seed=name.seed, progress=progress
    )
    found = _search(study, name, chosen, progress)
    taken = found.tried[found.index]
    plan = EditPlan(
        study.model,
        request=study.request,
        components=str(chosen),
        method=entry_of(study, name).method,
        settings=taken.settings,
        seed=name.seed,
    )
    with store.start("edit", plan.to_json(), name=f"{study.name}: {name}", seed=name.seed) as run:
        run.save_delta(found.edit.delta)
        run.save_table("steps", found.edit.steps)
        run.save_json("edit", found.edit.summary())
    card = bench.card(found.edit.model, progress)
    return {
        "status": "done",
        "components": str(chosen),
        "parameters": found.edit.parameters_touched,
        "settings": taken.settings,
        "within": found.within,
        "candidates": [c.to_json() for c in found.tried],
        "cost": asdict(taken.cost),
        "failed": found.edit.failed,
        "run": run.id,
        "scores": card.to_json()["scores"],
    }


@dataclass(frozen=True, eq=False)
class _Search:
    """What a search has tried, which of it was taken, and whether that keeps what it must."""

    tried: tuple[Candidate, ...]
    index: int
    within: bool
    edit: Edit


def _search(study: Study, name: CellName, chosen: ComponentSet, progress: Progress) -> _Search:
    """Try every candidate; of the edits, only the best so far is kept in memory."""
    bench, entry = bench_of(study), entry_of(study, name)
    kept = retained(bench.base, bench.request, seed=name.seed)
    tried: tuple[Candidate, ...] = ()
    found: _Search | None = None
    for settings in entry.candidates:
        made, cost, why = _made(bench, entry, chosen, {**settings, "seed": name.seed}, progress)
        judged = quick(made.model, bench.request, kept) if made else None
        tried = (*tried, Candidate(settings, judged, cost, why))
        taken = best(tried, study.allowed_drop)
        if made and taken and taken[0] == len(tried) - 1:
            found = _Search(tried, *taken, made)
    if found is None:
        raise WorkbenchError(f"No setting of {name} could be made: {tried[0].error}")
    return replace(found, tried=tried)


def _made(
    bench: Bench,
    entry: MethodEntry,
    chosen: ComponentSet,
    settings: Mapping[str, Any],
    progress: Progress,
) -> tuple[Edit | None, Cost, str]:
    """Make one candidate; return what it cost and, if it cannot be made, why."""
    made, why = None, ""
    forget_kept()  # each candidate's cost is that of an edit by itself
    with metered(bench.base) as cost:
        try:
            made = edit(
                entry.method, bench.base, bench.request, chosen, settings, progress=progress
            )
        except WorkbenchError as error:
            why = str(error)
    return made, cost, why


def run_attack(
    study: Study,
    name: CellName,
    attack: int,
    run: str,
    store: RunStore,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Attack one cell's model.

    Args:
        study: the study.
        name: the cell.
        attack: which of the study's attacks.
        run: the run that made the cell's edit; empty for base and oracle.
        store: where the run is.
        progress: where to report.

    Raises:
        WorkbenchError: the run is gone.
    """
    bench = bench_of(study)
    model = bench.model(name)
    if run:
        model = model.with_delta(store.get(run).delta())
    entry = study.attack[attack]
    found = robustness(
        model,
        bench.request,
        bench.base,
        bench.oracle,
        names=[entry.attack],
        settings={entry.attack: entry.settings},
        seed=name.seed,
        progress=progress,
    )
    (result,) = found.results
    return {"status": "done", "attack": entry.attack, "result": result.to_json()}


def failed_cell(error: BaseException) -> dict[str, Any]:
    """Return what is kept of a cell that failed: why."""
    return {"status": "failed", "error": _why(error)}


def _why(error: BaseException) -> str:
    if isinstance(error, WorkbenchError):
        return str(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "Out of memory; use fewer workers, a smaller batch or a smaller model."
    first, *_ = str(error).strip().split("\n")
    return f"{type(error).__name__}: {first}"
