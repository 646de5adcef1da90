"""A study's results as tables: one row a method and place, paired differences, curves.

Means are over seeds, with percentile-bootstrap intervals over seeds (they say nothing about other
facts; the scorecards' own intervals do). Differences against the random control are paired by seed:
the same method at a random place with the same seed. Their p-values are of an exact sign-flip test
(Fisher 1935) with Holm's correction (1979) over all differences of one measure; with n seeds the
smallest possible p is 2 / 2^n, so few seeds can show no significance, however large a difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from workbench.attack.attack import MEASURES, AttackResult
from workbench.attack.robustness import Robustness
from workbench.compare.cell import CellName
from workbench.compare.places import is_random
from workbench.compare.runner import Task
from workbench.compare.study import REFERENCES, Study
from workbench.measure.measures import PICTURED
from workbench.measure.statistics import score

SCORES = (
    *("acc_f", "paraphrase_f", "statement_f", "held_out_f", "mcq_f", "refusal_f", "replaced_f"),
    *("acc_r", "statement_r", "mcq_r", "perplexity", "rouge_l_f", "rouge_l_r"),
    *PICTURED,
)
COSTS = ("cpu_seconds", "forward_tokens", "backward_tokens")
ROBUST = ("recovered", "oracle_recovered")
NUMBERS = (*SCORES, *ROBUST, "parameters", *COSTS)

COMPARED = ("acc_f", "mcq_f", "acc_r", "recovered")
_WHO = ("method", "place", "seed", "attack", "setting")  # first columns of the attacks' table


def numbers_in(cells: pd.DataFrame) -> list[str]:
    """Return what of `NUMBERS` there is for some cells; of pictures only where some are shown."""
    return [name for name in NUMBERS if name not in PICTURED or name in cells]


@dataclass(frozen=True, eq=False)
class StudyResult:
    """What a study has given so far.

    Attributes:
        study: what was run.
        cells: one row a cell: method, place, seed, status, numbers, worst attack, settings, run,
            and why it failed.
        attacks: one row a cell, attack and setting, as in `AttackResult.cells`.
    """

    study: Study
    cells: pd.DataFrame
    attacks: pd.DataFrame

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types, the attacks' single settings left out."""
        return {
            "study": self.study.model_dump(mode="json"),
            "table": _plain(self.table),
            "cells": _plain(self.cells),
            "differences": _plain(self.differences),
        }

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a method and place: n seeds, and mean, low and high of every number.

        `after` is what the worst attack leaves of `acc_f`, in what the base answers; `front` says
        that no other row both gives less back after it and keeps more.
        """
        rows = []
        for (method, where), part in self.cells.groupby(["method", "place"], sort=False):
            done = part[part["status"] == "done"]
            row: dict[str, Any] = {"method": method, "place": where, "seeds": len(done)}
            for name in numbers_in(self.cells):
                found = score(done[name].dropna().tolist()) if name in done else None
                row[name] = found.value if found else math.nan
                row[f"{name}_low"] = found.low if found else math.nan
                row[f"{name}_high"] = found.high if found else math.nan
            worst = done.loc[done["worst_attack"] != "", "worst_attack"].value_counts()
            row["worst_attack"] = worst.index[0] if len(worst) else ""
            row["over_drop"] = int((done["within"] == False).sum())  # noqa: E712
            failed = part[part["status"] == "failed"]
            row["failed"] = len(failed)
            missing = part.loc[part["status"] == "missing", "seed"].tolist()
            notes = [*failed["error"], *done["error"], _not_run(missing, str(where))]
            row["note"] = next(filter(None, notes), "")
            rows.append(row)
        table = pd.DataFrame(rows)
        known = table.loc[table["method"] == "base", "acc_f"].dropna().tolist()
        whole = known[0] if known else 1.0
        back = table["recovered"].clip(lower=0)
        table["after"] = table["acc_f"] + (whole - table["acc_f"]) * back
        table["front"] = _front(table)
        return table

    @cached_property
    def differences(self) -> pd.DataFrame:
        """One row a method, place and measure: its difference from the method's random control."""
        rows = []
        done = self.cells[self.cells["status"] == "done"]
        for method, part in done.groupby("method", sort=False):
            controls = {w: p.set_index("seed") for w, p in part.groupby("place") if is_random(w)}
            for where, own in part.groupby("place", sort=False):
                if is_random(str(where)):
                    continue
                for control, theirs in controls.items():
                    for name in COMPARED:
                        rows.append(
                            {
                                "method": method,
                                "place": where,
                                "control": control,
                                "measure": name,
                                **_paired(own.set_index("seed")[name], theirs[name]),
                            }
                        )
        table = pd.DataFrame(
            rows, columns=["method", "place", "control", "measure", "seeds", "difference", "p"]
        )
        table["p_holm"] = math.nan
        for name in COMPARED:
            of = table["measure"] == name
            table.loc[of, "p_holm"] = holm(table.loc[of, "p"].tolist())
        return table


def _not_run(seeds: Sequence[int], where: str) -> str:
    if not seeds:
        return ""
    if not where:  # a reference, which has no seeds
        return "Not run yet."
    return f"Not run yet: seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}."


def _front(table: pd.DataFrame) -> list[bool]:
    """Say of each row whether none is better both in `after` and `acc_r`; references never are."""
    kept = table[~table["method"].isin(REFERENCES)].dropna(subset=["after", "acc_r"])
    better = {
        i: ((kept["after"] <= row["after"]) & (kept["acc_r"] >= row["acc_r"]))
        & ((kept["after"] < row["after"]) | (kept["acc_r"] > row["acc_r"]))
        for i, row in kept.iterrows()
    }
    return [i in better and not better[i].any() for i in table.index]


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.astype(object).where(table.notna(), None).to_dict("records")


def gather(study: Study, tasks: Sequence[Task]) -> StudyResult:
    """Read what a study's tasks have written."""
    cells: dict[CellName, dict[str, Any]] = {}
    results: dict[CellName, list[AttackResult]] = {}
    for task in tasks:
        found = task.result() or {"status": "missing", "error": "It was not run yet."}
        if task.attack is None:
            cells[task.name] = _cell_row(task.name, found)
            continue
        entry = study.attack[task.attack]
        if found["status"] == "done":
            result = AttackResult.from_json(found["result"])
            results.setdefault(task.name, []).append(result)
            if not result.failed:
                continue
            found = {"error": result.failed}
        row = cells[task.name]
        if row["status"] == "done":
            row["error"] = "; ".join(
                filter(None, (row["error"], f"{entry.attack}: {found['error']}"))
            )
    for name, found in results.items():
        cells[name] |= _worst(Robustness(tuple(found)))
    table = pd.DataFrame(list(cells.values()))
    numbers = numbers_in(table)
    columns = ("method", "place", "seed", "status", *numbers, "worst_attack", "worst_setting")
    columns = (*columns, "within", "settings", "components", "run", "error")
    table = table.reindex(columns=list(columns))
    table[numbers] = table[numbers].astype(float)
    attacked = [_curve(name, r) for name, found in results.items() for r in found if not r.failed]
    none = pd.DataFrame(columns=[*_WHO, *MEASURES])
    return StudyResult(study, table, pd.concat(attacked, ignore_index=True) if attacked else none)


def _cell_row(name: CellName, found: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "method": name.label,
        "place": name.place,
        "seed": name.seed,
        "status": found["status"],
        "error": found.get("error", "") or found.get("note", ""),
        "worst_attack": "",
        "worst_setting": "",
    }
    scores = found.get("scores", {})
    row |= {s: scores[s]["value"] for s in SCORES if scores.get(s)}
    row |= {c: found["cost"][c] for c in COSTS} if "cost" in found else {}
    kept = ("components", "parameters", "within", "settings", "run")
    row |= {key: found[key] for key in kept if key in found}
    if found.get("failed"):
        row["error"] = found["failed"]
    return row


def _worst(found: Robustness) -> dict[str, Any]:
    headline = found.headline
    if headline is None:
        return {}
    return {
        "worst_attack": headline["attack"],
        "worst_setting": headline["setting"],
        "recovered": headline["recovered"],
        "oracle_recovered": headline["oracle_recovered"],
    }


def _curve(name: CellName, result: AttackResult) -> pd.DataFrame:
    settings = [{s: row[s] for s in result.settings} for row in result.cells.to_dict("records")]
    written = [", ".join(f"{key}={value}" for key, value in of.items()) for of in settings]
    who = dict(zip(_WHO, (name.label, name.place, name.seed, result.attack, written), strict=True))
    own = result.cells.drop(columns=[c for c in _WHO if c in result.settings])
    return pd.concat([pd.DataFrame(who, index=own.index), own], axis=1)


def along(attacks: pd.DataFrame, attack: str, across: str) -> pd.DataFrame:
    """Return the accuracy under an attack along one of its settings.

    Of the other settings the one that brings most back counts.

    Returns:
        method, place, at, and over seeds the mean value, the smallest (low) and the largest (high);
        in the order of `at`.
    """
    rows = attacks[attacks["attack"] == attack]
    worst = rows.groupby(["method", "place", across, "seed"], sort=False)["value"].max()
    table = worst.groupby(["method", "place", across], sort=False).agg(["mean", "min", "max"])
    table = table.reset_index().set_axis(["method", "place", "at", "value", "low", "high"], axis=1)
    return table.sort_values("at", kind="stable", ignore_index=True)


def _paired(own: pd.Series, control: pd.Series) -> dict[str, Any]:
    shared = [s for s in own.index if s in control.index]
    differences = (own.loc[shared] - control.loc[shared]).dropna().tolist()
    if not differences:
        return {"seeds": 0, "difference": math.nan, "p": math.nan}
    return {
        "seeds": len(differences),
        "difference": float(np.mean(differences)),
        "p": sign_flip(differences),
    }


def sign_flip(differences: Sequence[float]) -> float:
    """Return the exact two-sided p-value of a mean difference of 0.

    Under the null hypothesis each difference is as likely with the other sign: p is the share of
    all sign patterns whose |sum| is at least the one seen.
    """
    sums = np.zeros(1)
    for value in differences:
        sums = np.concatenate([sums + value, sums - value])
    return float((np.abs(sums) >= abs(sum(differences)) - 1e-12).mean())


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values; NaN stays NaN and counts for nothing."""
    order = sorted((i for i, x in enumerate(p) if not math.isnan(x)), key=lambda i: p[i])
    out = [math.nan] * len(p)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min((len(order) - rank) * p[i], 1.0))
        out[i] = largest
    return out
