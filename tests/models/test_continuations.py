"""Likelihoods of continuations against one plain pass over each whole sequence."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.models.continuations import Likelihood, likelihoods
from workbench.models.model import Model

IDS = st.lists(st.integers(5, 60), min_size=1, max_size=7).map(tuple)


def alone(model: Model, head: tuple[int, ...], tail: tuple[int, ...]) -> tuple[float, int]:
    with torch.no_grad():
        logits = model.hf(input_ids=torch.tensor([[*head, *tail]])).logits[0]
    scores = logits.double().log_softmax(-1)
    total = sum(float(scores[len(head) - 1 + i, token]) for i, token in enumerate(tail))
    return total, 1 + int((scores[len(head) - 1] > scores[len(head) - 1, tail[0]]).sum())


def check(model: Model, pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    found = likelihoods(model, [h for h, _ in pairs], [t for _, t in pairs])
    for (head, tail), one in zip(pairs, found, strict=True):
        total, rank = alone(model, head, tail)
        assert one.log_probability == pytest.approx(total, rel=1e-4, abs=1e-4)
        assert abs(one.rank - rank) <= 1  # two logits may be as close as a rounding


def test_every_family(family_model: Model):
    heads = [(7, 8, 9, 10), (11,), (7, 8, 9, 10), (12, 13)]
    tails = [(20, 21, 22), (23,), (24,), (25, 26, 27, 28)]
    check(family_model, list(zip(heads, tails, strict=True)))


@given(pairs=st.lists(st.tuples(st.sampled_from([(5, 6, 7), (8,), (9, 10)]), IDS), max_size=9))
def test_any_mixture_of_shared_beginnings(tiny: Model, pairs):
    check(tiny, pairs)


def test_large_groups_are_split(tiny: Model, monkeypatch: pytest.MonkeyPatch):
    pairs = [((5 + i % 3, 6), (20 + i, *range(30, 30 + i % 4))) for i in range(12)]
    whole = likelihoods(tiny, *zip(*pairs, strict=True))
    monkeypatch.setattr("workbench.models.continuations._TOKENS", 8)
    monkeypatch.setattr("workbench.models.continuations.LOGIT_BUDGET", 1)
    for a, b in zip(whole, likelihoods(tiny, *zip(*pairs, strict=True)), strict=True):
        assert a.log_probability == pytest.approx(b.log_probability, rel=1e-5)


def test_a_beginning_is_run_once(tiny: Model):
    seen: list[int] = []
    hook = tiny.hf.base_model.register_forward_hook(
        lambda _m, _a, kwargs, _o: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        likelihoods(tiny, [(5, 6, 7, 8)] * 4, [(20,), (21,), (22,), (23, 24)])
    finally:
        hook.remove()
    assert seen == [4, 1]


def test_nothing_and_too_much(tiny: Model):
    assert likelihoods(tiny, [], []) == []
    with pytest.raises(WorkbenchError, match="shorten them"):
        likelihoods(tiny, [tuple([5] * tiny.n_ctx)], [(6,)])
    assert Likelihood(0.0, 1).probability == 1.0
