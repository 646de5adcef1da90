"""Circuit and reading figures carry the very numbers of their results, and hostile text is text."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.figures.circuits import circuit_graph, node_of, node_places
from workbench.figures.readings import (
    attention_heatmap,
    contribution_bars,
    lens_grid,
    neuron_bars,
    promoted_bars,
)
from workbench.figures.theme import DIVERGING
from workbench.figures.tokens import numbered, visible
from workbench.localize.circuit_graph import EDGE_COLUMNS, Circuit
from workbench.localize.logit_lens import LogitLens
from workbench.localize.readings import (
    AttentionPatterns,
    HeadContributions,
    NeuronContributions,
    PromotedTokens,
)

EDGES = (
    ("embed", "head.0.1", 0.5, 0.05),
    ("head.0.1", "mlp.1", -0.4, 0.04),
    ("embed", "mlp.0", 0.3, 0.03),
    ("mlp.0", "mlp.1", 0.2, 0.02),
    ("mlp.1", "logits", 0.9, 0.09),
)
HOSTILE = ("Ada", " <b>x</b>", "\n", "&amp;\t")


def a_circuit() -> Circuit:
    nodes = ("embed", "head.0.0", "head.0.1", "mlp.0", "head.1.0", "head.1.1", "mlp.1", "logits")
    return Circuit(nodes, pd.DataFrame(EDGES, columns=list(EDGE_COLUMNS)), 0.9, 0.1, 2)


def with_data(figure, width: int) -> list:
    """Markers whose customdata has so many fields, over all traces."""
    return [
        (x, y, tuple(d))
        for t in figure.data
        if t.customdata is not None and "markers" in t.mode
        for x, y, d in zip(t.x, t.y, t.customdata, strict=True)
        if len(d) == width
    ]


def test_edges_carry_their_numbers_and_nodes_their_names():
    figure = circuit_graph(a_circuit())
    assert {d for _, _, d in with_data(figure, 4)} == set(EDGES)
    places = node_places(a_circuit().nodes)
    assert {d[0]: (x, y) for x, y, d in with_data(figure, 1)} == places
    assert places["embed"][1] < places["head.0.1"][1] < places["mlp.0"][1] < places["mlp.1"][1]
    assert max(places.values(), key=lambda p: p[1]) == places["logits"]


def test_every_edge_is_a_line_between_its_nodes_in_its_colour():
    figure = circuit_graph(a_circuit())
    places = {p: n for n, p in node_places(a_circuit().nodes).items()}
    drawn = {}
    for trace in figure.data:
        if trace.mode != "lines":
            continue
        xs, ys = list(trace.x), list(trace.y)
        starts = [0, *(i + 1 for i, x in enumerate(xs[:-1]) if x is None)]
        for a, b in zip(starts, [*(s - 1 for s in starts[1:]), len(xs) - 1], strict=True):
            ends = places[xs[a], ys[a]], places[xs[b - 1], ys[b - 1]]
            drawn[ends] = (trace.line.width, trace.line.color)
    assert set(drawn) == {e[:2] for e in EDGES}
    by_size = sorted(EDGES, key=lambda e: abs(e[2]))
    widths = [drawn[e[:2]][0] for e in by_size]
    assert widths == sorted(widths) and drawn["mlp.1", "logits"] == (7.0, DIVERGING[-1])
    red, blue = (int(drawn["head.0.1", "mlp.1"][1][i : i + 2], 16) for i in (1, 5))
    assert blue > red  # negative


def test_a_focused_node_keeps_its_edges_and_pins_are_outlined():
    figure = circuit_graph(a_circuit(), focus="mlp.1", pinned=["head.0.1"])
    assert {d for _, _, d in with_data(figure, 4)} == {e for e in EDGES if "mlp.1" in e[:2]}
    faint = [t for t in figure.data if t.mode == "lines" and t.opacity < 0.2]
    assert sum(list(t.x).count(None) for t in faint) == 2
    nodes = figure.data[-1]
    lined = [n[0] for n, w in zip(nodes.customdata, nodes.marker.line.width, strict=True) if w]
    assert lined == ["head.0.1", "mlp.1"]
    for wrong in ({"focus": "mlp.7"}, {"pinned": ["mlp.7"]}):
        with pytest.raises(WorkbenchError, match="node of this circuit"):
            circuit_graph(a_circuit(), **wrong)


def test_hover_says_what_a_node_reads_and_writes():
    nodes = circuit_graph(a_circuit()).data[-1]
    tips = {n[0]: tip for n, tip in zip(nodes.customdata, nodes.hovertext, strict=True)}
    assert "read: 2 edges, -0.2000 of the effect" in tips["mlp.1"]
    assert "written: 1 edges, 0.9000" in tips["mlp.1"] and "logits 0.9000" in tips["mlp.1"]


def test_pruned_nodes_stay_in_place():
    whole = a_circuit()
    small = whole.pruned(edges=2)  # mlp.1 -> logits and head.0.1 -> mlp.1 reach no embedding
    figure = circuit_graph(small, among=whole)
    assert {d[0] for _, _, d in with_data(figure, 1)} == set(whole.nodes)
    assert "keep more" in figure.layout.annotations[0].text
    some = circuit_graph(whole.pruned(edges=4), among=whole)
    again = {d[0]: (x, y) for x, y, d in with_data(some, 1)}
    assert again == node_places(whole.nodes)
    assert some.layout.xaxis.range == figure.layout.xaxis.range


def test_a_click_on_a_node_is_read_and_one_on_an_edge_is_not():
    assert node_of({"selection": {"points": [{"customdata": ["mlp.1"]}]}}) == "mlp.1"
    assert node_of({"selection": {"points": [{"customdata": list(EDGES[0])}]}}) is None
    assert node_of({"selection": {"points": []}}) is None and node_of(None) is None


def test_tokens_are_visible_and_never_markup():
    assert numbered(HOSTILE) == [
        "0 Ada",
        "1 ␣&lt;b&gt;x&lt;/b&gt;",
        "2 ⏎",
        "3 &amp;amp;⇥",
    ]
    assert visible("\x00") == "\\u0000" and visible("") == "∅"
    assert visible("abcdefgh", width=5) == "abcd…"


def labels(figure) -> str:
    """Everything in a figure that Plotly may read as markup, templates aside."""
    parts = [figure.layout.title.text, figure.layout.xaxis.ticktext, figure.layout.yaxis.ticktext]
    parts += [(t.text, t.hovertext, t.customdata) for t in figure.data]
    return str(parts).replace("<br>", "").replace("<sup>", "").replace("</sup>", "")


def test_attention_shows_the_pattern_of_one_head():
    pattern = torch.rand(2, 3, 4, 4).tril()
    figure = attention_heatmap(AttentionPatterns(HOSTILE, pattern), 1, 2)
    for q in range(4):
        for k in range(4):
            shown = figure.data[0].z[q][k]
            assert shown is None if k > q else shown == float(pattern[1, 2, q, k])
    assert "<b>" not in labels(figure)
    with pytest.raises(WorkbenchError, match="no head 3"):
        attention_heatmap(AttentionPatterns(HOSTILE, pattern), 0, 3)


def head_shares() -> HeadContributions:
    heads = torch.tensor([[0.5, -2.0], [0.25, 0.0]], dtype=torch.float64)
    bias, mlps = torch.tensor([0.0, 0.125]), torch.tensor([1.0, -0.75])
    return HeadContributions(HOSTILE, 1, " <i>", None, heads, bias, mlps, 0.0625, 0.0)


def test_bars_are_the_contributions_centred_at_zero():
    figure = contribution_bars(head_shares(), k=6)
    bar = figure.data[0]
    shown = {d[0]: v for d, v in zip(bar.customdata, bar.x, strict=True)}
    assert shown == {
        **{"head.0.1": -2.0, "mlp.0": 1.0, "mlp.1": -0.75},
        **{"head.0.0": 0.5, "head.1.0": 0.25, "bias of attn.1": 0.125},
    }
    assert [abs(v) for v in bar.x] == sorted(map(abs, bar.x), reverse=True)
    low, high = figure.layout.xaxis.range
    assert low == -high and bar.marker.color[0] == DIVERGING[0]
    assert "<" not in labels(figure)


def test_neuron_and_token_bars():
    values, activations = torch.tensor([0.1, -0.3, 0.2]), torch.tensor([1.0, 2.0, 3.0])
    neurons = NeuronContributions(HOSTILE, 2, 3, "a", "<b>", values, activations, 0.0, (1, 2))
    bar = neuron_bars(neurons).data[0]
    assert [d[0] for d in bar.customdata] == ["neuron.2.1", "neuron.2.2"]
    assert list(bar.x) == values[[1, 2]].tolist() and "2.0000" in bar.customdata[0][1]
    raised, lowered = torch.tensor([2.0, 1.0]), torch.tensor([-3.0, -1.0])
    promoted = PromotedTokens(HOSTILE, "mlp.1", 0, ("<b>", "x"), raised, (" y", "x"), lowered)
    figure = promoted_bars(promoted)
    assert list(figure.data[0].x) == [2.0, 1.0, -1.0, -3.0]
    assert list(figure.layout.yaxis.ticktext) == ["&lt;b&gt;", "x", "x", "␣y"]


def a_lens(target: bool) -> LogitLens:
    top = tuple(tuple(("<b>", f"{la}{p}") for p in range(4)) for la in range(2))
    probability = torch.rand(2, 4, 2)
    if not target:
        return LogitLens(HOSTILE, top, probability)
    return LogitLens(HOSTILE, top, probability, torch.rand(2, 4), torch.arange(8).view(2, 4))


def test_lens_markers_carry_their_cell_and_probability():
    lens = a_lens(True)
    for target in (False, True):
        figure = lens_grid(lens, target=target, chosen=(1, 2))
        cells, trace = figure.data
        (outline,) = figure.layout.shapes
        assert (outline.x0, outline.x1, outline.y0, outline.y1) == (1.5, 2.5, 0.5, 1.5)
        values = lens.target_probability if target else lens.probability[..., 0]
        for i, (layer, position) in enumerate(trace.customdata):
            assert (trace.y[i], trace.x[i]) == (layer, position)
            assert trace.marker.color[i] == float(values[layer, position])
            assert cells.z[layer][position] == float(values[layer, position])
            tip = trace.hovertext[i]
            assert f"{layer}{position} {float(lens.probability[layer, position, 1]):.4f}" in tip
            assert f"rank {layer * 4 + position + 1}" in tip
        assert "<b>" not in labels(figure) and len(trace.customdata) == 8
        assert not lens_grid(lens, target=target).layout.shapes
        assert trace.marker.symbol == "square"
    with pytest.raises(WorkbenchError, match="without a target"):
        lens_grid(a_lens(False), target=True)
