"""Cells as markers: each carries its own name, its number and its place."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from plotly import graph_objects as go

from workbench.errors import WorkbenchError
from workbench.figures.cells import CellName, cell_panels, cells_of, head_cells
from workbench.figures.grids import head_grid, roles_of
from workbench.localize.localization import COLUMNS, Localization

ROLES = ("first subject", "last subject", "last")


def found(rows: list[tuple[object, ...]]) -> Localization:
    return Localization("causal_tracing", pd.DataFrame(rows, columns=list(COLUMNS)), 0.9, 0.1, 5)


def by_role() -> Localization:
    """Scores that name their own place; the roles stand in no order."""
    rows: list[tuple[object, ...]] = [
        (kind, layer, -1, role, -1, "", sign * (layer + ROLES.index(role) / 10), layer / 100, 5)
        for kind, sign in (("resid", 1), ("mlp", -1))
        for role in ROLES[::-1]
        for layer in (2, 0, 1)
    ]
    return found([*rows, *heads()])


def heads(which: tuple[int, ...] = (0, 1)) -> list[tuple[object, ...]]:
    return [
        ("head", layer, head, role, -1, "", head + layer / 10 + at, 0.5, 5)
        for layer in range(3)
        for head in which
        for role, at in (("last subject", 0.01), ("last", 0.02))
    ]


def by_position() -> Localization:
    tokens = (("Ada", "first subject"), (" B", "middle subject"), (" C", "middle subject"))
    return found(
        [
            ("resid", layer, -1, role, i, token, layer - i / 10, 0.0, 1)
            for layer in range(2)
            for i, (token, role) in enumerate(tokens)
        ]
    )


def marks(trace: go.Scatter) -> list[tuple[CellName, str, str, float, float]]:
    """Read each marker's cell, place, colour and standard error as the browser gets them."""
    data = json.loads(go.Figure(trace).to_json())["data"][0]
    colours = trace.marker.color
    event = [{"selection": {"points": [{"customdata": d}]}} for d in data["customdata"]]
    return [
        (cells_of(e)[0], x, y, c, d[4])
        for e, x, y, c, d in zip(event, trace.x, trace.y, colours, data["customdata"], strict=True)
    ]


def markers(figure: go.Figure) -> list[go.Scatter]:
    return [t for t in figure.data if t.type == "scatter"]


def pictures(figure: go.Figure) -> list[go.Heatmap]:
    return [t for t in figure.data if t.type == "heatmap"]


def test_every_marker_shows_its_own_cells_score() -> None:
    where = by_role()
    figure = cell_panels(where, title="t")
    assert len(pictures(figure)) == 2  # heads have a picture of their own
    seen = [m for trace in markers(figure) for m in marks(trace)]
    assert len({cell for cell, *_ in seen}) == len(seen) == 18
    table = where.table.set_index(["kind", "layer", "index", "role"])
    for cell, x, y, colour, error in seen:
        row = table.loc[(cell.kind, cell.layer, cell.index, cell.role)]
        assert (x, y) == (str(cell.layer), cell.role)
        assert (colour, error) == (row["score"], row["stderr"])
    for trace, picture in zip(markers(figure), pictures(figure), strict=True):
        colours = {(x, y): c for _, x, y, c, _ in marks(trace)}
        for y, row in zip(picture.y, picture.z, strict=True):
            assert [colours[x, y] for x in picture.x] == list(row)


def test_axes_are_in_order_and_one_scale_serves_all_panels() -> None:
    figure = cell_panels(by_role(), title="t")
    assert list(figure.layout.yaxis.categoryarray) == list(ROLES)
    assert list(figure.layout.xaxis.categoryarray) == ["0", "1", "2"]
    scale = figure.layout.coloraxis
    assert scale.cmax == -scale.cmin == pytest.approx(2.2)
    assert {t.coloraxis for t in pictures(figure)} == {"coloraxis"}
    shared = cell_panels(by_role(), title="t", limit=5.0).layout.coloraxis
    assert (shared.cmin, shared.cmax) == (-5.0, 5.0)


def test_panels_that_are_asked_for() -> None:
    (trace,) = markers(cell_panels(by_role(), title="t", kinds=["mlp"]))
    assert {cell.kind for cell, *_ in marks(trace)} == {"mlp"}
    with pytest.raises(WorkbenchError, match="did not score 'attn'"):
        cell_panels(by_role(), title="t", kinds=["attn"])


def test_a_single_facts_rows_are_tokens_with_their_roles() -> None:
    where = by_position()
    assert roles_of(where, "resid") == ("first subject", "middle subject", "middle subject")
    (trace,) = markers(cell_panels(where, title="t"))
    seen = {(y, cell.role, cell.layer): colour for cell, _, y, colour, _ in marks(trace)}
    assert len(seen) == 6
    assert seen["2 C", "middle subject", 1] == pytest.approx(0.8)
    assert seen["1 B", "middle subject", 0] == pytest.approx(-0.1)


def test_roles_are_the_rows_of_the_grid() -> None:
    assert roles_of(by_role(), "mlp") == ROLES
    assert roles_of(by_role(), "head") == ("last subject", "last")
    with pytest.raises(WorkbenchError, match="did not score"):
        roles_of(by_role(), "attn")


def test_heads_at_one_role_by_hand() -> None:
    grid = head_grid(by_role(), "last subject")
    assert (grid.kind, grid.rows, grid.layers) == ("head", ("head 0", "head 1"), (0, 1, 2))
    expected = [[0.01, 0.11, 0.21], [1.01, 1.11, 1.21]]
    assert grid.score.tolist() == [pytest.approx(row) for row in expected]
    assert grid.stderr.tolist() == [[0.5] * 3] * 2


@pytest.mark.parametrize("which", [(0, 1), (1, 3)])
def test_every_head_carries_its_own_number(which: tuple[int, ...]) -> None:
    figure = head_cells(found(heads(which)), "last")
    seen = marks(markers(figure)[0])
    assert len(seen) == 6 and "last token" in figure.layout.title.text
    for cell, x, y, colour, _ in seen:
        assert (cell.kind, cell.role) == ("head", "last")
        assert (x, y) == (str(cell.layer), f"head {cell.index}")
        assert colour == pytest.approx(cell.index + cell.layer / 10 + 0.02)
    assert {cell.index for cell, *_ in seen} == set(which)


def test_heads_that_were_not_scored_are_sentences() -> None:
    with pytest.raises(WorkbenchError, match="did not score heads"):
        head_cells(by_position(), "last")
    with pytest.raises(WorkbenchError, match="No head was scored at the role 'further'"):
        head_grid(by_role(), "further")


@pytest.mark.parametrize(
    "event",
    [
        *(None, {}, {"selection": None}, {"selection": {}}, {"selection": {"points": []}}),
        {"selection": {"points": [{"x": 1}, {"customdata": None}, {"customdata": [1, 2]}]}},
    ],
)
def test_events_without_cells(event: dict[str, object] | None) -> None:
    assert cells_of(event) == ()


def test_cells_of_an_event_keep_their_order() -> None:
    points = [{"customdata": ["mlp", 2.0, -1.0, "last", 0.1]}, {"customdata": ["head", 1, 3, "x"]}]
    expected = (CellName("mlp", 2, -1, "last"), CellName("head", 1, 3, "x"))
    assert cells_of({"selection": {"points": points}}) == expected
