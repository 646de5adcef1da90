"""Attribution against finite differences, exact patching and completeness."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet
from workbench.facts.prompts import Prompt
from workbench.localize.agreement import agreement
from workbench.localize.atp_star import gradient_drop, query_key_effects
from workbench.localize.attribution_patching import attribute, attribution_patching
from workbench.localize.corruption import Noise, Pair
from workbench.localize.gradients import (
    HOOKS,
    groups,
    node_names,
    path_gradients,
    run,
    run_with_gradients,
)
from workbench.localize.metrics import logit_difference
from workbench.models.text import encode
from workbench.progress import Cancelled, Progress

PROMPTS = (("Ada Brook plays the sport of", "Brook"), ("Carl Dorn plays the sport of", "Dorn"))
KINDS = ("mlp", "attn", "head", "resid")


def make_pair(model, prompt=PROMPTS[0], *, size=1.0, samples=2, seed=0) -> Pair:
    """A pair whose corruption is a step of `size` towards other tokens' embeddings."""
    text, subject = prompt
    ids = encode(model, text)
    generator = torch.Generator().manual_seed(seed)
    embed = model.hf.get_input_embeddings()
    with torch.no_grad():
        clean = embed(torch.tensor([ids]))
        others = embed(torch.randint(1, 380, (samples, 2), generator=generator))
    corrupted = clean.repeat(samples, 1, 1)
    corrupted[:, 2:4] += size * (others - corrupted[:, 2:4])
    tokens = Prompt(Fact(subject, text, " golf"), tuple(ids), (2, 4), (70,), (71,))
    return Pair(tokens, torch.tensor(ids), clean, corrupted, 70, 71)


def exact(model, pair: Pair, cell, position: int) -> torch.Tensor:
    """Patch one cell by a plain hook and measure the change, sample by sample."""
    kind, layer, head = cell
    name = HOOKS[kind].format(layer)
    (group,) = groups([pair])
    with torch.no_grad():
        clean = run(model, pair.clean, [name])[1][name]

        def patch(value):
            value = value.clone()
            if kind == "head":
                value[:, position, head] = clean[:, position, head]
            else:
                value[:, position] = clean[:, position]
            return value

        base = run(model, pair.corrupted, [])[0]
        patched = run(model, pair.corrupted, [], replace={name: patch})[0]
    rows = group.fact
    return group.measure(logit_difference, patched, rows) - group.measure(
        logit_difference, base, rows
    )


def test_gradients_equal_finite_differences(family_model):
    pair = make_pair(family_model)
    (group,) = groups([pair])
    names = node_names(family_model, KINDS)
    _, _, gradients = run_with_gradients(
        family_model, group, group.corrupted, names, logit_difference
    )
    for name in names:
        gradient = gradients[name]
        size = gradient.norm()
        if name.endswith("2.hook_mlp_out"):
            assert size > 0
        if size < 1e-3:
            continue
        step = 1e-2
        ends = []
        for sign in (1, -1):
            move = sign * step * gradient / size
            with torch.no_grad():
                logits, _ = run(
                    family_model, group.corrupted, [], replace={name: lambda v, m=move: v + m}
                )
            ends.append(group.measure(logit_difference, logits, group.fact).sum())
        slope = float(ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(float(size), rel=3e-2), name


@pytest.mark.parametrize("variant", ["atp", "ig"])
def test_a_small_perturbation_is_patched_to_first_order(tiny, variant):
    pair = make_pair(tiny, size=3e-3)
    (effects,) = attribute(tiny, [pair], metric=logit_difference, variant=variant)
    largest = max(float(v.abs().max()) for v in effects.cells.values())
    assert largest > 0
    for cell, values in effects.cells.items():
        for position in (2, 4, len(pair.ids) - 1):
            truth = exact(tiny, pair, cell, position)
            torch.testing.assert_close(values[:, position], truth, rtol=0, atol=0.05 * largest)


def test_path_gradients_of_the_embeddings_sum_to_the_whole_effect(tiny):
    pair = make_pair(tiny, size=0.3)
    (group,) = groups([pair])
    gradient = path_gradients(tiny, group, ["embed"], logit_difference, 60)["embed"]
    change = group.clean[group.fact] - group.corrupted
    found = (change * gradient).sum((-1, -2))
    (effects,) = attribute(tiny, [pair], metric=logit_difference, variant="atp", kinds=("mlp",))
    whole = effects.clean - effects.corrupted
    torch.testing.assert_close(found, whole, rtol=0.02, atol=0.01 * float(whole.abs().max()))


def test_nothing_is_scored_where_nothing_differs(family_model):
    pair = make_pair(family_model)
    (effects,) = attribute(family_model, [pair], metric=logit_difference, steps=2)
    same = dataclasses.replace(pair, corrupted=pair.clean)
    (nothing,) = attribute(family_model, [same], metric=logit_difference, variant="atp")
    for cell, values in effects.cells.items():
        # Another batch size may round the last bit of a state differently.
        assert values[:, :2].abs().max() < 1e-3, cell
        assert nothing.cells[cell].abs().max() < 1e-3, cell
    assert max(float(v.abs().max()) for v in effects.cells.values()) > 1e-2


def test_heads_sum_to_their_attention(tiny):
    """Attention's output is linear in its heads, so their first-order effects add up."""
    (effects,) = attribute(tiny, [make_pair(tiny)], metric=logit_difference, variant="atp")
    for layer in range(tiny.n_layers):
        heads = sum(effects.cells["head", layer, h] for h in range(4))
        torch.testing.assert_close(heads, effects.cells["attn", layer, -1], rtol=1e-3, atol=1e-3)


def test_facts_together_equal_facts_alone(tiny):
    pairs = [make_pair(tiny, p, seed=i, samples=1 + i) for i, p in enumerate(PROMPTS)]
    pairs.append(make_pair(tiny, ("The capital of Norway is", "Norway"), seed=5))
    together = attribute(tiny, pairs, metric=logit_difference, steps=2)
    for pair, both in zip(pairs, together, strict=True):
        (alone,) = attribute(tiny, [pair], metric=logit_difference, steps=2)
        assert both.prompt is pair.prompt
        assert both.clean == pytest.approx(alone.clean, abs=1e-4)
        for cell, values in alone.cells.items():
            torch.testing.assert_close(both.cells[cell], values, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("part", ["query", "key"])
def test_query_key_fix_equals_one_patch_at_a_time(family_model, part):
    """Change one head's query or key at one position and read the pattern that the model makes."""
    pair = make_pair(family_model, samples=1)
    (group,) = groups([pair])
    fixed = query_key_effects(family_model, group, logit_difference, part)
    layer, name = 1, f"blocks.1.attn.hook_{part[0]}"
    pattern = "blocks.1.attn.hook_pattern"
    with torch.no_grad():
        clean = run(family_model, group.clean, [name])[1][name]
    _, base, gradients = run_with_gradients(
        family_model, group, group.corrupted, [pattern], logit_difference
    )
    queries, keys = family_model.structure.n_heads, clean.shape[2]
    for position in (2, 3, len(pair.ids) - 1):
        for head in range(queries):
            own = head if part == "query" else head * keys // queries

            def patch(value, own=own, position=position):
                value = value.clone()
                value[:, position, own] = clean[:, position, own]
                return value

            with torch.no_grad():
                _, states = run(family_model, group.corrupted, [pattern], replace={name: patch})
            change = (states[pattern] - base[pattern]) * gradients[pattern]
            expected = change[:, head].sum((-1, -2))
            torch.testing.assert_close(
                fixed[layer][:, position, head], expected, rtol=1e-3, atol=1e-4
            )


def test_without_the_fix_the_query_is_linearised(tiny):
    """Then the effect is the change of the query times its own gradient."""
    (group,) = groups([make_pair(tiny)])
    found = query_key_effects(tiny, group, logit_difference, "query", fix=False)
    for layer, effect in enumerate(found):
        name = f"blocks.{layer}.attn.hook_q"
        with torch.no_grad():
            clean = run(tiny, group.clean, [name])[1][name]
        _, states, gradients = run_with_gradients(
            tiny, group, group.corrupted, [name], logit_difference
        )
        expected = ((clean[group.fact] - states[name]) * gradients[name]).sum(-1)
        torch.testing.assert_close(effect, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["qwen2", "neox"])
def test_gradient_drop_equals_cutting_the_graph(family):
    from tests.conftest import make_model

    model = make_model(family)
    (group,) = groups([make_pair(model)])
    names = node_names(model, KINDS)
    with torch.no_grad():
        clean = run(model, group.clean, names)[1]
        states = run(model, group.corrupted, names)[1]
    change = {n: clean[n][group.fact] - states[n] for n in names}
    found = gradient_drop(model, group, names, logit_difference, change)
    for name in names:
        total = torch.zeros_like(found[name])
        for layer in range(model.n_layers):
            own = name.startswith(f"blocks.{layer}.") and not name.endswith("resid_post")
            if own:  # its own block says nothing of it once dropped
                continue
            cut = {
                f"blocks.{layer}.hook_{part}_out": lambda value: value.detach()
                for part in ("attn", "mlp")
            }
            leaf = group.corrupted.clone().requires_grad_()
            logits, kept = run(model, leaf, [name], replace=cut)
            measured = group.measure(logit_difference, logits, group.fact).sum()
            (gradient,) = torch.autograd.grad(measured, [kept[name]])
            total += (change[name] * gradient).sum(-1).abs()
        heard = 3 if name.endswith("resid_post") else 2
        torch.testing.assert_close(found[name].abs(), total / heard, rtol=1e-3, atol=1e-4)


def test_hooks_are_gone_after_an_exception(tiny):
    def explode(value):
        raise RuntimeError("no")

    points = [p for p in tiny.bridge.hook_dict.values()]
    before = [len(p._forward_hooks) for p in points]
    pair = make_pair(tiny)
    with pytest.raises(RuntimeError, match="no"):
        run(tiny, pair.clean, [], replace={"blocks.1.hook_mlp_out": explode})
    assert [len(p._forward_hooks) for p in points] == before
    assert not any(p.requires_grad for p in tiny.hf.parameters())


def _known(model) -> FactSet:
    """What the random model says next is what it knows."""
    from tests.localize.test_logit_lens import known_facts

    return known_facts(model)


def test_the_whole_call(tiny):
    facts = _known(tiny)
    wrong = Fact("Carl Dorn", "Carl Dorn plays the sport of", " qqq")
    seen = []
    where = attribution_patching(
        tiny,
        facts + FactSet((wrong,)),
        corruption=Noise(samples=2),
        steps=2,
        verify=3,
        progress=Progress(report=lambda *step: seen.append(step)),
    )
    assert where.method == "attribution_patching"
    assert where.left_out == (wrong.prompt,)
    assert where.n_facts == len(facts)
    assert set(where.kinds) == {"mlp", "attn", "head", "resid"}
    assert where.config["metric"] == "probability"
    assert len(where.config["verified"]["cells"]) == 3
    assert set(where.config["verified"]["agreement"]) == set(where.kinds)
    assert any("attribution" in label for _, _, label in seen)


def test_agreement_of_a_localization_with_itself_and_its_opposite(tiny):
    facts = _known(tiny)
    where = attribution_patching(tiny, facts, corruption=Noise(samples=1), variant="atp")
    same = agreement(where, where, "mlp", top_k=4)
    assert (same.spearman, same.overlap) == (pytest.approx(1), 1)
    assert same.n == len(where.table[where.table["kind"] == "mlp"])
    table = where.table.assign(score=-where.table["score"])
    opposite = agreement(where, dataclasses.replace(where, table=table), "mlp", top_k=4)
    assert (opposite.spearman, opposite.overlap) == (pytest.approx(-1), 1)
    with pytest.raises(WorkbenchError, match="in common"):
        agreement(where, where, "neuron")


def test_cancelling_stops_it(tiny):
    stop = Progress(cancelled=lambda: True)
    with pytest.raises(Cancelled):
        attribute(tiny, [make_pair(tiny)], metric=logit_difference, progress=stop)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant": "apt"}, "did you mean 'atp'"),
        ({"kinds": ("mlps",)}, "did you mean 'mlp'"),
        ({"heads": "querry", "variant": "atp"}, "did you mean 'query'"),
        ({"heads": "query"}, "only"),
        ({"steps": 0}, "one step"),
        ({"heads": "key", "variant": "atp", "verify": 2}, "leave out verify"),
        ({"metric": "probabilty"}, "did you mean 'probability'"),
    ],
)
def test_mistakes_get_a_sentence(tiny, settings, message):
    with pytest.raises(WorkbenchError, match=message):
        attribution_patching(tiny, _known(tiny), corruption=Noise(samples=1), **settings)
