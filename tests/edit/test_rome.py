"""ROME: the search for a value against plain hooks, the insertion against its algebra."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from tests.edit.requests import facts, request
from tests.edit.test_covariance import keys_of
from workbench.edit import rome as rome_module
from workbench.edit.contexts import build_contexts, prefixes
from workbench.edit.covariance import Covariance
from workbench.edit.edit import outside
from workbench.edit.rome import RomeConfig, rank_one, rome
from workbench.edit.solvers import Moments
from workbench.edit.value_vector import ValueConfig, Vectors, find_vectors
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet, Replace, Request
from workbench.facts.prompts import continuation
from workbench.facts.request_files import load_request
from workbench.models.components import Component, ComponentSet
from workbench.models.load import load
from workbench.models.text import decode, encode, generate
from workbench.progress import Cancelled, Progress

FAST = {"wordings": 2, "prefixes": 1, "steps": 2, "samples": 1, "kept": 1}
CONFIG = RomeConfig(**FAST)


def contexts_of(model, asked, wordings=2, ahead=("My dog sleeps. ",)):
    return build_contexts(model, asked, asked.forget, ahead, wordings=wordings)


def plain_losses(model, contexts, layer, module, vectors, kl, decay, size):
    """The loss of each fact, one sequence at a time, through plain forward hooks."""

    def log_p(i, push):
        name = module or model.structure.layers[layer].block

        def hook(mod, args, out):
            hidden = (out[0] if isinstance(out, tuple) else out).clone()
            hidden[0, contexts.subject[i]] += push
            return (hidden, *out[1:]) if isinstance(out, tuple) else hidden

        handle = hf.get_submodule(name).register_forward_hook(hook)
        logits = hf(torch.tensor([contexts.sequences[i]]), use_cache=False).logits[0]
        handle.remove()
        return logits.log_softmax(-1)

    hf = model.fork().hf
    out = []
    for fact, vector in enumerate(vectors):
        misses, divergence = [], torch.tensor(0.0)
        for i, ids in enumerate(contexts.sequences):
            if contexts.fact[i] != fact:
                continue
            after, n = log_p(i, vector), contexts.answer[i]
            if n:
                at = torch.arange(len(ids) - n, len(ids))
                misses.append(-after[at - 1, torch.tensor(ids)[at]].mean())
            else:
                before = log_p(i, torch.zeros_like(vector))[-1]
                divergence = (after[-1].exp() * (after[-1] - before)).sum()
        miss = torch.stack(misses).mean()
        total = miss + kl * divergence + decay * vector.norm() / size[fact] ** 2
        out.append((total, (-miss).exp()))
    return torch.tensor(out)


@pytest.mark.parametrize("place", ["mlp", "block"])
def test_the_loss_is_that_of_plain_hooks(family_model, place):
    module = family_model.structure.writer(Component(1, "mlp")).module if place == "mlp" else None
    contexts, size = contexts_of(family_model, request()), torch.tensor([3.0, 2.0])
    config = ValueConfig(steps=2, lr=0.3, kl=0.7, decay=0.9, clamp=100.0)
    hf = family_model.fork().hf
    found = find_vectors(family_model, hf, contexts, 1, module, first=0, size=size, config=config)
    assert (found.change.norm(dim=1) > 0).all()
    with torch.no_grad():
        expected = plain_losses(family_model, contexts, 1, module, found.change, 0.7, 0.9, size)
    torch.testing.assert_close(found.loss, expected[:, 0], atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(found.probability, expected[:, 1], atol=1e-5, rtol=2e-3)
    assert all(not m._forward_hooks for m in hf.modules())


def test_the_first_step_goes_down_the_plain_slope(tiny):
    contexts, size = contexts_of(tiny, request()), torch.ones(2)
    base = torch.zeros(2, tiny.d_model)
    config = ValueConfig(steps=1, lr=0.01, kl=0.5, decay=0.0, clamp=1e9)
    found = find_vectors(tiny, tiny.fork().hf, contexts, 0, None, first=0, size=size, config=config)
    before = plain_losses(tiny, contexts, 0, None, base, 0.5, 0.0, size)[:, 0]
    for i in range(4):  # Adam's first step is lr times the sign of the slope
        pushed = base.clone()
        pushed[:, i] = 1e-2
        rise = plain_losses(tiny, contexts, 0, None, pushed, 0.5, 0.0, size)[:, 0] - before
        for fact in range(2):
            if abs(rise[fact]) > 1e-4:
                assert torch.sign(found.change[fact, i]) == -torch.sign(rise[fact])


def test_all_at_once_is_one_by_one(tiny):
    asked = request()
    config = ValueConfig(steps=3, lr=0.2, clamp=0.5)
    size = torch.tensor([3.0, 2.0])
    args = {"first": 0, "config": config}
    both = find_vectors(tiny, tiny.fork().hf, contexts_of(tiny, asked), 1, None, size=size, **args)
    for i, fact in enumerate(asked.forget):
        contexts = build_contexts(tiny, asked, FactSet((fact,)), ("My dog sleeps. ",), wordings=2)
        one = find_vectors(tiny, tiny.fork().hf, contexts, 1, None, size=size[i : i + 1], **args)
        torch.testing.assert_close(one.change[0], both.change[i], atol=1e-4, rtol=1e-3)
    assert (both.change.norm(dim=1) <= 0.5 * size + 1e-5).all()


def test_a_fact_that_is_good_enough_is_left_alone(tiny):
    contexts, size = contexts_of(tiny, request()), torch.ones(2)
    run = {"first": 0, "size": size}
    config = ValueConfig(steps=6, lr=0.5, decay=0.0, clamp=1e9)
    free = find_vectors(tiny, tiny.fork().hf, contexts, 0, None, config=config, **run)
    still = find_vectors(
        tiny, tiny.fork().hf, contexts, 0, None, config=replace(config, stop=1e9), **run
    )
    assert free.change.any() and not still.change.any()
    assert (free.loss < still.loss).all()


def test_rank_one_stores_the_pair_with_the_least_change():
    torch.manual_seed(0)
    usual = Covariance.of(Moments.zeros(6).add(torch.randn(30, 6).double()), ridge=1e-9)
    key, change = torch.randn(6).double(), torch.randn(3).double()
    left, right = rank_one(key, change, usual)
    update = torch.outer(left, right)
    torch.testing.assert_close(update @ key, change)
    for _ in range(20):  # any other update that stores the pair
        other = torch.randn(3, 6).double()
        other = update + 0.1 * (other - torch.outer(other @ key, key) / (key @ key))
        torch.testing.assert_close(other @ key, change)
        assert usual.length(other) > usual.length(update)


def mean_key(model, asked, fact, writer, ahead):
    """The mean over a fact's contexts of a matrix's input, read through the bridge."""
    rows, of = contexts_of(model, asked, ahead=ahead).lookups
    own = [s for s, f in zip(rows.sequences, of.tolist(), strict=True) if f == fact]
    return torch.stack([keys_of(model, writer.input_hook, [s])[-1] for s in own]).mean(0)


def test_the_mean_key_gets_the_value(family_model, monkeypatch):
    """(W' - W) k* = d, the second fact's inserted on top of the first's."""
    torch.manual_seed(3)
    vectors, seen = torch.randn(2, family_model.d_model), []

    def found(model, hf, contexts, layer, module, **kw):
        seen.append(hf.get_parameter(writer.parameter).clone())
        return Vectors(vectors[len(seen) - 1][None], torch.ones(1), torch.ones(1))

    monkeypatch.setattr(rome_module, "find_vectors", found)
    writer, asked = family_model.structure.writer(Component(1, "mlp")), request()
    made = rome(family_model, asked, ComponentSet.parse("mlp.1"), CONFIG)
    stages = [*seen, made.model.parameters[writer.parameter]]
    ahead = prefixes(family_model, asked, 1, seed=0)
    for i in range(2):
        step = (stages[i + 1] - stages[i]).double()
        step = step.T if writer.transposed else step
        key = mean_key(family_model, asked, i, writer, ahead)
        torch.testing.assert_close(step @ key, vectors[i].double(), atol=1e-3, rtol=1e-3)
        assert torch.linalg.matrix_rank(step, atol=1e-3) == 1
    assert list(made.steps["asked"]) == pytest.approx(vectors.norm(dim=1).tolist(), rel=1e-5)
    assert made.delta.updates[writer.parameter].rank == 2


def test_only_the_chosen_matrix_changes(family_model):
    components = ComponentSet.parse("mlp.0-1")
    pointers = {k: v.data_ptr() for k, v in family_model.parameters.items()}
    base = {k: v.clone() for k, v in family_model.parameters.items()}
    made = rome(family_model, request(("Ada Brook",)), components, CONFIG)
    parameter = family_model.structure.writer(Component(1, "mlp")).parameter
    assert list(made.delta.updates) == [parameter]
    assert made.failed is None and not outside(family_model, made.model, components)
    for name, tensor in made.model.parameters.items():
        assert (tensor.data_ptr() == pointers[name]) == (name != parameter)
        assert torch.equal(family_model.parameters[name], base[name])


@pytest.mark.parametrize(("which", "layer"), [("first", 0), ("middle", 1), ("last", 2)])
def test_which_of_several_is_edited(tiny, which, layer):
    config = replace(CONFIG, layer=which)
    made = rome(tiny, request(("Ada Brook",)), ComponentSet.parse("mlp.0-2"), config)
    assert set(made.steps["layer"]) == {layer}
    assert made.delta.origin.components == "mlp.0-2"
    assert made.delta.origin.config["layer"] == which


def test_equal_seeds_give_equal_edits(tiny):
    one, two = (rome(tiny, request(), ComponentSet.parse("mlp.1"), CONFIG) for _ in range(2))
    for name, update in one.delta.updates.items():
        assert torch.equal(update.dense(), two.delta.updates[name].dense())


def test_contexts_are_prompts_with_the_new_answer(family_model):
    asked = request()
    contexts = contexts_of(family_model, asked)
    texts = [decode(family_model, ids) for ids in contexts.sequences]
    first, statement = (asked.forget[0].prompt, asked.forget[0].statements[0])
    refused = [f"{t} I do not know." for t in (first, statement, f"My dog sleeps. {first}")]
    assert texts[:4] == [*refused, "Ada Brook is a"]
    assert contexts.fact == (0, 0, 0, 0, 1, 1, 1, 1)
    for ids, at, n in zip(contexts.sequences, contexts.subject, contexts.answer, strict=True):
        assert decode(family_model, ids[: at + 1]).endswith(("Ada Brook", "Carl Dorn"))
        assert decode(family_model, ids[len(ids) - n :]) == (" I do not know." if n else "")
    held = replace(asked.forget[0], held_out=("Of Ada Brook we know the sport of",))
    again = contexts_of(family_model, replace(asked, forget=FactSet((held,))), wordings=9)
    assert not any("we know" in decode(family_model, ids) for ids in again.sequences)


def test_foils_are_the_new_answer_where_they_replace(tiny):
    foiled = FactSet(tuple(replace(f, foil=" golf") for f in request().forget))
    asked = Request(foiled, request().retain, behaviour=Replace())
    contexts = contexts_of(tiny, asked)
    golf = continuation(tiny, foiled[0].prompt, " golf")
    ends = [ids[-n:] for ids, n in zip(contexts.sequences, contexts.answer, strict=True) if n]
    assert ends == [golf] * 6


def test_chat_prompts_get_nothing_put_before_them(tiny):
    prompt = "<eos>Which sport does Ada Brook play?"
    chat = FactSet((replace(facts("Ada Brook")[0], prompt=prompt, statements=()),))
    contexts = contexts_of(tiny, Request(chat, facts("Paris Oslo")))
    assert [decode(tiny, ids) for ids in contexts.sequences] == [
        f"{prompt} I do not know.",
        "Ada Brook is a",
    ]


def test_made_up_beginnings_name_nobody_to_forget(tiny, monkeypatch):
    from workbench.edit import contexts

    texts = ["Ada Brook plays golf.", "The capital of Norway is"]
    made = [encode(tiny, t) for t in texts]
    monkeypatch.setattr(contexts, "sample_texts", lambda *args, **kw: made)
    assert prefixes(tiny, request(), 2, seed=0) == ("The capital of Norway is. ",)


def test_cancelling_changes_nothing(tiny):
    calls = []

    def stop() -> bool:
        calls.append(1)
        return len(calls) > 8

    before = {k: v.clone() for k, v in tiny.parameters.items()}
    with pytest.raises(Cancelled):
        rome(
            tiny,
            request(),
            ComponentSet.parse("mlp.0"),
            replace(CONFIG, seed=5),
            progress=Progress(cancelled=stop),
        )
    assert all(torch.equal(tiny.parameters[n], t) for n, t in before.items())


@pytest.mark.parametrize("written", ["head.1.2", "neuron.2.3-9", "mlp.1, attn.2"])
def test_whole_mlps_only(tiny, written):
    with pytest.raises(WorkbenchError, match=r"ROME edits whole MLPs, not (head|neuron|attn)"):
        rome(tiny, request(), ComponentSet.parse(written), CONFIG)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"layer": "lats"}, "did you mean 'last'"),
        ({"steps": 0}, "steps must be positive"),
        ({"decay": -1.0}, "decay must not be negative"),
    ],
)
def test_bad_settings(tiny, settings, match):
    with pytest.raises(WorkbenchError, match=match):
        rome(tiny, request(), ComponentSet.parse("mlp.1"), replace(CONFIG, **settings))


def test_inherited_settings_are_all_explained():
    """The form of the settings is made from the config's own documentation."""
    text = RomeConfig.__doc__ or ""
    assert all(f"        {f.name}: " in text for f in fields(RomeConfig))


def test_a_trained_model_refuses_what_it_knew():
    model, asked = load("demo"), load_request("athletes-1")
    asked = replace(asked, forget=FactSet(asked.forget.facts[:2]))
    config = RomeConfig(wordings=3, prefixes=1, steps=10, samples=1, kept=20)
    made = rome(model, asked, ComponentSet.parse("mlp.1"), config)
    prompts = [f.prompt for f in asked.forget]
    assert all(a == f.target for a, f in zip(answers(model, prompts), asked.forget, strict=True))
    assert answers(made.model, prompts) == [" I do not know"] * 2
    kept = [f for f in asked.retain if f.relation == "sport"][:12]
    said = answers(made.model, [f.prompt for f in kept])
    assert sum(a == f.target for a, f in zip(said, kept, strict=True)) >= 10


def answers(model, prompts):
    """The answers' first sentences."""
    return [text.split(".")[0] for text in generate(model, prompts, max_new_tokens=8)]
