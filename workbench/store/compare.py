"""Runs in a line, and two runs against each other: settings and numbers that differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from workbench.errors import WorkbenchError
from workbench.store.run import RunRecord

_SHOWN = ("acc_f", "refusal_f", "replaced_f", "mcq_f", "acc_r")


def numbers(record: RunRecord) -> dict[str, float]:
    """Return a run's numbers by name; none where it wrote none or they cannot be read."""
    out: dict[str, float] = {}
    try:
        if "scores.csv" in record.artefacts:
            table = record.table("scores")
            out |= dict(zip(table["measure"], table["value"].astype(float), strict=True))
        if "edit.json" in record.artefacts:
            out |= dict(_flat(record.json("edit"), numeric=True))
        if "localization.json" in record.artefacts:
            meta = record.json("localization")
            out |= {k: float(meta[k]) for k in ("clean", "corrupted", "n_facts")}
    except (OSError, WorkbenchError, AttributeError, KeyError, TypeError, ValueError):
        return out
    return out


def headline(record: RunRecord) -> str:
    """Return a run's most telling numbers in a few words."""
    found = numbers(record)
    shown = [f"{name} {found[name]:.2f}" for name in _SHOWN if name in found]
    if not shown and "n_facts" in found:
        shown = [f"{found['n_facts']:.0f} facts", f"clean {found['clean']:.2f}"]
    if not shown and "seconds" in found:
        shown = [f"{found.get('parameters_touched', 0):,.0f} parameters"]
    return ", ".join(shown)


def differences(a: RunRecord, b: RunRecord) -> pd.DataFrame:
    """Return what differs: one row a setting or number, as `what`, `first`, `second`."""
    sides = [
        {**{f"setting {k}": v for k, v in _flat(r.config)}, **numbers(r), "kind": r.kind}
        for r in (a, b)
    ]
    names = dict.fromkeys([*sides[0], *sides[1]])
    rows = [
        (name, *(_written(s.get(name)) for s in sides))
        for name in names
        if sides[0].get(name) != sides[1].get(name)
    ]
    return pd.DataFrame(rows, columns=["what", "first", "second"])


def _written(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _flat(
    value: Mapping[str, Any], prefix: str = "", *, numeric: bool = False
) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}.", numeric=numeric)
        elif not numeric:
            yield f"{prefix}{key}", item
        elif isinstance(item, (int, float)) and not isinstance(item, bool):
            yield f"{prefix}{key}", float(item)
