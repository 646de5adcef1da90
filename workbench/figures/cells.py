"""A localization as cells that can be clicked: the heatmaps, with a marker on each cell.

A heatmap tells a browser page nothing about what is selected on it, markers do. Each marker carries
its cell (kind, layer, head, token role), which `cells_of` reads back from a selection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plotly import graph_objects as go

from workbench.facts.prompts import PICTURE
from workbench.figures.grids import Grid, grid_of, grids_of, head_grid, roles_of
from workbench.figures.theme import kind_label, style
from workbench.figures.traces import axes, height, panels
from workbench.localize.localization import Localization

_WIDTH = 860  # pixels of all panels on a small screen


@dataclass(frozen=True, order=True)
class CellName:
    """One cell of a localization.

    Attributes:
        kind: resid, mlp, attn or head.
        layer: block number.
        index: head number; -1 where there is none.
        role: token role.
    """

    kind: str
    layer: int
    index: int
    role: str


def cell_panels(
    localization: Localization,
    *,
    title: str,
    kinds: Sequence[str] | None = None,
    limit: float | None = None,
) -> go.Figure:
    """Draw every kind of cells side by side on one colour scale, symmetric about 0.

    Args:
        localization: what to draw.
        title: of the figure.
        kinds: panels to draw; by default all but heads.
        limit: end of the colour scale, to share it with another figure.
    """
    grids = [grid_of(localization, kind) for kind in kinds] if kinds else grids_of(localization)
    figure = panels(grids)
    for i, grid in enumerate(grids, start=1):
        names = [
            [CellName(grid.kind, layer, -1, role) for layer in grid.layers]
            for role in roles_of(localization, grid.kind)
        ]
        for trace in _squares(grid, names, len(grids)):
            figure.add_trace(trace, row=1, col=i)
        layers = [str(layer) for layer in grid.layers]
        figure.update_xaxes(categoryorder="array", categoryarray=layers, row=1, col=i)
        figure.update_yaxes(categoryorder="array", categoryarray=list(grid.rows), row=1, col=i)
    return _finish(figure, grids, title, limit)


def head_cells(localization: Localization, role: str, *, limit: float | None = None) -> go.Figure:
    """Draw heads against layers at one token role.

    Raises:
        WorkbenchError: the localization did not score heads at that role.
    """
    grid = head_grid(localization, role)
    names = [
        [CellName("head", layer, int(row.removeprefix("head ")), role) for layer in grid.layers]
        for row in grid.rows
    ]
    figure = go.Figure(_squares(grid, names, 1))
    place = role if role == PICTURE else f"{role} token"
    return _finish(figure, [grid], f"Heads at the {place}", limit)


def _finish(figure: go.Figure, grids: Sequence[Grid], title: str, limit: float | None) -> go.Figure:
    axes(figure, grids, limit)
    figure.update_xaxes(automargin=True)
    figure.update_layout(showlegend=False)
    return style(figure, title=title, height=height(grids))


def _squares(
    grid: Grid, names: Sequence[Sequence[CellName]], panels: int
) -> list[go.Heatmap | go.Scatter]:
    """Draw the cells, and a marker on each; `names` has the shape of the grid."""
    xs, ys, colours, cells = [], [], [], []
    for r, row in enumerate(grid.rows):
        for c, layer in enumerate(grid.layers):
            name = names[r][c]
            xs.append(str(layer))
            ys.append(row)
            colours.append(float(grid.score[r, c]))
            error = float(grid.stderr[r, c])
            cells.append([name.kind, name.layer, name.index, name.role, error])
    size = max(8, min(24, 0.9 * _WIDTH / panels / max(len(grid.layers), 1)))
    # The heatmap fits its cells to the page; what can be clicked are the unseen markers on it.
    unseen = {"marker": {"opacity": 0}}
    return [
        go.Heatmap(
            z=grid.score,
            x=[str(layer) for layer in grid.layers],
            y=list(grid.rows),
            coloraxis="coloraxis",
            xgap=2,
            ygap=2,
            hoverinfo="skip",
        ),
        go.Scatter(
            x=xs,
            y=ys,
            mode="markers",
            marker={"symbol": "square", "size": size, "color": colours, "opacity": 0},
            customdata=cells,
            hovertemplate=(
                f"{kind_label(grid.kind)}<br>layer %{{x}}, %{{y}}<br><b>%{{marker.color:.3f}}</b> "
                "± %{customdata[4]:.3f} (standard error)<extra></extra>"
            ),
            selected=unseen,
            unselected=unseen,
        ),
    ]


def cells_of(event: Mapping[str, Any] | None) -> tuple[CellName, ...]:
    """Read the selected cells from a chart's event; none if nothing is selected."""
    points = ((event or {}).get("selection") or {}).get("points") or []
    found = [point.get("customdata") for point in points]
    return tuple(
        CellName(str(d[0]), int(d[1]), int(d[2]), str(d[3])) for d in found if d and len(d) >= 4
    )
