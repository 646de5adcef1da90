"""Several attacks on one edited model, with its base and an oracle: what is the worst?

The oracle (a model trained without the facts) goes through the same attacks. Plain answers and the
base's and the oracle's cells are kept, so that many edits of one base are attacked for the cost of
the edited models alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.attack.asking import ask_plainly
from workbench.attack.attack import (
    EXAMPLES,
    MEASURES,
    AttackResult,
    Cell,
    Plain,
    cell_row,
    example_rows,
)
from workbench.attack.registry import attack_named, attacks_for, make_config
from workbench.errors import WorkbenchError
from workbench.facts.fact import Request
from workbench.facts.readers import parse_json, read_text
from workbench.models.atomic import write_json
from workbench.models.model import Model
from workbench.progress import SILENT, Progress
from workbench.recent import remember

FORMAT = "workbench-robustness-1"
_EXAMPLES = 4  # answers shown of each cell
_KEPT: dict[tuple[Any, ...], Any] = {}  # plain answers and cells of bases and oracles
_MOST_KEPT = 128
_FIRST, _LAST = ("attack", "setting"), ("oracle_worst", "cells", "diagnostic", "seconds")


@dataclass(frozen=True, eq=False)
class Robustness:
    """What several attacks brought back.

    Attributes:
        results: one an attack, in the order they ran.
    """

    results: tuple[AttackResult, ...]

    @property
    def table(self) -> pd.DataFrame:
        """One row an attack: its worst cell, the oracle's largest recovery, or why it failed."""
        rows = [_attack_row(result) for result in self.results]
        columns = [*_FIRST, *(m for m in MEASURES if m != "note"), *_LAST, "note"]
        return pd.DataFrame(rows, columns=columns)

    @property
    def headline(self) -> pd.Series | None:
        """The row of the attack that brings most back; see `headline`."""
        return headline(self)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"format": FORMAT, "results": [r.to_json() for r in self.results]}

    @staticmethod
    def from_json(data: Any) -> Robustness:
        """Read what `to_json` wrote.

        Raises:
            WorkbenchError: it is not of this format, or a result in it is damaged.
        """
        results = data.get("results") if isinstance(data, Mapping) else None
        if not isinstance(results, list) or data.get("format") != FORMAT:
            raise WorkbenchError(
                "These are no results of attacks that this workbench wrote; attack again."
            )
        return Robustness(tuple(AttackResult.from_json(r) for r in results))

    def save(self, path: str | Path) -> None:
        """Write a JSON file."""
        write_json(Path(path), self.to_json())

    @staticmethod
    def load(path: str | Path) -> Robustness:
        """Read what `save` wrote.

        Raises:
            WorkbenchError: there is no such file, or it holds no results of attacks.
        """
        return Robustness.from_json(parse_json(read_text(Path(path)), str(path)))


def headline(results: Robustness) -> pd.Series | None:
    """Return the row of the attack that brings most back, diagnostics left out.

    None if no attack could be measured: that is no sign of robustness.
    """
    table = results.table
    measured = table[~table["diagnostic"].astype(bool)]["recovered"].dropna()
    return None if measured.empty else table.loc[measured.idxmax()]


def robustness(
    model: Model,
    request: Request,
    base: Model,
    oracle: Model | None = None,
    *,
    names: Iterable[str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Robustness:
    """Run attacks on an edited model, its base and an oracle.

    An attack that cannot run is a result with its reason, not a number.

    Args:
        model: the edited model.
        request: what was to be forgotten.
        base: the model before the edit.
        oracle: a model that never learned the facts, if there is one.
        names: which attacks; default all that there are for the request.
        settings: settings by attack.
        seed: of every draw, where an attack's settings give none.
        progress: where to report.

    Raises:
        WorkbenchError: an unknown attack or setting.
        Cancelled: the caller's progress asked to stop.
    """
    chosen = list(dict.fromkeys(attacks_for(request) if names is None else names))
    given = dict(settings or {})
    for name in (*chosen, *given):
        attack_named(name)
    configs = {n: make_config(n, {"seed": seed, **given.get(n, {})}) for n in chosen}
    before = ask_plainly(model, request, progress=progress)
    of_base = _plain(base, request, progress)
    results = []
    for name, config in progress.track(configs.items(), "attacks"):
        runs = _Runs(name, config, request, base, progress)
        results.append(_attack(runs, model, oracle, before, of_base))
    return Robustness(tuple(results))


@dataclass(frozen=True)
class _Runs:
    """One attack, ready to run on any model."""

    name: str
    config: Any
    request: Request
    base: Model
    progress: Progress

    def on(self, model: Model) -> tuple[Cell, ...]:
        run = attack_named(self.name).run
        return run(model, self.request, self.config, base=self.base, progress=self.progress)

    def kept(self, model: Model) -> Mapping[tuple[Any, ...], Cell]:
        """Return the cells of a base or an oracle by their settings."""
        who = (model.fingerprint, self.base.fingerprint, self.request.fingerprint)
        key = (self.name, repr(self.config), *who)
        cells = remember(_KEPT, key, lambda: self.on(model), most=_MOST_KEPT)
        return {tuple(cell.setting.items()): cell for cell in cells}


def _plain(model: Model, request: Request, progress: Progress) -> Plain:
    key = ("plain", model.fingerprint, request.fingerprint)
    make = partial(ask_plainly, model, request, progress=progress)
    return remember(_KEPT, key, make, most=_MOST_KEPT)


def _attack(
    runs: _Runs, model: Model, oracle: Model | None, before: Plain, of_base: Plain
) -> AttackResult:
    """Run one attack on all models and put the numbers side by side."""
    start = time.perf_counter()
    request, base = runs.request, runs.base
    rows: list[dict[str, Any]] = []
    examples: list[dict[str, Any]] = []
    failed = ""
    try:
        cells = runs.on(model)
        on_base = runs.kept(base)
        on_oracle = runs.kept(oracle) if oracle else {}
        for cell in cells:
            at = tuple(cell.setting.items())
            pair = (on_base.get(at), on_oracle.get(at))
            rows.append(cell_row(cell, *pair, before, of_base, runs.config.seed))
            examples += example_rows(cell, before, _EXAMPLES)
    except WorkbenchError as error:
        failed, rows, examples = str(error), [], []
    names = list(rows[0])[: -len(MEASURES)] if rows else []
    origin = {"model": model, "base": base, **({"oracle": oracle} if oracle else {})}
    return AttackResult(
        runs.name,
        {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(runs.config).items()},
        pd.DataFrame(rows, columns=[*names, *MEASURES]),
        pd.DataFrame(examples, columns=[*names, *EXAMPLES]),
        {
            **{who: m.name for who, m in origin.items()},
            **{f"{who}_fingerprint": m.fingerprint for who, m in origin.items()},
            "request": request.name,
            "request_fingerprint": request.fingerprint,
        },
        time.perf_counter() - start,
        failed,
        attack_named(runs.name).diagnostic,
    )


def _attack_row(result: AttackResult) -> dict[str, Any]:
    """Sum an attack up by its worst cell."""
    worst = result.worst
    cells = result.cells
    oracle = cells["oracle_recovered"].astype(float).max()
    row: dict[str, Any] = {
        "attack": result.attack,
        "setting": "",
        **dict.fromkeys(MEASURES, math.nan),
        "oracle_worst": oracle,
        "cells": len(cells),
        "diagnostic": result.diagnostic,
        "seconds": result.seconds,
        "note": result.failed,
    }
    if worst is not None:
        row |= {m: worst[m] for m in MEASURES}
        row["setting"] = ", ".join(f"{name}={worst[name]}" for name in result.settings)
    elif not result.failed:
        row["note"] = next((n for n in cells["note"] if n), "The attack asked nothing.")
    return row
