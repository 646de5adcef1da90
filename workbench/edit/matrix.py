"""One matrix of a closed-form edit: which inputs of it were chosen, and its update in place.

A chosen MLP is all inputs of its down projection, a head its own inputs of the output projection, a
neuron one input. Matrices are stored either way round; solvers see d_out x d_in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.edit.solvers import Moments, SolverName, solve
from workbench.models.components import ComponentSet, Structure, Writer
from workbench.models.delta import Dense, LowRank, Update


@dataclass(frozen=True)
class Matrix:
    """The chosen inputs of one matrix.

    Attributes:
        layer: its layer.
        writer: where it stands and which of its inputs were chosen; all if it names none.
    """

    layer: int
    writer: Writer


def matrices(structure: Structure, components: ComponentSet) -> list[Matrix]:
    """Return the matrices to solve for, in the order the model computes them."""
    found: dict[str, tuple[int, Writer, set[int] | None]] = {}
    for component in components:
        writer = structure.writer(component)
        _, _, columns = found.get(writer.parameter, (0, writer, set()))
        if columns is None or writer.columns is None:
            columns = None
        else:
            columns = columns | set(writer.columns)
        found[writer.parameter] = (component.layer, writer, columns)
    groups = [
        Matrix(layer, replace(writer, columns=None if columns is None else tuple(sorted(columns))))
        for layer, writer, columns in found.values()
    ]
    return sorted(groups, key=lambda g: (g.layer, ".mlp." in g.writer.input_hook))


def before_norm(
    norm: Any, y: Float[Tensor, "n d"], change: Float[Tensor, "n d"]
) -> Float[Tensor, "n d"]:
    """Turn an asked change behind an RMS norm into one before it.

    The norm keeps directions only up to its scale, so the direction asked for is met and the size
    is what the norm makes of it.
    """
    scale = norm(torch.ones_like(y[:1]))
    wanted = (norm(y) + change) / scale
    rms = y.pow(2).mean(-1, keepdim=True).sqrt()
    return wanted * rms / wanted.pow(2).mean(-1, keepdim=True).sqrt().clamp_min(1e-12) - y


def solve_matrix(
    x: Float[Tensor, "n d_in"],
    change: Float[Tensor, "n d_out"],
    moments: Moments,
    writer: Writer,
    old: Tensor,
    *,
    solver: SolverName,
    weight: float,
    ridge: float,
    rank: int | None,
    seed: int,
) -> tuple[Update, dict[str, Any]]:
    """Solve for one matrix; return its update in the parameter's own layout, and the record."""
    columns = writer.columns
    index = list(columns) if columns is not None else list(range(x.shape[1]))
    retain = moments.restrict(columns)
    solution = solve(
        x[:, index],
        change,
        retain,
        solver=solver,
        weight=weight,
        ridge=ridge,
        rank=rank,
        seed=seed,
    )
    matrix = (old.T if writer.transposed else old).double()[:, index]
    dense = solution.dense()
    second = retain.second
    disturbance = torch.einsum("oi,ij,oj->", dense, second, dense)
    energy = torch.einsum("oi,ij,oj->", matrix, second, matrix)
    step = {
        "parameter": writer.parameter,
        "forget_keys": len(x),
        "asked": float(change.norm(dim=1).mean()),
        "residual": solution.residual,
        "retain_change": float((disturbance / energy.clamp_min(1e-30)).clamp_min(0).sqrt()),
        "relative_norm": float(dense.norm() / matrix.norm()),
        "condition": solution.condition,
        "rank": rank or min(dense.shape),
    }
    return _in_place(solution.left, solution.right, index, old, writer.transposed), step


def _in_place(
    left: Tensor, right: Tensor | None, index: list[int], old: Tensor, transposed: bool
) -> Update:
    """Put an update of some columns into the parameter's shape and orientation."""
    inputs = old.shape[0] if transposed else old.shape[1]
    narrow = left if right is None else right
    wide = narrow.new_zeros(narrow.shape[0], inputs)
    wide[:, index] = narrow
    if right is None:
        return Dense((wide.T if transposed else wide).to(old.dtype).contiguous())
    a, b = left.to(old.dtype), wide.to(old.dtype)
    return LowRank(b.T.contiguous(), a.T.contiguous()) if transposed else LowRank(a, b)
