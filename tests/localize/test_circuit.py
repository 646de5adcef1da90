"""Circuits against plain recomputation: edges cut by hand, first-order effects, completeness."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
import torch

from tests.localize.test_attribution_patching import make_pair
from tests.localize.test_logit_lens import known_facts
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet
from workbench.localize import circuit as module
from workbench.localize.circuit import edge_scores, faithfulness
from workbench.localize.circuit_graph import EDGE_COLUMNS, Circuit, Edge
from workbench.localize.corruption import Noise
from workbench.localize.edges import ablate_edges, drive
from workbench.localize.gradients import Group, groups, run
from workbench.localize.metrics import log_probability, logit_difference
from workbench.localize.wiring import Wiring, graph_of, wire
from workbench.progress import Cancelled, Progress

find = module.circuit


def one_group(model, size: float = 1.0) -> Group:
    """Two facts of one length, two samples each."""
    (group,) = groups([make_pair(model, size=size), make_pair(model, size=size, seed=3)])
    return group


def all_but(wiring: Wiring, source: str, target: str) -> torch.Tensor:
    mask = torch.ones_like(wiring.graph.edges)
    mask[wiring.graph.writers.index(source), wiring.graph.readers.index(target)] = False
    return mask


def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight


class Qwen2ByHand:
    """A tiny Qwen2 written out anew, one head at a time, where one edge may be cut.

    `cut` is (source, target) and `wrote` what the source wrote in the corrupted run: the target
    reads stream - (source now - source corrupted).
    """

    def __init__(self, model) -> None:
        self.hf = model.hf.model
        self.rope = self.hf.rotary_emb
        self.head = model.hf.lm_head.weight

    def run(self, x: torch.Tensor, cut=("", ""), wrote=None):
        now: dict[str, torch.Tensor] = {"embed": x}

        def stream_for(reader: str) -> torch.Tensor:
            moved = now[cut[0]] - wrote[cut[0]] if reader == cut[1] else 0
            return x - moved

        length = x.shape[1]
        cos, sin = self.rope(x, torch.arange(length)[None])
        back = torch.arange(length)[:, None] - torch.arange(length)[None]
        for i, block in enumerate(self.hf.layers):
            window = block.self_attn.sliding_window or length
            mask = (back < 0) | (back >= window)
            added = 0
            for h in range(4):
                read = rms(stream_for(f"head.{i}.{h}"), block.input_layernorm.weight)
                out = self.attend(block.self_attn, read, h, cos, sin, mask)
                now[f"head.{i}.{h}"] = out
                added = added + out
            x = x + added
            read = rms(stream_for(f"mlp.{i}"), block.post_attention_layernorm.weight)
            mlp = block.mlp
            gate = torch.nn.functional.silu(read @ mlp.gate_proj.weight.T)
            now[f"mlp.{i}"] = (gate * (read @ mlp.up_proj.weight.T)) @ mlp.down_proj.weight.T
            x = x + now[f"mlp.{i}"]
        return (rms(stream_for("logits"), self.hf.norm.weight) @ self.head.T)[:, -1], now

    def attend(self, attn, read, h, cos, sin, mask) -> torch.Tensor:
        def project(linear, index):
            rows = slice(index * 8, index * 8 + 8)
            return read @ linear.weight[rows].T + linear.bias[rows]

        def rotate(v):
            return v * cos + torch.cat([-v[..., 4:], v[..., :4]], -1) * sin

        q, k = rotate(project(attn.q_proj, h)), rotate(project(attn.k_proj, h // 2))
        scores = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(mask, float("-inf"))
        z = scores.softmax(-1) @ project(attn.v_proj, h // 2)
        return z @ attn.o_proj.weight[:, h * 8 : h * 8 + 8].T


EDGES = (
    *(("embed", "head.0.1"), ("head.0.0", "logits"), ("head.0.3", "mlp.0"), ("mlp.0", "head.1.2")),
    *(("head.1.0", "head.2.3"), ("mlp.1", "mlp.2"), ("head.2.1", "logits"), ("mlp.2", "logits")),
)


@pytest.mark.parametrize("edge", EDGES, ids="-".join)
def test_one_cut_edge_equals_a_model_written_by_hand(tiny, edge):
    group, wiring = one_group(tiny), wire(tiny)
    rows = group.clean[group.fact]
    hand = Qwen2ByHand(tiny)
    with torch.no_grad():
        plain, _ = hand.run(rows)
        _, wrote = hand.run(group.corrupted)
        expected, _ = hand.run(rows, edge, wrote)
        _, outputs = drive(wiring, group.corrupted)
    found = ablate_edges(wiring, rows, outputs, all_but(wiring, *edge))
    assert (expected - plain).abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_writers_equal_the_model_written_by_hand(tiny):
    group, wiring = one_group(tiny), wire(tiny)
    with torch.no_grad():
        _, wrote = Qwen2ByHand(tiny).run(group.clean)
        _, outputs = drive(wiring, group.clean)
    for name, found in zip(wiring.graph.writers, outputs, strict=True):
        torch.testing.assert_close(found, wrote[name], rtol=1e-4, atol=1e-4)


def test_all_edges_are_the_clean_run_and_no_edge_is_the_corrupted_run(family_model):
    group = one_group(family_model)
    rows = group.clean[group.fact]
    with torch.no_grad():
        clean, _ = run(family_model, rows, [])
        corrupted, _ = run(family_model, group.corrupted, [])
    for heads in (True, False):
        wiring = wire(family_model, heads=heads)
        with torch.no_grad():
            _, outputs = drive(wiring, group.corrupted)
        for kept, expected in ((True, clean), (False, corrupted)):
            mask = torch.full_like(wiring.graph.edges, kept)
            found = ablate_edges(wiring, rows, outputs, mask)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_small_perturbation_costs_what_the_edge_scores(family_model):
    """Cutting one edge exactly, to first order, for every edge of the graph."""
    group, wiring = one_group(family_model, size=3e-3), wire(family_model)
    whole, _, scores = edge_scores(wiring, group, logit_difference, 1)
    rows = group.clean[group.fact]
    with torch.no_grad():
        _, outputs = drive(wiring, group.corrupted)
    largest = float(scores.abs().max())
    assert largest > 0
    for u, v in wiring.graph.edges.nonzero().tolist()[::5]:
        mask = torch.ones_like(wiring.graph.edges)
        mask[u, v] = False
        logits = ablate_edges(wiring, rows, outputs, mask)
        lost = whole[group.fact] - group.measure(logit_difference, logits, group.fact)
        torch.testing.assert_close(lost, scores[:, u, v], rtol=0, atol=0.05 * largest)


def test_edges_out_of_the_embedding_sum_to_the_whole_effect(family_model):
    """Integrated gradients are complete along the path of the embeddings."""
    group, wiring = one_group(family_model, size=0.5), wire(family_model)
    whole, base, scores = edge_scores(wiring, group, logit_difference, 40)
    effect = whole[group.fact] - base
    found = scores[:, 0].sum(-1)
    torch.testing.assert_close(found, effect, rtol=0.02, atol=0.01 * float(effect.abs().max()))


def test_heads_sum_to_their_attention(family_model):
    group = one_group(family_model)
    _, _, fine = edge_scores(wire(family_model), group, logit_difference, 2)
    _, _, whole = edge_scores(wire(family_model, heads=False), group, logit_difference, 2)
    merged = torch.stack(
        [p.sum(1) for p in fine[:, 1:, -1].unflatten(1, (3, 5))[:, :, :4].unbind(1)], 1
    )
    attn = whole[:, 1:, -1].unflatten(1, (3, 2))[:, :, 0]
    torch.testing.assert_close(merged, attn, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", ["neox", "phi"])
def test_in_a_parallel_block_the_mlp_is_not_behind_its_attention(family):
    from tests.conftest import make_model

    graph = wire(make_model(family)).graph
    reader = graph.readers.index("mlp.1")
    sources = [w for w, edge in zip(graph.writers, graph.edges[:, reader], strict=True) if edge]
    assert sources == ["embed", *(f"head.0.{h}" for h in range(4)), "mlp.0"]


def test_a_small_graph_has_these_edges():
    graph = graph_of(None, [False, True])
    pairs = {(graph.writers[u], graph.readers[v]) for u, v in graph.edges.nonzero().tolist()}
    behind = {
        "attn.0": ["embed"],
        "mlp.0": ["embed", "attn.0"],
        "attn.1": ["embed", "attn.0", "mlp.0"],
        "mlp.1": ["embed", "attn.0", "mlp.0"],
        "logits": ["embed", "attn.0", "mlp.0", "attn.1", "mlp.1"],
    }
    assert pairs == {(u, v) for v, sources in behind.items() for u in sources}
    assert graph.nodes == ("embed", "attn.0", "mlp.0", "attn.1", "mlp.1", "logits")


def by_hand(*edges: tuple[str, str, float]) -> Circuit:
    table = pd.DataFrame([(*e, 0.01) for e in edges], columns=list(EDGE_COLUMNS))
    nodes = ("embed", "head.0.1", "mlp.0", "head.1.0", "mlp.1", "logits")
    config = {"corruption": {"name": "noise"}, "metric": "probability", "heads": True}
    return Circuit(nodes, table, 0.9, 0.1, 3, ("left out",), config)


GRAPH = by_hand(
    ("mlp.0", "mlp.1", -0.9),
    ("embed", "head.1.0", 0.8),
    ("head.0.1", "mlp.0", 0.7),
    ("mlp.1", "logits", 0.6),
    ("embed", "mlp.0", 0.5),
    ("head.1.0", "logits", 0.1),
)


def test_pruning_drops_what_is_on_no_path():
    strong = GRAPH.pruned(threshold=0.5)
    assert strong.nodes == ("embed", "mlp.0", "mlp.1", "logits")
    kept = list(zip(strong.edges["source"], strong.edges["target"], strict=True))
    assert kept == [("mlp.0", "mlp.1"), ("mlp.1", "logits"), ("embed", "mlp.0")]
    assert str(strong.components()) == "mlp.0-1"
    assert GRAPH.pruned(threshold=0.7).nodes == ()
    assert len(GRAPH.pruned(threshold=0.7).components()) == 0
    assert len(GRAPH.pruned(threshold=0).edges) == 5  # nothing reaches head.0.1


def test_a_number_of_edges_is_taken_greedily_from_the_logits():
    """The strongest edges stand elsewhere; the walk begins at mlp.1 -> logits."""
    walk = [
        ("mlp.1", "logits"),
        ("mlp.0", "mlp.1"),
        ("head.0.1", "mlp.0"),
        ("embed", "mlp.0"),
        ("head.1.0", "logits"),
        ("embed", "head.1.0"),
    ]
    on_a_path = [e for e in walk if e[0] != "head.0.1"]
    for n, expected in (
        (3, []),
        (4, [0, 1, 2]),
        (5, [0, 1, 2]),
        (6, [0, 1, 2, 3, 4]),
        (99, range(5)),
    ):
        edges = GRAPH.pruned(edges=n).edges
        found = set(zip(edges["source"], edges["target"], strict=True))
        assert found == {on_a_path[i] for i in expected}, n
    assert GRAPH.pruned(edges=6).edges["score"].abs().is_monotonic_decreasing


def test_edges_of_a_node_are_sorted_by_size():
    incoming, outgoing = GRAPH.edges_of("mlp.0")
    assert incoming == (Edge("head.0.1", "mlp.0", 0.7, 0.01), Edge("embed", "mlp.0", 0.5, 0.01))
    assert outgoing == (Edge("mlp.0", "mlp.1", -0.9, 0.01),)


def test_saved_circuits_load(tmp_path):
    GRAPH.save(tmp_path / "c.json")
    again = Circuit.load(tmp_path / "c.json")
    pd.testing.assert_frame_equal(again.edges, GRAPH.edges)
    for field in dataclasses.fields(Circuit):
        if field.name != "edges":
            assert getattr(again, field.name) == getattr(GRAPH, field.name)
    (tmp_path / "c.json").write_text('{"nodes": []}')
    with pytest.raises(WorkbenchError, match="no circuit"):
        Circuit.load(tmp_path / "c.json")
    with pytest.raises(WorkbenchError, match="Cannot write"):
        GRAPH.save(tmp_path / "nowhere" / "c.json")


NOISE = Noise(samples=2)
FOREIGN = by_hand(("embed", "mlp.9", 1.0), ("mlp.9", "logits", 1.0))
FOREIGN = dataclasses.replace(FOREIGN, nodes=("embed", "mlp.9", "logits"))


def test_the_whole_call_and_its_faithfulness(family_model):
    facts = known_facts(family_model)
    if not facts:
        pytest.skip("this random model says nothing that is text")
    wrong = Fact("Carl Dorn", "Carl Dorn plays the sport of", " qqq")
    given = facts + FactSet((wrong,))
    seen = []
    progress = Progress(report=lambda *step: seen.append(step))
    found = find(family_model, given, corruption=NOISE, steps=2, progress=progress)
    assert found.left_out == (wrong.prompt,) and found.n_facts == len(facts)
    assert found.config["metric"] == "probability"
    assert found.edges["score"].abs().is_monotonic_decreasing
    assert any("edges" in label for _, _, label in seen)
    family_model.structure.check(found.components())
    every = len(found.edges)
    table = faithfulness(family_model, given, found, [0, every // 2, every])
    assert table["faithfulness"].iloc[0] == pytest.approx(0, abs=1e-4)
    assert table["faithfulness"].iloc[-1] == pytest.approx(1, abs=1e-4)
    assert table["stderr"].iloc[-1] == pytest.approx(0, abs=1e-4)
    assert list(table["kept"])[::2] == [0, every] and (table["n"] == len(facts)).all()


def test_dropping_edges_on_no_path_changes_nothing(tiny):
    facts = known_facts(tiny)
    found = find(tiny, facts, corruption=NOISE, steps=1)
    kept = found.edges["score"].abs().nlargest(40).index
    top = dataclasses.replace(found, edges=found.edges.loc[kept])
    pruned = top.pruned(threshold=0)
    assert 0 < len(pruned.edges) < 40
    (group,) = groups(NOISE.pairs(tiny, FactSet((facts[0],))))
    wiring = wire(tiny)
    rows = group.clean[group.fact]
    with torch.no_grad():
        _, outputs = drive(wiring, group.corrupted)
    ends = [
        ablate_edges(wiring, rows, outputs, module._mask(wiring.graph, c)) for c in (top, pruned)
    ]
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-4)


def test_facts_together_equal_facts_alone(tiny):
    wiring = wire(tiny)
    pairs = [make_pair(tiny), make_pair(tiny, seed=3), make_pair(tiny, samples=1, seed=5)]
    (group,) = groups(pairs)
    together = group.split(edge_scores(wiring, group, logit_difference, 2)[2])
    for pair, both in zip(pairs, together, strict=True):
        (own,) = groups([pair])
        _, _, alone = edge_scores(wiring, own, logit_difference, 2)
        torch.testing.assert_close(both, alone, rtol=1e-3, atol=1e-4)


def test_the_table_holds_shares_of_the_whole_effect(tiny):
    """Mean over facts of each edge's mean over samples, over the mean effect."""
    facts = known_facts(tiny)
    assert len(facts) > 1
    found = find(tiny, facts, corruption=NOISE, steps=2, metric="log_probability")
    wiring, scores, effects = wire(tiny), [], []
    for pair in NOISE.pairs(tiny, facts):
        (group,) = groups([pair])
        whole, base, own = edge_scores(wiring, group, log_probability, 2)
        scores.append(own.mean(0))
        effects.append(whole[0] - base.mean())
    shares = torch.stack(scores) / torch.stack(effects).mean()
    assert found.clean - found.corrupted == pytest.approx(float(torch.stack(effects).mean()))
    for source, target, score, stderr in found.edges.itertuples(index=False):
        at = shares[:, wiring.graph.writers.index(source), wiring.graph.readers.index(target)]
        assert score == pytest.approx(float(at.mean()), rel=1e-3, abs=1e-4)
        assert stderr == pytest.approx(float(at.std() / len(at) ** 0.5), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, f: find(m, f, steps=0), "one step"),
        (lambda m, f: find(m, f, metric="probabilty"), "did you mean 'probability'"),
        (lambda m, f: find(m, f, corruption=Noise(multiple=0.0)), "does not change the answer"),
        (lambda m, f: faithfulness(m, f, FOREIGN, [2]), "no edge from"),
        (lambda m, f: GRAPH.pruned(), "exactly one"),
        (lambda m, f: GRAPH.pruned(edges=1, threshold=0.1), "exactly one"),
        (lambda m, f: GRAPH.pruned(edges=-1), "0 or more"),
        (lambda m, f: GRAPH.edges_of("mlp.7"), "node of this circuit"),
    ],
)
def test_mistakes_get_a_sentence(tiny, call, message):
    with pytest.raises(WorkbenchError, match=message):
        call(tiny, known_facts(tiny))


def test_a_model_that_scales_what_it_adds_is_refused(tiny):
    scaled = tiny.fork()
    block = scaled.hf.model.layers[1]
    block.register_forward_hook(lambda m, args, out: 2 * out if torch.is_tensor(out) else out)
    with pytest.raises(WorkbenchError, match="add to it"):
        find(scaled, known_facts(tiny), corruption=NOISE, metric="log_probability")


def test_cancelling_stops_it(tiny):
    with pytest.raises(Cancelled):
        find(tiny, known_facts(tiny), progress=Progress(cancelled=lambda: True))
