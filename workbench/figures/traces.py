"""Heatmaps of a localization: how much of the answer passes through each place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.grids import Grid, common_limit, grid_of, grids_of, head_grid
from workbench.figures.theme import INK, effect_axis, kind_label, method_label, style
from workbench.localize.localization import Localization

_ROW = 30  # pixels


def trace_heatmap(
    localization: Localization, kind: str, *, limit: float | None = None
) -> go.Figure:
    """Draw token roles (or tokens) against layers for one kind of cells.

    Args:
        localization: what to draw.
        kind: resid, mlp, attn or head (heads are summed).
        limit: end of the colour scale, to share it with another figure.

    Raises:
        WorkbenchError: the localization did not score that kind.
    """
    grid = grid_of(localization, kind)
    figure = go.Figure(_heatmap(grid))
    axes(figure, [grid], limit)
    title = f"{_title(localization)}: {kind_label(kind)}"
    return style(figure, title=title, height=height([grid]))


def trace_panels(localization: Localization, *, limit: float | None = None) -> go.Figure:
    """Draw every kind of cells side by side on one colour scale, symmetric about 0."""
    grids = grids_of(localization)
    figure = panels(grids)
    for i, grid in enumerate(grids, start=1):
        figure.add_trace(_heatmap(grid), row=1, col=i)
    axes(figure, grids, limit)
    return style(figure, title=_title(localization), height=height(grids))


def head_heatmap(
    localization: Localization, *, role: str | None = None, limit: float | None = None
) -> go.Figure:
    """Draw heads against layers at one token role; by default the one with the largest effect.

    Raises:
        WorkbenchError: the localization did not score heads, or not at that role.
    """
    heads = localization.table.query("kind == 'head'")
    best = "" if heads.empty else str(heads.loc[heads["score"].abs().idxmax(), "role"])
    chosen = role or best
    grid = head_grid(localization, chosen)
    figure = go.Figure(_heatmap(grid))
    axes(figure, [grid], limit)
    title = f"{_title(localization)}: heads at the {chosen} token"
    return style(figure, title=title, height=height([grid]))


def _title(localization: Localization) -> str:
    n = localization.n_facts
    facts = "one fact" if n == 1 else f"{n} facts"
    return f"{method_label(localization.method)}, share of the answer brought back, {facts}"


def _heatmap(grid: Grid) -> go.Heatmap:
    return go.Heatmap(
        z=grid.score,
        x=[str(layer) for layer in grid.layers],
        y=list(grid.rows),
        customdata=np.nan_to_num(grid.stderr),
        coloraxis="coloraxis",
        xgap=1,
        ygap=1,
        hovertemplate=(
            f"{kind_label(grid.kind)}<br>layer %{{x}}, %{{y}}"
            "<br><b>%{z:.3f}</b> ± %{customdata:.3f} (standard error)<extra></extra>"
        ),
    )


def panels(grids: Sequence[Grid]) -> go.Figure:
    """Begin a figure with one panel a grid, side by side."""
    figure = make_subplots(
        cols=len(grids),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=[kind_label(g.kind) for g in grids],
    )
    return figure.update_annotations(font={"size": 13, "color": INK})


def axes(figure: go.Figure, grids: Sequence[Grid], limit: float | None) -> None:
    """Lay layers out from left to right and rows downwards, on one symmetric colour scale."""
    end = limit or common_limit(grids)
    figure.update_xaxes(title_text="layer", type="category", showgrid=False, zeroline=False)
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False, automargin=True)
    figure.update_layout(coloraxis=effect_axis(end))


def height(grids: Sequence[Grid]) -> int:
    """Return the pixels that the rows need."""
    return 150 + _ROW * max(len(g.rows) for g in grids)
