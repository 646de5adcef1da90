"""Figures show the numbers of the results they are given, on honest scales."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.figures.lookups import lens_table, lookup_curves
from workbench.figures.scorecards import scorecard_bars
from workbench.figures.static import trace_svg
from workbench.figures.theme import DIVERGING, colour_of
from workbench.figures.traces import head_heatmap, trace_heatmap, trace_panels
from workbench.localize.fact_lookup import FactLookup
from workbench.localize.localization import COLUMNS, Localization
from workbench.localize.logit_lens import LogitLens
from workbench.measure.scorecard import Scorecard
from workbench.measure.statistics import Score

ROLES = ("first subject", "last subject", "last")


def by_role(kinds: tuple[str, ...] = ("resid", "mlp")) -> Localization:
    """Scores that name their own place: layer + row / 10, negative for MLPs."""
    rows = [
        (kind, layer, -1, role, -1, "", (-1 if kind == "mlp" else 1) * (layer + i / 10), 0.01, 5)
        for kind in kinds
        for layer in range(3)
        for i, role in enumerate(ROLES)
    ]
    return Localization("causal_tracing", pd.DataFrame(rows, columns=list(COLUMNS)), 0.9, 0.1, 5)


def by_position() -> Localization:
    tokens = ("Ada", " <b>", "\n", "Ada")
    rows = [
        ("resid", layer, -1, "further", i, token, layer - i / 10, 0.0, 1)
        for layer in range(2)
        for i, token in enumerate(tokens)
    ]
    return Localization("causal_tracing", pd.DataFrame(rows, columns=list(COLUMNS)), 0.9, 0.1, 1)


def test_heatmap_cells_are_the_tables_scores() -> None:
    found = by_role()
    trace = trace_heatmap(found, "mlp").data[0]
    for i, role in enumerate(ROLES):
        for layer in range(3):
            rows = found.table.query("kind == 'mlp' and layer == @layer and role == @role")
            assert trace.z[i][layer] == rows["score"].iloc[0]
            assert trace.y[i] == role
    assert np.all(np.asarray(trace.customdata) == 0.01)


def test_panels_share_one_scale_symmetric_about_zero() -> None:
    figure = trace_panels(by_role())
    assert [t.coloraxis for t in figure.data] == ["coloraxis", "coloraxis"]
    assert figure.layout.coloraxis.cmax == -figure.layout.coloraxis.cmin == pytest.approx(2.2)
    assert [a.text for a in figure.layout.annotations] == ["Residual stream", "MLP"]


def test_a_single_fact_shows_its_tokens_even_the_same_one_twice() -> None:
    assert list(trace_panels(by_position()).data[0].y) == ["0 Ada", "1 <b>", "2 ⏎", "3 Ada"]


def test_a_kind_that_was_not_scored_is_a_sentence() -> None:
    with pytest.raises(WorkbenchError, match="did not score"):
        trace_heatmap(by_role(), "attn")
    with pytest.raises(WorkbenchError, match="did not score heads"):
        head_heatmap(by_role())


def test_heads_are_drawn_at_the_role_with_the_largest_effect() -> None:
    rows = [
        ("head", layer, head, role, -1, "", score + head / 100 + layer / 1000, 0.0, 3)
        for layer in range(2)
        for head in range(2)
        for role, score in (("last subject", 0.2), ("last", -0.7))
    ]
    found = Localization("x", pd.DataFrame(rows, columns=list(COLUMNS)), 1.0, 0.0, 3)
    figure = head_heatmap(found)
    assert "last token" in figure.layout.title.text
    assert figure.data[0].z[1][1] == pytest.approx(-0.7 + 0.01 + 0.001)
    assert head_heatmap(found, role="last subject").data[0].z[0][0] == pytest.approx(0.2)


def test_svg_has_one_rectangle_a_cell_with_its_number_and_colour() -> None:
    found = by_role()
    root = ET.fromstring(trace_svg(found))
    space = {"s": "http://www.w3.org/2000/svg"}
    cells = [
        r
        for r in root.iter("{http://www.w3.org/2000/svg}rect")
        if r.find("s:title", space) is not None
    ]
    assert len(cells) == len(found.table)
    tips = {c.find("s:title", space).text: c.get("fill") for c in cells}  # type: ignore[union-attr]
    assert tips["MLP, layer 2, last: -2.200 ± 0.010"] == DIVERGING[0]
    assert tips["Residual stream, layer 2, last: 2.200 ± 0.010"] == DIVERGING[-1]


def test_svg_escapes_tokens() -> None:
    text = trace_svg(by_position())
    ET.fromstring(text)
    assert "<b>" not in text and "&lt;b&gt;" in text


@pytest.mark.parametrize(("value", "i"), [(-1, 0), (-9, 0), (-0.5, 1), (0, 2), (0.5, 3), (1, 4)])
def test_colours_are_those_of_the_scale(value: float, i: int) -> None:
    assert colour_of(value, 1.0) == DIVERGING[i]


def card(**scores: Score | None) -> Scorecard:
    return Scorecard("m", "", "r", "", scores, pd.DataFrame())


def test_bars_show_intervals_and_leave_out_what_was_not_measured() -> None:
    before = card(acc_f=Score(1.0, 8, 0.63, 1.0), acc_r=Score(0.9, 20, 0.8, 0.95), mcq_f=None)
    after = card(acc_f=Score(0.0, 8, 0.0, 0.37), acc_r=Score(0.9, 20, 0.8, 0.95), mcq_f=None)
    old, new = scorecard_bars(before, after).data
    assert list(old.y) == list(new.y) == ["Forgotten facts answered", "Kept facts answered"]
    assert list(new.x) == [0.0, 0.9]
    assert list(new.error_x.array) == pytest.approx([0.37, 0.05])
    assert list(old.error_x.arrayminus) == pytest.approx([0.37, 0.1])


def test_lookup_curves_and_shaded_layers() -> None:
    lookup = FactLookup((0.2, 0.6, 0.9), (0.3, 0.9, 0.9), (0.2, 0.2, 0.8), 2, 0.2, (1,), by_role())
    figure = lookup_curves(lookup)
    assert [list(t.y) for t in figure.data] == [[0.2, 0.6, 0.9], [0.3, 0.9, 0.9], [0.2, 0.2, 0.8]]
    spans = [(s.x0, s.x1) for s in figure.layout.shapes if s.type == "rect"]
    assert spans == [(0.5, 1.5)]


def test_lens_table_shows_the_best_token_and_lists_the_others() -> None:
    top = ((((" a", " b")), (" <i>", " d")),)
    lens = LogitLens(("x", "y"), top, torch.tensor([[[0.6, 0.1], [0.5, 0.2]]]))  # type: ignore[arg-type]
    trace = lens_table(lens).data[0]
    assert [list(row) for row in trace.text] == [["a", "<i>"]]
    assert trace.z[0][1] == pytest.approx(0.5)
    assert re.search(r"&lt;i&gt; 0\.500<br>d 0\.200", trace.customdata[0][1])
