"""RepSelect: the collapse against an explicit SVD, the adversary, and the search of the line."""

from __future__ import annotations

import math

import pytest
import torch

from tests.edit.requests import request
from tests.edit.train.forgotten import SMALL, answers_of_demo
from workbench.edit.edit import outside
from workbench.edit.train.lessons import lessons
from workbench.edit.train.loop import Student, drawn
from workbench.edit.train.rep_select import (
    RepSelectConfig,
    collapse_both,
    elicited_gradients,
    mlp_matrices,
    rep_select,
)
from workbench.errors import WorkbenchError
from workbench.models.components import ComponentSet

FAST = {"kept": 4, "neutral": 2, "tries": 14, "directions": 3, "budget": 0.05}
MLP = ComponentSet.parse("mlp.0-1")


@pytest.fixture
def gradient():
    return torch.randn(7, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("kind, power", [("soft", 1), ("quadratic", 2), ("hard", math.inf)])
@pytest.mark.parametrize("turned", [False, True])
def test_the_collapse_by_an_explicit_svd(gradient, kind, power, turned):
    g = gradient.T if turned else gradient
    u, s, vh = torch.linalg.svd(g, full_matrices=False)
    share = s[2] / s[:3]
    top = torch.zeros(3).double() if math.isinf(power) else s[:3] * share ** (2 * power)
    expected = u @ torch.diag(torch.cat([top, s[3:]])) @ vh  # once for each side
    torch.testing.assert_close(collapse_both(g, 3, kind, 0), expected)
    if kind == "soft":  # the smallest of the top directions is left as it is, the first is last
        assert top[0] < top[1] < top[2]
        assert float(top[2]) == pytest.approx(float(s[2]))


def test_the_hard_collapse_leaves_nothing_along_the_top_directions(gradient):
    u, _, vh = torch.linalg.svd(gradient)
    left = collapse_both(gradient, 4, "hard", 0)
    assert float((left @ vh[:4].T).abs().max()) < 1e-12
    assert float((u[:, :4].T @ left).abs().max()) < 1e-12
    assert float(left.norm()) > 0.1
    assert float(collapse_both(gradient, 99, "hard", 0).norm()) < 1e-12


def plain_gradients(model, names, every):
    """Of the mean over answer tokens, one sequence at a time."""
    own = {n: model.parameters[n].clone().requires_grad_(True) for n in names}
    lost = 0.0
    for ids, start in zip(every.sequences, every.starts, strict=True):
        tokens = torch.tensor([ids])
        logits = torch.func.functional_call(model.hf, own, (tokens,)).logits[0, start - 1 : -1]
        lost += torch.nn.functional.cross_entropy(logits, tokens[0, start:], reduction="sum")
    return dict(zip(names, torch.autograd.grad(lost / every.n_tokens, own.values()), strict=True))


def test_without_an_adversary_it_is_the_plain_gradient(family_model):
    student = Student.of(family_model, MLP)
    forget = lessons(family_model, request(), most=4, neutral=2).forget
    names = mlp_matrices(student)
    found = elicited_gradients(student, names, forget, RepSelectConfig(adversary_lr=0.0))
    for name, g in plain_gradients(family_model, names, forget).items():
        torch.testing.assert_close(found[name], g, atol=1e-5, rtol=1e-3)


def test_the_adversary_is_a_low_rank_step_downhill(tiny):
    """Against wrapped matrices W + B A, whose factors autograd differentiates."""
    student = Student.of(tiny, ComponentSet.parse("mlp.1"))
    names = mlp_matrices(student)
    forget = lessons(tiny, request(), most=4, neutral=2).forget
    rate, config = 0.5, RepSelectConfig(adversary_lr=0.5, adversary_rank=2, batch=2, seed=3)
    found = elicited_gradients(student, names, forget, config)
    assert all(torch.equal(student.trained[n], tiny.parameters[n]) for n in names)

    generator = torch.Generator().manual_seed(3)
    a, b = {}, {}
    for name in names:
        rows, columns = tiny.parameters[name].shape
        a[name] = (torch.rand(2, columns, generator=generator) * 2 - 1) / math.sqrt(columns)
        b[name] = torch.zeros(rows, 2)
    order = drawn(len(forget), 2, 3)
    for _ in range(2):
        for value in (*a.values(), *b.values()):
            value.requires_grad_(True)
        put = {n: tiny.parameters[n] + b[n] @ a[n] for n in names}
        part, lost = forget.take(next(order)), 0.0
        for ids, start in zip(part.sequences, part.starts, strict=True):
            tokens = torch.tensor([ids])
            logits = torch.func.functional_call(tiny.hf, put, (tokens,)).logits[0, start - 1 : -1]
            lost += torch.nn.functional.cross_entropy(logits, tokens[0, start:], reduction="sum")
        factors = [*a.values(), *b.values()]
        grads = torch.autograd.grad(lost / part.n_tokens, factors)
        moved = [(v - rate * g).detach() for v, g in zip(factors, grads, strict=True)]
        a, b = (dict(zip(names, half, strict=True)) for half in (moved[:3], moved[3:]))
    model = tiny.fork()
    model.__dict__["parameters"] = {n: tiny.parameters[n] + b[n] @ a[n] for n in names}
    for name, g in plain_gradients(model, names, forget).items():
        torch.testing.assert_close(found[name], g, atol=1e-5, rtol=1e-3)
        plain = plain_gradients(tiny, names, forget)[name]
        assert float((found[name] - plain).norm() / plain.norm()) > 1e-2


def kl_by_hand(base, edited, every):
    total = 0.0
    for ids, start in zip(every.sequences, every.starts, strict=True):
        p, q = (
            m.hf(torch.tensor([ids]), use_cache=False).logits[0, start - 1 : -1].log_softmax(-1)
            for m in (base, edited)
        )
        total += float((p.exp() * (p - q)).sum())
    return total / every.n_tokens


def test_it_goes_as_far_as_the_budget_allows_and_forgets(tiny):
    found = rep_select(tiny, request(), MLP, RepSelectConfig(**FAST))
    taught = lessons(tiny, request(), most=4, neutral=2)
    moved = kl_by_hand(tiny, found.model, taught.retain + taught.neutral)
    assert 0.9 * FAST["budget"] < moved <= 1.001 * FAST["budget"]
    assert found.target_log_probability[1] < found.target_log_probability[0]
    within = found.steps[found.steps["disruption"] <= FAST["budget"]]
    beyond = found.steps[found.steps["disruption"] > FAST["budget"]]
    assert within["length"].max() < beyond["length"].min()
    assert within["disruption"].max() == pytest.approx(moved, rel=1e-3)


def test_the_update_is_the_collapsed_gradient_scaled(tiny):
    config = RepSelectConfig(**FAST, adversary_lr=0.0)
    found = rep_select(tiny, request(), MLP, config).delta.updates
    student = Student.of(tiny, MLP)
    names = mlp_matrices(student)
    forget = lessons(tiny, request(), most=4, neutral=2).forget
    line = {
        n: collapse_both(g, 3, "soft", 0) for n, g in plain_gradients(tiny, names, forget).items()
    }
    own = {n: found[n].dense() for n in names}
    flat, own = (torch.cat([t[n].flatten() for n in names]) for t in (line, own))
    assert float(torch.cosine_similarity(flat, own, dim=0)) == pytest.approx(1, abs=1e-4)


def test_only_matrices_of_chosen_mlps_change(family_model):
    chosen = ComponentSet.parse("attn.0, mlp.1, neuron.2.3-9")
    found = rep_select(family_model, request(), chosen, RepSelectConfig(**FAST))
    assert not outside(family_model, found.model, ComponentSet.parse("mlp.1, neuron.2.3-9"))
    assert {u.dense().ndim for u in found.delta.updates.values()} == {2}
    with pytest.raises(WorkbenchError, match="matrices of MLPs"):
        rep_select(family_model, request(), ComponentSet.parse("attn.0"), RepSelectConfig(**FAST))


def test_the_same_seed_gives_the_same_edit(tiny):
    config = RepSelectConfig(**FAST, seed=1, adversary_lr=0.5)
    one, again = (rep_select(tiny, request(), MLP, config).delta.updates for _ in range(2))
    assert all(torch.equal(one[n].dense(), again[n].dense()) for n in one)


@pytest.mark.parametrize(
    "wrong", [{"budget": 0.0}, {"collapse": "harsh"}, {"directions": 0}, {"adversary_lr": -1.0}]
)
def test_settings_that_make_no_sense_are_refused(tiny, wrong):
    with pytest.raises(WorkbenchError, match=next(iter(wrong))):
        rep_select(tiny, request(), MLP, RepSelectConfig(**FAST | wrong))


def test_the_bundled_model_forgets():
    config = RepSelectConfig(**SMALL, tries=9, budget=0.3, directions=4)
    answers_of_demo(rep_select, "mlp.0-3", config)
