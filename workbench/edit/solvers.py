"""Closed-form updates of y = W x that move the forget keys and leave the retain keys.

With forget keys X_f (columns), asked change of their outputs D, and the retain second moment
C = sum x x^T, each solver returns Delta with (W + Delta) X_f near W X_f + D:

    lstsq     Delta = w D X_f^T (w X_f X_f^T + C + lambda m I)^-1        m = mean diag(C)
    ridge     the same with w = 1
    exact     Delta = D X_f^T (X_f X_f^T + C)^+, that is (Y* - W X) X^+ for X = [X_f X_r]
    whitened  Delta = D (X_f^T C'^-1 X_f + eps I)^-1 X_f^T C'^-1         C' = C + lambda m I

`lstsq` minimises  w |Delta X_f - D|^2 + |Delta X_r|^2 + lambda m |Delta|^2;  `whitened` changes
the retained outputs least among the updates that meet the target. `exact` is the pseudoinverse
update of RePAIR (Rachapudi et al. 2026, arXiv 2604.12820, eq. 6), which is solved there with a
ridge. The equality of the residual pseudoinverse with D X_f^T (X X^T)^+ is derived: the retain
columns of the residual are zero. A rank (their STAMP-LR) projects the keys on their top r singular
directions U:

    Delta = A U^T,   A = w D Z^T (w Z Z^T + U^T C U + lambda m I_r)^-1,   Z = U^T X_f

Solved in float64. C is streamed: memory is O(d_in^2) however many retain tokens there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError, unknown_name

SolverName = Literal["lstsq", "exact", "ridge", "whitened"]
SOLVERS: tuple[SolverName, ...] = get_args(SolverName)
_EXACT_EIGEN = 4096  # up to this width the top directions come from a full eigendecomposition


@dataclass(frozen=True, eq=False)
class Moments:
    """The streamed second moment of keys.

    Attributes:
        second: sum of w x x^T.
        count: sum of w.
    """

    second: Float[Tensor, "d_in d_in"]
    count: float

    @staticmethod
    def zeros(d_in: int, device: torch.device | str = "cpu") -> Moments:
        """Start with nothing."""
        return Moments(torch.zeros(d_in, d_in, dtype=torch.float64, device=device), 0.0)

    def add(
        self, keys: Float[Tensor, "n d_in"], weights: Float[Tensor, " n"] | None = None
    ) -> Moments:
        """Add keys in place and return the new moments; each batch is summed in its own type."""
        scaled = keys if weights is None else keys * weights[:, None]
        self.second.add_(scaled.T @ keys)
        count = len(keys) if weights is None else float(weights.sum())
        return Moments(self.second, self.count + count)

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both together."""
        return Moments(self.second + other.second, self.count + other.count)

    def copy(self) -> Moments:
        """Return the same moments, to add to."""
        return Moments(self.second.clone(), self.count)

    def restrict(self, columns: tuple[int, ...] | None) -> Moments:
        """Keep some inputs only."""
        if columns is None:
            return self
        index = torch.tensor(columns, device=self.second.device)
        return Moments(self.second[index][:, index], self.count)


@dataclass(frozen=True, eq=False)
class Solution:
    """An update and how well it does what was asked.

    Attributes:
        left: left factor; the whole update if `right` is None.
        right: right factor of a low-rank update.
        residual: |Delta X_f - D| / |D|, 0 = as asked.
        condition: condition number of the matrix that was inverted.
    """

    left: Float[Tensor, "d_out d_mid"]
    right: Float[Tensor, "d_mid d_in"] | None
    residual: float
    condition: float

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """Multiply out."""
        return self.left if self.right is None else self.left @ self.right


def solve(
    keys: Float[Tensor, "n d_in"],
    change: Float[Tensor, "n d_out"],
    retain: Moments,
    *,
    solver: SolverName = "lstsq",
    weight: float = 1000.0,
    ridge: float = 1e-4,
    rank: int | None = None,
    seed: int = 0,
) -> Solution:
    """Solve for the update of one matrix.

    Args:
        keys: forget keys, one a row.
        change: asked change of the output for each key.
        retain: second moment of the keys whose outputs must stay.
        solver: one of `SOLVERS`.
        weight: w of `lstsq`.
        ridge: lambda, in units of the mean diagonal of C.
        rank: project the keys on this many directions; None for full rank.
        seed: seed of the randomised eigensolver that very wide matrices need.

    Raises:
        WorkbenchError: unknown solver, rank below 1, or a result that is not finite.
    """
    if solver not in SOLVERS:
        raise unknown_name("solver", solver, SOLVERS)
    if rank is not None and rank < 1:
        raise WorkbenchError(f"The rank must be at least 1, not {rank}.")
    x, d, c = keys.double(), change.double(), retain.second
    w = {"lstsq": weight, "ridge": 1.0, "exact": 1.0, "whitened": 1.0}[solver]
    loading = ridge * float(c.diagonal().mean()) if bool(c.any()) else ridge
    if rank is not None and rank < x.shape[1]:
        basis = top_directions(x, c, w, rank, seed)
        small = _solve_full(x @ basis, d, basis.T @ c @ basis, solver, w, loading)
        left, right, condition = small[0], basis.T, small[1]
    else:
        (left, condition), right = _solve_full(x, d, c, solver, w, loading), None
    delta_keys = (x @ right.T if right is not None else x) @ left.T
    residual = float((delta_keys - d).norm() / d.norm().clamp_min(1e-30))
    if not torch.isfinite(left).all():
        raise WorkbenchError(
            "The edit has no finite solution, so nothing was changed; raise lambda or lower the "
            "weight of the forget keys."
        )
    return Solution(left, right, residual, condition)


def _solve_full(
    x: Tensor, d: Tensor, c: Tensor, solver: SolverName, w: float, loading: float
) -> tuple[Tensor, float]:
    eye = torch.eye(c.shape[0], dtype=c.dtype, device=c.device)
    if solver == "whitened":
        whitening = torch.linalg.solve(c + loading * eye, x.T)  # C'^-1 X_f
        gram = x @ whitening
        eps = 1e-8 * float(gram.diagonal().mean())
        inner = gram + eps * torch.eye(len(gram), dtype=c.dtype, device=c.device)
        return d.T @ torch.linalg.solve(inner, whitening.T), _condition(inner)
    gram = w * x.T @ x + c
    if solver == "exact":
        inverse = torch.linalg.pinv(gram, hermitian=True, rtol=1e-10)
        return d.T @ x @ inverse, _condition(gram)
    gram = gram + loading * eye
    factor = torch.linalg.cholesky(gram)
    return torch.cholesky_solve(w * x.T @ d, factor).T, _cholesky_condition(factor)


def _condition(matrix: Tensor) -> float:
    values = torch.linalg.eigvalsh(matrix).abs()
    return float(values.max() / values.min().clamp_min(1e-300))


def _cholesky_condition(factor: Tensor) -> float:
    """Estimate the condition number from a Cholesky factor, at no further cost."""
    diagonal = factor.diagonal()
    return float((diagonal.max() / diagonal.min().clamp_min(1e-150)) ** 2)


def top_directions(
    x: Float[Tensor, "n d_in"], c: Float[Tensor, "d_in d_in"], w: float, rank: int, seed: int
) -> Float[Tensor, "d_in rank"]:
    """Return the top singular directions of the weighted keys [sqrt(w) X_f, X_r].

    Wide matrices use randomised subspace iteration (Halko, Martinsson & Tropp 2011, alg. 4.4).
    """
    d_in = c.shape[0]
    if d_in <= _EXACT_EIGEN:
        _, vectors = torch.linalg.eigh(w * x.T @ x + c)
        return vectors[:, -rank:].flip(1)
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(d_in, rank, generator=generator, dtype=torch.float64).to(c)
    for _ in range(3):
        q, _ = torch.linalg.qr(w * x.T @ (x @ q) + c @ q)
    return q
