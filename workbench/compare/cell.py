"""One cell of a study: a method at a place with a seed - searched, edited, measured, attacked.

A cell is a plain value with a content key; what it gives is a JSON file of that name. So a study
that was stopped goes on where it was, and two studies share what they have in common.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from workbench.attack.robustness import robustness
from workbench.compare.bench import Bench, bench_of
from workbench.compare.places import place
from workbench.compare.search import Candidate, best, quick, retained
from workbench.compare.study import IN_CONTEXT, REFERENCES, MethodEntry, Study
from workbench.edit.cost import Cost, as_first, metered
from workbench.edit.edit import Edit
from workbench.edit.in_context import InContextConfig, in_context, with_context
from workbench.edit.registry import edit
from workbench.errors import WorkbenchError
from workbench.job_inputs import to_trace
from workbench.measure.scorecard import measure
from workbench.models.components import ComponentSet
from workbench.models.versions import versions
from workbench.plans.edit import EditPlan
from workbench.progress import SILENT, Progress
from workbench.store.store import RunStore


@dataclass(frozen=True)
class CellName:
    """Which cell of a study.

    Attributes:
        label: the method's name in the study, or a reference's.
        place: where it edits; empty for a reference.
        seed: of every draw.
    """

    label: str
    place: str = ""
    seed: int = 0

    def __str__(self) -> str:
        """Write it for people."""
        return f"{self.label} at {self.place}, seed {self.seed}" if self.place else self.label


def cells_of(study: Study) -> tuple[CellName, ...]:
    """Return every cell, the references first."""
    models = [CellName(label) for label in study.references]
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
    if name.label == IN_CONTEXT:
        return _digest(*measured, IN_CONTEXT, study.seeds[0])
    if name.label in REFERENCES:
        return _digest(*measured, bench.model(name.label).fingerprint)
    entry = entry_of(study, name).model_dump(exclude={"name", "places"})
    drawn = (name.place, name.seed, bench.parameters, study.allowed_drop)
    traced = () if study.traced is None else (study.traced,)
    return _digest(*measured, entry, *drawn, *traced)


def attack_key(study: Study, edited: str, attack: int, bench: Bench) -> str:
    """Return the content key of one attack on the cell whose own key is `edited`."""
    oracle = bench.oracle.fingerprint if bench.oracle else ""
    return _digest(edited, oracle, study.attack[attack].model_dump())


def _digest(*parts: Any) -> str:
    text = json.dumps([*parts, versions()["edit-workbench"]], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def run_cell(
    study: Study, name: CellName, store: RunStore, progress: Progress = SILENT
) -> dict[str, Any]:
    """Search, edit and measure one cell; the edit is recorded as a run.

    Raises:
        WorkbenchError: the place cannot be found, or no candidate could be made.
    """
    bench = bench_of(study)
    if name.label == IN_CONTEXT:
        return _in_context(study, bench, progress)
    if name.label in REFERENCES:
        card = (
            bench.base_card
            if name.label == "base"
            else bench.card(bench.model(name.label), progress)
        )
        return {"status": "done", "scores": card.to_json()["scores"]}
    facts = to_trace(bench.base, study.request, bench.request.forget, progress=progress)
    chosen = place(
        *(name.place, bench.base, facts, bench.parameters),
        others=bench.request.retain,
        most=study.traced,
        seed=name.seed,
        progress=progress,
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


def _in_context(study: Study, bench: Bench, progress: Progress) -> dict[str, Any]:
    """Measure the base with a text before each prompt that asks it to forget."""
    config = InContextConfig(seed=study.seeds[0])
    with metered(bench.base) as cost:
        found = in_context(bench.base, bench.request, config, progress=progress)
    asked = with_context(bench.request, bench.base, found.text)
    card = measure(bench.base, asked, neutral=bench.neutral, limit=study.limit, progress=progress)
    return {
        "status": "done",
        "scores": card.to_json()["scores"],
        "cost": asdict(cost),
        "note": f"Changes no weights: {found.n_tokens} tokens before each prompt "
        f"({found.context}); who leaves them out has the base.",
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
    with as_first(), metered(bench.base) as cost:  # each candidate costs what it costs by itself
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
    model = bench.model(name.label)
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
