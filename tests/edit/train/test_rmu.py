"""RMU: where the stream is read, the loss by hand, and what it may change."""

from __future__ import annotations

import pytest
import torch

from tests.edit.requests import request
from tests.edit.train.forgotten import QUICK, answers_of_demo
from workbench.edit.edit import outside
from workbench.edit.train.lessons import lessons
from workbench.edit.train.rmu import (
    RmuConfig,
    all_states,
    random_direction,
    rmu,
    states,
    steered_layer,
)
from workbench.errors import WorkbenchError
from workbench.models.components import ComponentSet

FAST = {"steps": 3, "lr": 1e-2, "retain_batch": 3, "kept": 4, "neutral": 2}
MLP = ComponentSet.parse("mlp.0-1")


def taught(model):
    return lessons(model, request(), most=FAST["kept"], neutral=FAST["neutral"])


def by_hand(model, every, layer, first=None):
    """Streams after a layer, one sequence at a time, from the model's own list of them."""
    out, hf = [], model.fork().hf  # the list is made by hooks, which stay
    for ids, start in zip(every.sequences, every.starts, strict=True):
        run = hf(torch.tensor([ids]), output_hidden_states=True, use_cache=False)
        begin = start if first is None else first
        out.append(run.hidden_states[layer + 1][0, begin - 1 : len(ids) - 1])
    return torch.cat(out)


def test_the_stream_is_read_where_the_answer_is_predicted(family_model):
    every = taught(family_model).forget
    for layer in (0, 1):  # behind the last layer the model lists the normalised stream
        expected = by_hand(family_model, every, layer)
        torch.testing.assert_close(states(family_model, every, layer), expected)
        torch.testing.assert_close(all_states(family_model, every, layer), expected)


def test_nothing_above_the_layer_is_run_and_no_hook_stays(tiny):
    ran = []
    blocks = [tiny.hf.get_submodule(layer.block) for layer in tiny.structure.layers]
    before = [len(m._forward_hooks) for m in tiny.hf.modules()]
    handles = [b.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, b in enumerate(blocks)]
    every = taught(tiny).forget
    ran.clear()  # gathering them runs the model, unless they were kept
    try:
        states(tiny, every, 1)
    finally:
        for handle in handles:
            handle.remove()
    assert ran == [0, 1]
    assert [len(m._forward_hooks) for m in tiny.hf.modules()] == before


def test_the_direction_is_uniform_of_length_one_and_seeded():
    u = random_direction(4000, 3)
    assert float(u.norm()) == pytest.approx(1)
    assert float(u.min()) >= 0
    # A uniform variable's standard deviation is 1 / sqrt(3) of its mean.
    assert float(u.std() / u.mean()) == pytest.approx(3**-0.5, abs=0.02)
    assert torch.equal(u, random_direction(4000, 3))
    assert not torch.equal(u, random_direction(4000, 4))


@pytest.mark.parametrize("tokens", ["answer", "all"])
def test_the_first_losses_by_hand(tiny, tokens):
    config = RmuConfig(**FAST, coefficient=3.0, tokens=tokens, batch=99, seed=5)
    found = rmu(tiny, request(), MLP, config)
    every = lessons(tiny, request(), most=4, neutral=2, seed=5).forget
    h = by_hand(tiny, every, 1, first=None if tokens == "answer" else 1)
    target = 3.0 * h.norm(dim=1).mean() * random_direction(tiny.d_model, 5)
    expected = ((h - target) ** 2).mean()
    assert found.steps["forget_loss"][0] == pytest.approx(float(expected), rel=1e-4)
    assert found.steps["retain_loss"][0] == pytest.approx(0, abs=1e-6)
    assert (found.steps["retain_loss"][1:] > 1e-4).all()


def test_the_target_is_approached_and_the_rest_held(tiny):
    every = taught(tiny)
    kept = every.retain + every.neutral
    target = by_hand(tiny, every.forget, 1).norm(dim=1).mean() * random_direction(tiny.d_model, 0)

    def distances(alpha):
        config = RmuConfig(**FAST | {"steps": 25, "retain_batch": 99}, retain_weight=alpha)
        edited = rmu(tiny, request(), MLP, config).model
        far = (by_hand(edited, every.forget, 1) - target).norm()
        return float(far), float((by_hand(edited, kept, 1) - by_hand(tiny, kept, 1)).norm())

    before = float((by_hand(tiny, every.forget, 1) - target).norm())
    (near, moved), (_, held) = distances(0.0), distances(10.0)
    assert near < 0.8 * before
    assert held < 0.6 * moved


def test_only_chosen_components_up_to_the_layer_change(family_model):
    chosen = ComponentSet.parse("neuron.0.2-9, head.1.1, mlp.2")
    found = rmu(family_model, request(), chosen, RmuConfig(**FAST, layer=1))
    assert not outside(family_model, found.model, ComponentSet.parse("neuron.0.2-9, head.1.1"))
    masks = family_model.structure.masks(chosen, family_model.parameters)
    assert any((u.dense() != 0).any() for n, u in found.delta.updates.items() if n in masks)


def test_the_same_seed_gives_the_same_edit(tiny):
    one, again, other = (
        rmu(tiny, request(), MLP, RmuConfig(**FAST, seed=seed)).delta.updates for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[n].dense(), again[n].dense()) for n in one)
    assert any(not torch.equal(one[n].dense(), other[n].dense()) for n in one)


def test_a_layer_that_nothing_reaches_is_refused(tiny):
    assert steered_layer(tiny, ComponentSet.parse("mlp.0, attn.1"), None) == 1
    for layer in (0, 3, -1):
        with pytest.raises(WorkbenchError, match=f"Layer {layer} cannot be steered"):
            rmu(tiny, request(), ComponentSet.parse("mlp.1"), RmuConfig(**FAST, layer=layer))
    with pytest.raises(WorkbenchError, match="tokens to steer"):
        rmu(tiny, request(), MLP, RmuConfig(**FAST, tokens="some"))
    with pytest.raises(WorkbenchError, match="coefficient"):
        rmu(tiny, request(), MLP, RmuConfig(**FAST, coefficient=0.0))


def test_the_bundled_model_forgets():
    answers_of_demo(rmu, "mlp.0-3", RmuConfig(**QUICK))
