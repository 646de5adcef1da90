"""Each loss against numbers worked out by hand, and its gradient against finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from workbench.edit.train.examples import Answers
from workbench.edit.train.flat import DIVERGENCES, flat_loss
from workbench.edit.train.losses import (
    answer_log_probs,
    kl,
    label_log_probs,
    log_one_minus_p,
    means,
    nll,
    preference,
    sums,
)
from workbench.edit.train.undial import lowered
from workbench.edit.train.wga import weighted_ascent

HALF, FIFTHS = math.log(0.5), math.log(0.6)


def two_tokens(rows=(0, 0)) -> Answers:
    """Two answer tokens among three words, with probabilities 1/2 and 3/5."""
    logits = torch.tensor([[2.0, 1.0, 1.0], [1.0, 3.0, 1.0]], dtype=torch.float64).log()
    return Answers(logits, torch.tensor([0, 1]), torch.tensor(rows), max(rows) + 1)


def other(logits: torch.Tensor, like: Answers) -> Answers:
    return Answers(logits, like.labels, like.row, like.rows)


def test_log_probabilities_of_tokens_and_of_answers() -> None:
    one, two = two_tokens(), two_tokens((0, 1))
    assert label_log_probs(one).tolist() == pytest.approx([HALF, FIFTHS])
    assert answer_log_probs(one).tolist() == pytest.approx([HALF + FIFTHS])
    assert answer_log_probs(two).tolist() == pytest.approx([HALF, FIFTHS])
    assert means(label_log_probs(one), one).tolist() == pytest.approx([(HALF + FIFTHS) / 2])
    assert sums(torch.tensor([3.0, 4.0]), two).tolist() == [3.0, 4.0]
    assert float(nll(one)) == pytest.approx(-(HALF + FIFTHS) / 2)


def test_divergence_to_a_reference() -> None:
    said = two_tokens()
    reference = torch.tensor([[1.0, 1.0, 2.0], [1.0, 3.0, 1.0]], dtype=torch.float64)
    first = 0.25 * math.log(0.25 / 0.5) + 0.25 * math.log(1.0) + 0.5 * math.log(0.5 / 0.25)
    assert float(kl(said, reference.log())) == pytest.approx(first / 2)
    shifted = reference.log() + 7  # logits and log-probabilities are the same to it
    assert float(kl(said, shifted)) == pytest.approx(first / 2)
    assert float(kl(said, said.logits)) == pytest.approx(0)


def test_log_of_one_minus_p() -> None:
    assert log_one_minus_p(two_tokens()).tolist() == pytest.approx([math.log(0.5), math.log(0.4)])
    sure = torch.tensor([[200.0, 0.0, 0.0], [0.0, 0.0, -200.0]], requires_grad=True)
    said = Answers(sure, torch.tensor([0, 2]), torch.tensor([0, 1]), 2)
    value = log_one_minus_p(said)
    assert value.tolist() == pytest.approx([math.log(2) - 200, 0.0], abs=1e-5)
    value.sum().backward()
    assert sure.grad is not None
    assert sure.grad[0, 0] == pytest.approx(-1) and sure.grad[1, 2] == pytest.approx(0)


@pytest.mark.parametrize("beta", [0.1, 4.5])
def test_preference(beta: float) -> None:
    margins = torch.tensor([0.0, 1.5], dtype=torch.float64)
    terms = [math.log(1 / (1 + math.exp(-beta * m))) for m in margins.tolist()]
    assert float(preference(margins, beta)) == pytest.approx(-2 / beta * sum(terms) / 2)


def test_npo_is_gradient_ascent_weighted_by_what_is_left() -> None:
    """Its gradient is that of log p times 2 p^b / (p^b + p_base^b)."""
    beta, base = 0.7, torch.tensor([-1.0], dtype=torch.float64)
    said = two_tokens()
    logits = said.logits.clone().requires_grad_()
    now = answer_log_probs(other(logits, said))
    (gradient,) = torch.autograd.grad(preference(base - now, beta), logits, retain_graph=True)
    (ascent,) = torch.autograd.grad(now.sum(), logits)
    p, q = math.exp(beta * (HALF + FIFTHS)), math.exp(-beta)
    torch.testing.assert_close(gradient, 2 * p / (p + q) * ascent)


def test_weighted_ascent() -> None:
    said = two_tokens()
    by_hand = (0.5**2 * HALF + 0.6**2 * FIFTHS) / 2
    assert float(weighted_ascent(said, 2.0)) == pytest.approx(by_hand)
    assert float(weighted_ascent(said, 0.0)) == pytest.approx(-float(nll(said)))
    logits = said.logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(weighted_ascent(other(logits, said), 2.0), logits)
    chances = said.logits.softmax(-1)
    push = torch.nn.functional.one_hot(said.labels, 3) - chances  # d log p / d logits
    torch.testing.assert_close(gradient, torch.tensor([[0.25], [0.36]]) * push / 2)


def test_lowered_distribution() -> None:
    said = two_tokens()
    reference = torch.tensor([[4.0, 1.0, 1.0], [1.0, 1.0, 1.0]], dtype=torch.float64).log()
    # A quarter of the label's odds: (1, 1, 1) and (1, 1/4, 1).
    first = -(HALF + 2 * math.log(0.25)) / 3
    second = -(math.log(0.2) + 0.25 * FIFTHS + math.log(0.2)) / 2.25
    found = lowered(said, reference, math.log(4))
    assert float(found) == pytest.approx((first + second) / 2)


@pytest.mark.parametrize(
    ("name", "g", "conjugate"),
    [
        ("kl", lambda v: v, lambda u: math.exp(u - 1)),
        ("tv", lambda v: 0.5 * math.tanh(v), lambda u: u),
        ("js", lambda v: math.log(2 / (1 + math.exp(-v))), lambda u: -math.log(2 - math.exp(u))),
        ("pearson", lambda v: v, lambda u: u * u / 4 + u),
    ],
)
def test_variational_bound_of_each_divergence(name, g, conjugate) -> None:
    instead, forget = two_tokens(), two_tokens((0, 1))
    one = Answers(instead.logits.repeat(2, 1), instead.labels.repeat(2), torch.arange(4) // 2, 2)
    by_hand = [-g(0.55) + conjugate(g(p)) for p in (0.5, 0.6)]
    assert float(flat_loss(one, forget, name)) == pytest.approx(sum(by_hand) / 2)


def losses():
    reference = torch.tensor([[0.3, -0.2, 0.9], [1.0, 0.1, -0.4]], dtype=torch.float64)
    base = torch.tensor([-1.0], dtype=torch.float64)
    yield "nll", nll
    yield "kl", lambda said: kl(said, reference)
    yield "log1mp", lambda said: log_one_minus_p(said).mean()
    yield "npo", lambda said: preference(base - answer_log_probs(said), 0.5)
    yield "simnpo", lambda said: preference(-means(label_log_probs(said), said), 2.0)
    yield "undial", lambda said: lowered(said, reference, 3.0)
    for name in DIVERGENCES:
        yield f"flat {name}", lambda said, name=name: flat_loss(said, two_tokens(), name)
        yield f"flat {name} forget", lambda said, name=name: flat_loss(two_tokens(), said, name)


@pytest.mark.parametrize(("name", "loss"), list(losses()), ids=lambda x: x if x is str else None)
def test_gradients_are_those_of_finite_differences(name: str, loss) -> None:
    said = two_tokens()
    logits = said.logits.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(other(z, said)), (logits,)), name
