"""A marker a measured row; arrows end where the worst attack leads; curves by hand."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from plotly import graph_objects as go

from workbench.figures.studies import curves, pareto


def row(method: str, place: str, acc_f: float, acc_r: float, **more: Any) -> dict[str, Any]:
    numbers = {"acc_f": acc_f, "acc_r": acc_r}
    ends = {f"{k}_{end}": v for k, v in numbers.items() for end in ("low", "high")}
    rest = {"recovered": math.nan, "after": math.nan, "front": False}
    rest |= {"worst_attack": "", "seeds": 3}
    return {"method": method, "place": place, **numbers, **ends, **rest, **more}


BASE = row("base", "", 0.8, 0.9)
TABLE = pd.DataFrame(
    [
        BASE,
        row(
            *("stamp", "mlp.1", 0.2, 0.7),
            **{"recovered": 0.5, "after": 0.5, "front": True},
            **{"worst_attack": "relearn", "acc_f_low": 0.1},
        ),
        row("stamp", "random", 0.6, 0.3, recovered=-0.2, after=0.6, worst_attack="pruning"),
        row("ga", "mlp.1", 0.0, 0.5, recovered=1.0, after=0.8, worst_attack="relearn"),
        row("ga", "random", math.nan, math.nan),
        row("rmu", "mlp.1", 0.1, math.nan),
    ]
)


def markers(figure: go.Figure) -> dict[str, go.Scatter]:
    return {trace.name: trace for trace in figure.data}


def test_a_marker_for_every_measured_row() -> None:
    seen = markers(pareto(TABLE))
    assert {name: (t.x[0], t.y[0]) for name, t in seen.items()} == {
        "base": (0.8, 0.9),
        "stamp at mlp.1": (0.2, 0.7),
        "stamp at random": (0.6, 0.3),
        "ga at mlp.1": (0.0, 0.5),
    }
    assert all(t.mode == "markers" and len(t.x) == 1 for t in seen.values())


def test_a_method_has_a_colour_and_a_place_a_shape() -> None:
    seen = markers(pareto(TABLE))
    look = {n: (t.marker.color, t.marker.symbol) for n, t in seen.items()}
    assert look["stamp at mlp.1"][0] == look["stamp at random"][0] != look["ga at mlp.1"][0]
    assert look["stamp at mlp.1"][1] == look["ga at mlp.1"][1] != look["stamp at random"][1]


def test_many_methods_and_places_look_different() -> None:
    rows = [row(f"m{i}", f"p{j}", 0.1, 0.1) for i in range(20) for j in range(8)]
    seen = markers(pareto(pd.DataFrame(rows)))
    assert len({(t.marker.color, t.marker.symbol) for t in seen.values()}) == len(rows)


def arrows(figure: go.Figure) -> list[tuple[float, float, float, float]]:
    return [(a.ax, a.ay, a.x, a.y) for a in figure.layout.annotations]


def test_arrows_end_at_the_attacked_accuracy() -> None:
    assert arrows(pareto(TABLE)) == [
        pytest.approx((0.2, 0.7, 0.5, 0.7)),
        pytest.approx((0.0, 0.5, 0.8, 0.5)),
    ]
    for arrow in pareto(TABLE).layout.annotations:
        assert (arrow.xref, arrow.yref, arrow.axref, arrow.ayref) == ("x", "y", "x", "y")


def test_what_another_beats_is_faint_and_what_was_not_attacked_is_not() -> None:
    shown = {name: trace.opacity for name, trace in markers(pareto(TABLE)).items()}
    assert shown["stamp at mlp.1"] == shown["base"] == 1
    assert shown["ga at mlp.1"] == shown["stamp at random"] < 0.5


def test_intervals_and_words_are_the_rows_own() -> None:
    seen = markers(pareto(TABLE))["stamp at mlp.1"]
    assert seen.error_x.arrayminus[0] == pytest.approx(0.1) and seen.error_x.array[0] == 0
    assert "brought back by relearn: 0.50" in seen.hovertemplate and "n = 3" in seen.hovertemplate
    assert "brought back" not in markers(pareto(TABLE))["base"].hovertemplate


def test_curves_by_hand() -> None:
    columns = ["method", "place", "at", "value", "low", "high"]
    lines = pd.DataFrame(
        [
            ("stamp", "mlp.1", 3, 0.2, 0.1, 0.4),
            ("base", "", 3, 1.0, 1.0, 1.0),
            ("stamp", "mlp.1", 6, 0.5, 0.5, 0.6),
        ],
        columns=columns,
    )
    figure = curves(lines, attack="relearn", across="steps")
    stamp, base = figure.data
    assert (stamp.name, base.name) == ("stamp at mlp.1", "base")
    assert (list(stamp.x), list(stamp.y)) == ([3, 6], [0.2, 0.5])
    assert list(stamp.error_y.array) == pytest.approx([0.2, 0.1])
    assert list(stamp.error_y.arrayminus) == pytest.approx([0.1, 0.0])
    assert (stamp.line.dash, base.line.dash) == ("solid", "dash")
    assert figure.layout.xaxis.title.text == "steps" and "relearn" in figure.layout.title.text
