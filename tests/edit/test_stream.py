"""The stream against TransformerLens's own cache, in every family."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from tests.conftest import TEXT
from workbench.edit.cost import as_first
from workbench.edit.rows import Rows
from workbench.edit.stream import KEPT, Stream
from workbench.models.components import Component
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.models.model import replace_parameter
from workbench.models.text import encode


def rows_of(model):
    sequences = tuple(tuple(encode(model, t)) for t in TEXT)
    return Rows(sequences, tuple((0, len(s) - 1) for s in sequences))


def reference(model, layer, hook):
    out = []
    for text in TEXT:
        ids = torch.tensor([encode(model, text)])
        names = (hook, f"blocks.{layer}.hook_resid_post")
        seen = dict.fromkeys(names)

        def keep(tensor, hook, key, seen=seen):
            seen[key] = tensor

        with torch.no_grad():
            hooks = [(n, partial(keep, key=n)) for n in names]
            model.bridge.run_with_hooks(ids, fwd_hooks=hooks)
        out += [[seen[n][0, p] for n in names] for p in (0, ids.shape[1] - 1)]
    # Where heads are split (attn.o.hook_in of some families), flatten them: keys are vectors.
    return [torch.stack(c).flatten(1) for c in zip(*out, strict=True)]


@pytest.mark.parametrize("kind", ["mlp", "attn"])
def test_keys_and_stream_equal_the_bridge(family_model, kind):
    rows = rows_of(family_model)
    hf = family_model.fork().hf
    stream = Stream(family_model, rows, [0, 1, 2], max_tokens=40)
    for layer in range(3):
        stream.advance(hf, layer)
        writer = family_model.structure.writer(Component(layer, kind))
        keys, after = reference(family_model, layer, writer.input_hook)
        x, y, found = stream.observe(hf, writer)
        torch.testing.assert_close(x, keys, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found, after, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(stream.after(hf), found)
        linear = hf.get_submodule(writer.module)
        torch.testing.assert_close(linear(x), y, atol=1e-5, rtol=1e-5)
        streamed = torch.cat([k for k, _ in stream.keys(hf, writer)])
        assert sorted(streamed.sum(1).tolist()) == pytest.approx(
            sorted(x.sum(1).tolist()), abs=1e-4
        )


def test_the_stream_follows_edits_below(tiny):
    rows = rows_of(tiny)
    writer = tiny.structure.writer(Component(0, "mlp"))
    change = torch.randn(tiny.parameters[writer.parameter].shape, generator=torch.manual_seed(0))
    edited_model = tiny.with_delta(WeightDelta({writer.parameter: Dense(change)}, Origin("test")))
    hf = tiny.fork().hf
    stream = Stream(tiny, rows, [0, 2])
    replace_parameter(hf, writer.parameter, edited_model.parameters[writer.parameter])
    stream.advance(hf, 2)
    top = tiny.structure.writer(Component(2, "mlp"))
    expected = reference(edited_model, 2, top.input_hook)[0]
    torch.testing.assert_close(stream.observe(hf, top)[0], expected, atol=1e-5, rtol=1e-5)


def test_a_stream_leaves_the_model_as_it_was(tiny):
    before = tiny.hf.forward
    Stream(tiny, rows_of(tiny), [1])
    ids = torch.tensor([encode(tiny, TEXT[0])])
    assert tiny.hf.forward == before
    torch.testing.assert_close(tiny.bridge(ids), tiny.hf(ids).logits, atol=1e-4, rtol=1e-4)
    assert all(not m._forward_hooks for m in tiny.hf.modules())


@pytest.mark.parametrize(("kind", "held"), [("mlp", 1 << 26), ("mlp", 2000), ("attn", 1 << 26)])
def test_a_change_is_carried_over_as_if_the_block_ran_again(family_model, kind, held, monkeypatch):
    monkeypatch.setattr("workbench.edit.stream._MOST_HELD", held)  # 2000: some chunks only
    rows = rows_of(family_model)
    writer = family_model.structure.writer(Component(1, kind))
    shape = family_model.parameters[writer.parameter].shape
    change = 0.1 * torch.randn(shape, generator=torch.manual_seed(0))
    carried, again = (Stream(family_model, rows, [1, 2], max_tokens=40) for _ in range(2))
    hf = family_model.fork().hf
    before = carried.observe(hf, writer)[2]
    replace_parameter(hf, writer.parameter, hf.get_parameter(writer.parameter) + change)
    carried.edited(hf, writer, change)
    after = carried.after(hf)
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, again.after(hf), atol=1e-5, rtol=1e-4)
    for stream in (carried, again):
        stream.advance(hf, 2)
    torch.testing.assert_close(carried.after(hf), again.after(hf), atol=1e-5, rtol=1e-4)


def test_the_block_runs_again_only_where_it_must(tiny, monkeypatch):
    hf, stream = tiny.fork().hf, Stream(tiny, rows_of(tiny), [0, 2])
    runs = []
    run = Stream._run
    monkeypatch.setattr(Stream, "_run", lambda *args: runs.append(stream.layer) or run(*args))
    chunks = len(stream._chunks)
    writer = tiny.structure.writer(Component(0, "mlp"))
    stream.observe(hf, writer)
    change = torch.ones_like(hf.get_parameter(writer.parameter))
    replace_parameter(hf, writer.parameter, hf.get_parameter(writer.parameter) + change)
    stream.edited(hf, writer, change)
    stream.after(hf)
    stream.advance(hf, 1)
    assert runs == [0] * chunks  # the change was carried over
    stream.after(hf)
    replace_parameter(hf, tiny.structure.writer(Component(1, "mlp")).parameter, change)
    stream.advance(hf, 2)  # the weights are others than in the last run
    assert runs == [0] * chunks + [1] * 2 * chunks


def test_another_try_starts_where_the_first_did(tiny, monkeypatch):
    """The blocks below are run once for a model; a stream that moved on leaves the start alone."""
    KEPT.clear()
    begun = []
    start = Stream._start
    monkeypatch.setattr(Stream, "_start", lambda *args: begun.append(args[4]) or start(*args))
    hf, rows = tiny.fork().hf, rows_of(tiny)
    first = Stream(tiny, rows, [1, 2])
    at_start = first.after(hf)
    first.advance(hf, 2)
    once = len(begun)
    second = Stream(tiny, rows, [1, 2])
    assert len(begun) == once
    assert second.layer == 1
    torch.testing.assert_close(second.after(hf), at_start, atol=0, rtol=0)

    writer = tiny.structure.writer(Component(0, "mlp"))
    change = torch.randn(tiny.parameters[writer.parameter].shape, generator=torch.manual_seed(0))
    other = tiny.with_delta(WeightDelta({writer.parameter: Dense(change)}, Origin("test")))
    fewer = Rows(rows.sequences, tuple(p[:1] for p in rows.picks))
    different = [(other, rows, [1, 2]), (tiny, rows, [0, 2]), (tiny, fewer, [1, 2])]
    for model, own, layers in different:
        before = len(begun)
        found = Stream(model, own, layers).after(model.hf)
        assert len(begun) > before
        KEPT.clear()
        torch.testing.assert_close(found, Stream(model, own, layers).after(model.hf))


def test_what_a_chunk_shares_is_run_once(family_model, monkeypatch):
    """Sequences of one beginning, and one that begins otherwise, give what each gives by itself."""
    KEPT.clear()
    own = [encode(family_model, t) for t in TEXT]
    form = (own[0] * 20)[:24]
    sequences = [tuple(form + ids) for ids in own[1:4]] + [tuple(own[0])]
    rows = Rows(tuple(sequences), tuple((0, len(s) // 2, len(s) - 1) for s in sequences))
    ran = []
    behind = Stream._behind
    monkeypatch.setattr(Stream, "_behind", lambda *args: ran.append(args[3]) or behind(*args))
    hf = family_model.fork().hf
    stream = Stream(family_model, rows, [1, 2], max_tokens=3 * len(max(sequences, key=len)))
    if type(DynamicCache(config=hf.config).layers[0]) is DynamicLayer:
        assert ran and min(ran) >= len(form)
    else:
        assert not ran
    stream.advance(hf, 2)
    writer = family_model.structure.writer(Component(2, "mlp"))
    x, _, after = stream.observe(hf, writer)
    monkeypatch.setattr("workbench.edit.stream.worth_sharing", lambda texts: 0)
    KEPT.clear()
    alone = Stream(family_model, rows, [1, 2])
    alone.advance(hf, 2)
    keys, _, expected = alone.observe(hf, writer)
    torch.testing.assert_close(x, keys, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-5)


def test_a_large_start_is_not_kept(tiny, monkeypatch):
    KEPT.clear()
    monkeypatch.setattr("workbench.edit.stream._MOST_STARTED", 10)
    Stream(tiny, rows_of(tiny), [1])
    assert not KEPT


def test_a_cost_is_measured_without_what_is_kept(tiny):
    Stream(tiny, rows_of(tiny), [1])
    assert KEPT
    with as_first():
        assert not KEPT
