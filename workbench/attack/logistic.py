"""Multinomial logistic regression with an L2 penalty, many problems at once.

    L(W, b) = mean_i -log softmax(W x_i + b)[y_i] + l2 / 2 |W|^2

Convex, so there is one minimum. The softmax's curvature is at most half that of squares (Böhning
1992, Ann. Inst. Stat. Math. 44), so with H = X'X / 2n + l2 the step H^-1 grad never overshoots and
needs one factorisation for all steps; Nesterov's momentum, restarted where the loss rises, makes
it quick.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


@torch.no_grad()
def logistic_regression(
    x: Float[Tensor, "problem row d"],
    y: Int[Tensor, " row"],
    n_classes: int,
    *,
    l2: float,
    steps: int = 500,
    tolerance: float = 1e-3,
) -> Float[Tensor, "problem d_plus_1 class"]:
    """Fit one classifier for each problem; all have the same labels.

    Args:
        x: features.
        y: class of each row, from 0.
        n_classes: how many classes there are.
        l2: weight of the penalty; the bias has none.
        steps: most steps.
        tolerance: largest entry of the gradient that counts as none.

    Returns:
        Weights, the bias as the last row.
    """
    if x.shape[2] > x.shape[1]:  # the minimum lies in the span of the rows
        basis = torch.linalg.qr(x.mT)[0]
        inside = logistic_regression(
            x @ basis, y, n_classes, l2=l2, steps=steps, tolerance=tolerance
        )
        return torch.cat([basis @ inside[:, :-1], inside[:, -1:]], 1)
    x = _with_one(x)
    n, width = x.shape[1:]
    wanted = torch.nn.functional.one_hot(y, n_classes).to(x.dtype)
    penalty = torch.full((width, 1), l2, dtype=x.dtype, device=x.device)
    penalty[-1] = 0
    curvature = x.mT @ x / (2 * n) + torch.diag_embed(penalty[:, 0])
    # The bias alone has no penalty; a little keeps the factorisation in float32 safe.
    root = torch.linalg.cholesky(
        curvature + 1e-6 * torch.eye(width, dtype=x.dtype, device=x.device)
    )
    weights = x.new_zeros(len(x), width, n_classes)
    ahead, momentum = weights, 1.0
    for _ in range(steps):
        scores = x @ ahead
        gradient = x.mT @ (scores.softmax(-1) - wanted) / n + penalty * ahead
        if float(gradient.abs().max()) < tolerance:
            return ahead
        new = ahead - torch.cholesky_solve(gradient, root)
        move = new - weights
        if float((gradient * move).sum()) > 0:  # the momentum leads uphill: start it anew
            momentum = 1.0
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / following * move
        weights, momentum = new, following
    return weights


def predict(
    weights: Float[Tensor, "problem d_plus_1 class"], x: Float[Tensor, "problem row d"]
) -> Int[Tensor, "problem row"]:
    """Return the likeliest class of each row."""
    return (_with_one(x) @ weights).argmax(-1)


def _with_one(x: Float[Tensor, "problem row d"]) -> Float[Tensor, "problem row d_plus_1"]:
    return torch.cat([x, x.new_ones(*x.shape[:-1], 1)], -1)
