"""A study that a tiny model runs in a second, and results of one that are written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from tiny_files import request_file, tiny_folder

from workbench.attack.attack import MEASURES, AttackResult
from workbench.compare.cell import CellName, cells_of
from workbench.compare.runner import Task
from workbench.compare.study import Study, make_study
from workbench.models import load as loading
from workbench.models.atomic import write_json

load = cache(loading.load)  # for tests that make many benches
SIZES = {"counterparts": 3, "confusable": 20, "named": 4, "context": 4, "generations": 2}
STAMP = {**SIZES, "strength": 100}  # a random model needs a lot to answer something else
METHOD: dict[str, Any] = {
    "method": "stamp",
    "places": ["mlp.0", "random"],
    "settings": STAMP,
    "search": {"weight": [10, 1000]},
}
ROUNDING: dict[str, Any] = {"attack": "quantization", "settings": {"bits": [8]}}


def small_study(folder: Path, **more: Any) -> Study:
    """A study of the tiny checkpoint, its request written into a folder."""
    study = {
        "name": "small",
        "model": str(tiny_folder()),
        "request": str(request_file(folder)),
        "budget": "mlp.0",
        "limit": 2,
        "method": [METHOD],
        "attack": [ROUNDING],
    }
    return make_study({**study, **more})


def plain_study(**more: Any) -> Study:
    """A study that is never run."""
    study = {
        "name": "by hand",
        "request": "athletes-1",
        "seeds": [0, 1, 2],
        "budget": "mlp.0-3",
        "method": [{"method": "stamp", "places": ["mlp.1", "random"]}],
    }
    return make_study({**study, **more})


def scored(**values: float) -> dict[str, Any]:
    """The result of a cell with these scores."""
    scores = {k: {"value": v, "n": 4, "low": v, "high": v} for k, v in values.items()}
    return {"status": "done", "kind": "x", "seconds": 1.0, "scores": {**scores, "mcq_r": None}}


def edited(run: str = "run-1", *, within: bool = True, **values: float) -> dict[str, Any]:
    """The result of an edit's cell."""
    cost = {"cpu_seconds": 2.0, "forward_tokens": 30.0, "backward_tokens": 0.0}
    made = {"components": "mlp.1", "parameters": 100, "settings": {"weight": 10}, "run": run}
    return {**scored(**values), **made, "within": within, "cost": cost, "failed": None}


def attacked(
    rows: list[Mapping[str, Any]], attack: str = "quantization", failed: str = ""
) -> dict[str, Any]:
    """The result of an attack, from rows that say what differs from one half."""
    names = [key for key in rows[0] if key not in MEASURES] if rows else []
    full = [{**dict.fromkeys(MEASURES, 0.5), "note": "", **row} for row in rows]
    cells = pd.DataFrame(full, columns=[*names, *MEASURES])
    examples = pd.DataFrame(columns=["subject"])
    result = AttackResult(attack, {}, cells, examples, failed=failed)
    return {"status": "done", "kind": "y", "seconds": 1.0, "result": result.to_json()}


def written(
    study: Study,
    folder: Path,
    cell: Callable[[CellName], dict[str, Any] | None],
    attack: Callable[[CellName, str], dict[str, Any] | None] = lambda name, attack: None,
) -> list[Task]:
    """Write results as a runner does; None for what was not run."""
    tasks = []
    for i, name in enumerate(cells_of(study)):
        parent = folder / f"{i}.json"
        given = [(k, attack(name, entry.attack)) for k, entry in enumerate(study.attack)]
        for k, result in [(None, cell(name)), *given]:
            file = parent if k is None else folder / f"{i}-{k}.json"
            tasks.append(Task(name, k, file, None if k is None else parent))
            if result is not None:
                write_json(file, result)
    return tasks
