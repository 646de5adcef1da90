"""Logistic regression against scikit-learn, autograd, and problems with known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from workbench.attack.logistic import logistic_regression, predict


def problem(rows: int, width: int, classes: int, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(2, rows, width, generator=rng, dtype=torch.float64)
    y = torch.randint(classes, (rows,), generator=rng)
    return x, y


@pytest.mark.parametrize("shape", [(60, 5, 3), (20, 50, 4)])  # more rows than features, and fewer
def test_it_finds_what_scikit_learn_finds(shape) -> None:
    (rows, _, classes), l2 = shape, 0.05
    x, y = problem(*shape)
    found = logistic_regression(x, y, classes, l2=l2, steps=5000, tolerance=1e-10)
    for i in range(2):
        theirs = LogisticRegression(C=1 / (l2 * rows), tol=1e-10, max_iter=10000)
        theirs.fit(x[i].numpy(), y.numpy())
        np.testing.assert_allclose(found[i, :-1].T.numpy(), theirs.coef_, atol=1e-4)
        logits = x[i].numpy() @ theirs.coef_.T + theirs.intercept_
        ours = (x[i] @ found[i, :-1] + found[i, -1]).numpy()
        shift = logits - ours  # the bias is free up to a constant for all classes
        np.testing.assert_allclose(shift - shift.mean(1, keepdims=True), 0, atol=1e-3)
        assert (predict(found, x)[i].numpy() == theirs.predict(x[i].numpy())).all()


def test_the_gradient_of_the_loss_is_zero_there() -> None:
    x, y = problem(40, 6, 3)
    weights = logistic_regression(x, y, 3, l2=0.1, steps=5000, tolerance=1e-9).requires_grad_()
    logits = torch.einsum("prd,pdc->prc", x, weights[:, :-1]) + weights[:, -1:]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.repeat(2), reduction="sum")
    (loss / 40 + 0.05 * weights[:, :-1].pow(2).sum()).backward()
    assert weights.grad is not None and float(weights.grad.abs().max()) < 1e-8


def test_features_that_say_nothing_leave_the_frequencies() -> None:
    x, y = torch.zeros(1, 10, 2, dtype=torch.float64), torch.tensor([0] * 5 + [1] * 3 + [2] * 2)
    found = logistic_regression(x, y, 3, l2=1.0, steps=5000, tolerance=1e-9)
    wanted = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    torch.testing.assert_close(found[0, -1].softmax(-1), wanted)
    assert float(found[0, :-1].abs().max()) == 0


def test_separable_classes_are_told_apart() -> None:
    corners = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 4.0], [0.0, -4.0]])
    y = torch.arange(4).repeat(10)
    x = corners[y] + 0.3 * torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    weights = logistic_regression(x[None], y, 4, l2=0.01)
    assert (predict(weights, x[None])[0] == y).all()
    assert (predict(weights, corners[None])[0] == torch.arange(4)).all()


def test_single_precision_is_enough() -> None:
    x, y = problem(60, 20, 5)
    fine = logistic_regression(x, y, 5, l2=0.03, steps=5000, tolerance=1e-9)
    coarse = logistic_regression(x.float(), y, 5, l2=0.03)
    assert float((fine[:, :-1] - coarse[:, :-1]).abs().max()) < 0.03
