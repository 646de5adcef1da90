"""Muon: momentum whose update of a matrix is orthogonalised (Jordan et al. 2024).

    G <- momentum average of the gradient (Nesterov);   W <- W - lr * s * NewtonSchulz(G)

The quintic Newton-Schulz iteration pushes all singular values of G towards 1; s = sqrt(max(1,
rows/columns)) keeps the update's size independent of the shape. Written here in float32: the one in
torch computes in bfloat16, which a CPU without such units emulates slowly.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(gradient: Float[Tensor, "rows columns"], steps: int = 5) -> Tensor:
    """Return a matrix with the gradient's singular vectors and singular values near 1."""
    a, b, c = _COEFFICIENTS
    wide = gradient.shape[0] <= gradient.shape[1]
    x = gradient if wide else gradient.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


class Muon(torch.optim.Optimizer):
    """Muon for matrices; give embeddings, norms and biases to AdamW."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                if not state:
                    state["average"] = torch.zeros_like(p)
                average = state["average"]
                average.lerp_(p.grad, 1 - group["momentum"])
                ahead = p.grad.lerp(average, group["momentum"])
                size = max(1.0, p.shape[0] / p[0].numel()) ** 0.5
                # A kernel over patches is a matrix of filters.
                change = orthogonalise(ahead.flatten(1)).view_as(p)
                p.add_(change, alpha=-group["lr"] * size)
