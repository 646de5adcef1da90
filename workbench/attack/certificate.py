"""The robustness certificate of an export: what every attack brought back, the worst on top."""

from __future__ import annotations

from typing import Any

from workbench.attack.robustness import Robustness

_KEPT = (
    *("attack", "setting", "n", "value", "low", "high", "chance", "before", "base"),
    *("base_attacked", "oracle_attacked", "recovered", "oracle_recovered", "diagnostic", "note"),
)


def certificate(found: Robustness) -> dict[str, Any]:
    """Return a certificate as plain JSON types.

    Returns:
        request and its fingerprint, seeds by attack, the fingerprints of what was attacked, and
        rows: one an attack, by what it brings back; what could not be measured stands last.
    """
    table = found.table.sort_values(["diagnostic", "recovered"], ascending=[True, False])[
        list(_KEPT)
    ]
    plain = table.astype(object).where(table.notna(), None)
    origin = dict(found.results[0].origin) if found.results else {}
    return {
        "of": origin,
        "seeds": {r.attack: r.config.get("seed") for r in found.results},
        "rows": plain.to_dict("records"),
    }
