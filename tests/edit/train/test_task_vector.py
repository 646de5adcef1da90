"""Task-vector negation: the learned change, scaled and turned round."""

from __future__ import annotations

import pytest
import torch

from tests.edit.requests import request
from tests.edit.train.forgotten import QUICK, answers_of_demo
from workbench.edit.edit import outside
from workbench.edit.train.lessons import to_forget
from workbench.edit.train.task_vector import TaskVectorConfig, task_vector
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet, Request
from workbench.models.components import ComponentSet

FAST = {"steps": 3, "lr": 1e-2, "batch": 99}
MLP = ComponentSet.parse("mlp.1")


def forget_nll(model):
    """Mean over tokens, one sequence at a time."""
    every, _ = to_forget(model, request())
    lost, n = 0.0, 0
    for ids, start in zip(every.sequences, every.starts, strict=True):
        logits = model.hf(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
        for t in range(start, len(ids)):
            lost, n = lost - float(logits[t - 1, ids[t]]), n + 1
    return lost / n


def learned(model, steps, lr):
    """Learn the forget answers with plain AdamW; return the change of the MLP's parameters."""
    every, _ = to_forget(model, request())
    copy = model.fork()
    names = model.structure.layers[1].mlp_names
    own = {n: torch.nn.Parameter(model.parameters[n].clone()) for n in names}
    optimiser = torch.optim.AdamW(own.values(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        lost = []
        for ids, start in zip(every.sequences, every.starts, strict=True):
            tokens = torch.tensor([ids])
            logits = torch.func.functional_call(copy.hf, own, (tokens,)).logits[0, start - 1 : -1]
            lost.append(
                torch.nn.functional.cross_entropy(logits, tokens[0, start:], reduction="sum")
            )
        optimiser.zero_grad()
        (sum(lost) / every.n_tokens).backward()
        torch.nn.utils.clip_grad_norm_(own.values(), 1.0)
        optimiser.step()
        schedule.step()
    return {n: (p - model.parameters[n]).detach() for n, p in own.items()}


def test_the_learned_change_is_turned_round(tiny):
    found = task_vector(tiny, request(), MLP, TaskVectorConfig(**FAST, alpha=1.0)).delta.updates
    expected = learned(tiny, FAST["steps"], FAST["lr"])
    assert set(found) == set(expected)
    for name, change in expected.items():
        torch.testing.assert_close(found[name].dense(), -change, atol=2e-5, rtol=1e-3)


def test_alpha_scales_exactly(tiny):
    one, more = (
        task_vector(tiny, request(), MLP, TaskVectorConfig(**FAST, alpha=a)).delta.updates
        for a in (1.0, 2.5)
    )
    assert all(torch.equal(more[n].dense(), 2.5 * one[n].dense()) for n in one)


def test_one_way_learns_and_the_other_forgets(tiny):
    found = task_vector(tiny, request(), MLP, TaskVectorConfig(**FAST))
    base = forget_nll(tiny)
    assert found.steps["forget_loss"][0] == pytest.approx(base, rel=1e-4)
    assert forget_nll(found.model) > base + 0.1
    assert forget_nll(tiny.with_delta(found.delta * -1.0)) < base - 0.1


def test_only_the_components_change(family_model):
    chosen = ComponentSet.parse("neuron.1.3-5, head.2.0")
    found = task_vector(family_model, request(), chosen, TaskVectorConfig(**FAST))
    assert not outside(family_model, found.model, chosen)
    assert found.failed is None


def test_the_same_seed_gives_the_same_edit(tiny):
    config = TaskVectorConfig(**FAST | {"batch": 1}, seed=1)
    one, again = (task_vector(tiny, request(), MLP, config).delta.updates for _ in range(2))
    other = task_vector(tiny, request(), MLP, TaskVectorConfig(**FAST | {"batch": 1}, seed=2))
    assert all(torch.equal(one[n].dense(), again[n].dense()) for n in one)
    assert any(not torch.equal(one[n].dense(), other.delta.updates[n].dense()) for n in one)


def test_nothing_needs_to_be_retained(tiny):
    alone = Request(forget=FactSet(request().forget.facts))
    assert task_vector(tiny, alone, MLP, TaskVectorConfig(**FAST)).failed is None
    with pytest.raises(WorkbenchError, match="alpha must be positive"):
        task_vector(tiny, alone, MLP, TaskVectorConfig(**FAST, alpha=0.0))


def test_the_bundled_model_forgets():
    config = TaskVectorConfig(**QUICK | {"steps": 5, "lr": 3e-4})
    answers_of_demo(task_vector, "mlp.0-5, attn.0-5", config)
