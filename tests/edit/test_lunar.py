"""LUNAR: the direction, the choice of a layer, and the fit of one matrix."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch

from tests.edit.requests import request
from tests.edit.test_covariance import keys_of
from tests.edit.test_rome import answers
from workbench.edit import lunar as lunar_module
from workbench.edit.covariance import covariances
from workbench.edit.edit import outside
from workbench.edit.lunar import LunarConfig, directions, lunar, prompts_in, refusal_chances
from workbench.edit.matrix import matrices
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet, Replace
from workbench.facts.request_files import load_request
from workbench.models.components import ComponentSet
from workbench.models.load import load
from workbench.models.text import encode

CONFIG = LunarConfig(samples=1, kept=1)


def stream_of(model, layer, prompts):
    """The stream behind a block at each prompt's last token, through the bridge."""
    hook = f"blocks.{layer}.hook_resid_post"
    return torch.stack([keys_of(model, hook, [encode(model, p)])[-1] for p in prompts])


def test_the_direction_is_the_difference_of_means(family_model):
    asked = request()
    groups = matrices(family_model.structure, ComponentSet.parse("mlp.0, mlp.2"))
    found = directions(family_model, asked, groups, most=99, seed=0)
    assert list(found) == [0, 2]
    for layer, direction in found.items():
        refused = stream_of(family_model, layer, prompts_in(asked.unknown)).mean(0)
        forget = stream_of(family_model, layer, prompts_in(asked.forget)).mean(0)
        torch.testing.assert_close(direction.double(), refused - forget, atol=1e-4, rtol=1e-4)
    fewer = directions(family_model, asked, groups, most=2, seed=0)[0]
    assert not torch.allclose(fewer, found[0])


@pytest.mark.parametrize("positions", ["all", "last"])
def test_the_fit_is_the_least_squares_one(family_model, positions, monkeypatch):
    """The slope of |Delta X - D|^2 + n preserve tr(Delta C Delta^T) is zero."""
    # What is asked before a norm (Gemma-2) differs from token to token; here it does not.
    monkeypatch.setattr(lunar_module, "before_norm", lambda norm, y, change: change)
    asked, components = request(), ComponentSet.parse("mlp.1")
    config = replace(CONFIG, positions=positions, preserve=2.0)
    made = lunar(family_model, asked, components, config)
    (group,) = matrices(family_model.structure, components)
    writer = group.writer
    (usual,) = covariances(
        family_model, asked, [group], samples=1, kept=1, ridge=config.ridge, seed=0
    ).values()
    prompts = [encode(family_model, p) for p in prompts_in(asked.forget)]
    keys = [keys_of(family_model, writer.input_hook, [ids]) for ids in prompts]
    x = torch.cat(keys if positions == "all" else [k[-1:] for k in keys])
    r = directions(family_model, asked, [group], most=128, seed=0)[1].double()
    update = made.delta.updates[writer.parameter].dense().double()
    update = update.T if writer.transposed else update
    own = (x @ update.T - config.coefficient * r).T @ x
    kept = len(x) * 2.0 * update @ usual.second
    assert (own + kept).norm() < 1e-3 * kept.norm()
    assert made.steps["forget_keys"][0] == len(x)


def test_only_the_chosen_matrix_changes(family_model):
    components = ComponentSet.parse("mlp.1-2")
    pointers = {k: v.data_ptr() for k, v in family_model.parameters.items()}
    made = lunar(family_model, request(), components, CONFIG)
    (parameter,) = made.delta.updates
    assert parameter == made.steps["parameter"][0]
    assert made.failed is None and not outside(family_model, made.model, components)
    for name, tensor in made.model.parameters.items():
        assert (tensor.data_ptr() == pointers[name]) == (name != parameter)


def test_chances_are_those_of_plain_hooks(family_model):
    asked = request(("Ada Brook",))
    torch.manual_seed(0)
    push = torch.randn(family_model.d_model)
    found = refusal_chances(family_model, asked, {0: push, 2: 0 * push})
    for layer, vector in ((0, push), (2, 0 * push)):
        losses = []
        for prompt in prompts_in(asked.forget):
            ids, whole = (encode(family_model, t) for t in (prompt, prompt + " I do not know."))

            def add(stream, hook, ids=ids, vector=vector):
                stream[:, : len(ids)] += vector
                return stream

            with torch.no_grad():
                logits = family_model.bridge.run_with_hooks(
                    torch.tensor([whole]), fwd_hooks=[(f"blocks.{layer}.hook_resid_post", add)]
                )[0]
            at = torch.arange(len(ids), len(whole))
            own = logits.log_softmax(-1)[at - 1, torch.tensor(whole)[at]]
            losses.append(-float(own.mean()))
        expected = math.exp(-sum(losses) / len(losses))
        assert found[layer] == pytest.approx(expected, rel=1e-3)


def test_the_best_layer_is_the_likeliest_to_refuse(tiny, monkeypatch):
    monkeypatch.setattr(lunar_module, "refusal_chances", lambda *a, **kw: {0: 0.1, 1: 0.9, 2: 0.4})
    made = lunar(tiny, request(), ComponentSet.parse("mlp.0-2"), CONFIG)
    assert made.steps["layer"][0] == 1 and made.steps["refusal_chance"][0] == 0.9
    monkeypatch.setattr(lunar_module, "refusal_chances", lambda *a, **kw: pytest.fail("tried"))
    for which, layer in (("first", 0), ("middle", 1), ("last", 2)):
        config = replace(CONFIG, layer=which)
        made = lunar(tiny, request(), ComponentSet.parse("mlp.0-2"), config)
        assert made.steps["layer"][0] == layer


def test_bad_input(tiny):
    components = ComponentSet.parse("mlp.1")
    with pytest.raises(WorkbenchError, match="LUNAR edits whole MLPs, not neuron"):
        lunar(tiny, request(), ComponentSet.parse("neuron.1.3"), CONFIG)
    with pytest.raises(WorkbenchError, match="give the request an `unknown` set"):
        lunar(tiny, replace(request(), unknown=FactSet()), components, CONFIG)
    foiled = FactSet(tuple(replace(f, foil=" golf") for f in request().forget))
    with pytest.raises(WorkbenchError, match="sends facts to a refusal"):
        lunar(tiny, replace(request(), forget=foiled, behaviour=Replace()), components, CONFIG)
    with pytest.raises(WorkbenchError, match="did you mean 'best'"):
        lunar(tiny, request(), components, replace(CONFIG, layer="bset"))
    with pytest.raises(WorkbenchError, match="coefficient must be positive"):
        lunar(tiny, request(), components, replace(CONFIG, coefficient=0.0))


def test_settings_are_all_explained():
    text = LunarConfig.__doc__ or ""
    assert all(f"        {f.name}: " in text for f in fields(LunarConfig))


def test_a_trained_model_refuses_what_it_knew():
    model, asked = load("demo"), load_request("athletes-1")
    asked = replace(asked, forget=FactSet(asked.forget.facts[:2]))
    config = LunarConfig(samples=1, kept=20)
    made = lunar(model, asked, ComponentSet.parse("mlp.3-4"), config)
    prompts = [f.prompt for f in asked.forget]
    said = answers(made.model, prompts)
    assert not any(a == f.target for a, f in zip(said, asked.forget, strict=True))
