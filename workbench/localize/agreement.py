"""Do two localizations agree? Rank correlation of their cells, and overlap of their best ones.

    spearman = Pearson correlation of the ranks;  overlap = |top_k(a) and top_k(b)| / k

Attribution is an estimate; this is how it is held against exact patching.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from workbench.errors import WorkbenchError
from workbench.localize.localization import Localization

_CELL = ["kind", "layer", "index", "role", "position"]


@dataclass(frozen=True)
class Agreement:
    """How far two localizations agree on cells of one kind.

    Attributes:
        spearman: rank correlation of the scores; NaN where one of them is constant.
        overlap: share of the k cells with the largest |score| that both name.
        n: cells that both scored.
    """

    spearman: float
    overlap: float
    n: int


def agreement(a: Localization, b: Localization, kind: str, top_k: int = 10) -> Agreement:
    """Compare the scores of two localizations, cell by cell.

    Args:
        a: one localization.
        b: the other, of the same model and facts.
        kind: resid, mlp, attn or head.
        top_k: how many best cells to compare; at most as many as there are.

    Raises:
        WorkbenchError: fewer than two cells were scored by both.
    """
    both = _side_by_side(a, b, kind)
    if len(both) < 2:
        raise WorkbenchError(
            f"{a.method} and {b.method} have no two cells of kind {kind!r} in common; localize the "
            "same facts with the same kinds."
        )
    k = max(1, min(top_k, len(both)))
    best = [set(both[s].abs().nlargest(k).index) for s in ("score_a", "score_b")]
    ranks = both[["score_a", "score_b"]].rank()
    spearman = float(ranks["score_a"].corr(ranks["score_b"]))
    return Agreement(spearman, len(best[0] & best[1]) / k, len(both))


def _side_by_side(a: Localization, b: Localization, kind: str) -> pd.DataFrame:
    rows = [t[t["kind"] == kind][[*_CELL, "score"]] for t in (a.table, b.table)]
    return rows[0].merge(rows[1], on=_CELL, suffixes=("_a", "_b"))
