"""A localization laid out for drawing: token roles (or the tokens of one fact) against layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.errors import WorkbenchError
from workbench.figures.theme import method_label
from workbench.localize.localization import Localization


@dataclass(frozen=True, eq=False)
class Grid:
    """One heatmap's numbers.

    Attributes:
        kind: resid, mlp, attn or head.
        rows: token roles, or the tokens of a single fact, first one on top.
        layers: block numbers, left to right.
        score: rows x layers.
        stderr: standard errors of the same shape.
    """

    kind: str
    rows: tuple[str, ...]
    layers: tuple[int, ...]
    score: np.ndarray
    stderr: np.ndarray

    @property
    def limit(self) -> float:
        """Largest |score|."""
        return float(np.nanmax(np.abs(self.score)))


def grid_of(localization: Localization, kind: str) -> Grid:
    """Lay out one kind of cells.

    Raises:
        WorkbenchError: the localization did not score that kind.
    """
    score = localization.grid(kind)
    stderr = localization.grid(kind, value="stderr")
    rows = tuple(str(c) for c in score.columns)
    if score.columns.name == "position":
        rows = _tokens(localization, kind)
    layers = tuple(int(i) for i in score.index)
    return Grid(kind, rows, layers, score.to_numpy().T, stderr.to_numpy().T)


def grids_of(localization: Localization, kinds: Sequence[str] | None = None) -> list[Grid]:
    """Lay out several kinds; all but heads by default, which have a picture of their own."""
    chosen = kinds or [k for k in localization.kinds if k != "head"] or localization.kinds
    return [grid_of(localization, kind) for kind in chosen]


def common_limit(grids: Sequence[Grid]) -> float:
    """Return the largest |score| of all, so that one colour scale serves them."""
    return max((g.limit for g in grids), default=1.0) or 1.0


def _tokens(localization: Localization, kind: str) -> tuple[str, ...]:
    """Name positions by number and token: the same token may stand there twice."""
    cells = localization.table.query("kind == @kind")
    cells = cells.drop_duplicates("position").sort_values("position")
    texts = (str(t).replace("\n", "⏎").strip() or "␣" for t in cells["token"])
    numbers = (int(p) for p in cells["position"])
    # Below 0 stands what is no single token: the whole picture.
    return tuple(f"{n} {text}" if n >= 0 else text for n, text in zip(numbers, texts, strict=True))


def roles_of(localization: Localization, kind: str) -> tuple[str, ...]:
    """Return the token role of each row of `grid_of`."""
    score = localization.grid(kind)
    if score.columns.name != "position":
        return tuple(str(c) for c in score.columns)
    cells = localization.table.query("kind == @kind").drop_duplicates("position")
    return tuple(str(role) for role in cells.sort_values("position")["role"])


def head_grid(localization: Localization, role: str) -> Grid:
    """Lay out heads against layers at one token role.

    Raises:
        WorkbenchError: the localization did not score heads, or not at that role.
    """
    rows = localization.table.query("kind == 'head'")
    if rows.empty:
        raise WorkbenchError(
            f"{method_label(localization.method)} did not score heads here; run activation or "
            "attribution patching with the kind 'head'."
        )
    rows = rows.query("role == @role")
    if rows.empty:
        raise WorkbenchError(f"No head was scored at the role {role!r}; choose another role.")
    score = rows.pivot_table(index="index", columns="layer", values="score", aggfunc="mean")
    stderr = rows.pivot_table(index="index", columns="layer", values="stderr", aggfunc="mean")
    names = tuple(f"head {i}" for i in score.index)
    layers = tuple(int(c) for c in score.columns)
    return Grid("head", names, layers, score.to_numpy(), stderr.to_numpy())
