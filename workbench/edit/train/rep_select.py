"""RepSelect: go up the forget loss where it is the forget set's own, and nowhere else.

1.  An adversary learns the forget answers: low-rank updates of the MLP matrices, one pass of plain
    gradient descent. It brings out knowledge that lies dormant.
2.  G, the gradient of the forget loss for each matrix, is taken with the adversary in place.
3.  The top singular directions of G, on the side of the inputs (activations) and on that of the
    outputs (gradients), are what all texts share; they are collapsed. With G = U S V^T and
    s = S / min S over the top k:

        G <- G - (G V - G V / s) V^T,   then the same with U on the other side

    (soft; hard removes them, quadratic divides by s^2).
4.  All matrices go along the collapsed gradient, a direction that stays fixed, until the texts the
    model made up diverge from the base's by the budget.

Source: Sondej, Yang & Mahdi 2026 (arXiv 2606.17168, sec. 4), in its single-shot form, on the
forget gradient's own directions. They walk in steps of a learning rate; here the same line is
searched, doubling and then halving, for the farthest point within the budget, and lengths are in
units of the norm of the matrices.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.edit.edit import Edit, finish_by
from workbench.edit.solvers import top_directions
from workbench.edit.stamp import Sites
from workbench.edit.train.examples import Examples, answers, reference_logits
from workbench.edit.train.lessons import Lessons, lessons
from workbench.edit.train.loop import Rows, Student, drawn, union
from workbench.edit.train.losses import kl, nll
from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.fact import Request
from workbench.models.components import ComponentSet
from workbench.models.delta import Dense
from workbench.models.model import Model
from workbench.models.text import batches
from workbench.progress import SILENT, Progress

CollapseName = Literal["soft", "hard", "quadratic"]
COLLAPSE: tuple[CollapseName, ...] = get_args(CollapseName)
_ZERO = 1e-6  # of the largest singular value; a Gram matrix shows no smaller one
_FIRST = 1e-3  # length of the first point tried, in units of the matrices' norm


@dataclass(frozen=True)
class RepSelectConfig:
    """Settings of RepSelect.

    Attributes:
        budget: largest divergence from the base on kept texts, in nats a token.
        collapse: what becomes of the top directions: soft, hard or quadratic.
        directions: how many of them.
        adversary_lr: step of the adversary; 0 for none.
        adversary_rank: rank of its updates.
        batch: forget examples a step of the adversary.
        tries: points tried on the line.
        kept: most retained prompts among the texts whose divergence is measured.
        neutral: texts the model makes up for it.
        seed: seed of every draw.
    """

    budget: float = 0.3
    collapse: str = "soft"
    directions: int = 4
    adversary_lr: float = 0.01
    adversary_rank: int = 8
    batch: int = 32
    tries: int = 12
    kept: int = 512
    neutral: int = 64
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        if self.collapse not in COLLAPSE:
            raise unknown_name("collapse", self.collapse, COLLAPSE)
        for name in ("budget", "directions", "adversary_rank", "batch", "tries", "kept", "neutral"):
            if not getattr(self, name) > 0:
                raise WorkbenchError(f"{name} must be positive, not {getattr(self, name)}.")
        if not 0 <= self.adversary_lr < math.inf:
            raise WorkbenchError(f"adversary_lr must not be negative, not {self.adversary_lr}.")


def rep_select(
    model: Model,
    request: Request,
    components: ComponentSet | Sites,
    config: RepSelectConfig | None = None,
    *,
    progress: Progress = SILENT,
) -> Edit:
    """Make an edit by RepSelect, on the matrices of the chosen MLPs and neurons.

    Raises:
        WorkbenchError: settings that make no sense, no MLP is chosen, or nothing to keep.
    """
    started = time.perf_counter()
    config = config or RepSelectConfig()
    config.check()
    chosen = union(components)
    student = Student.of(model, chosen)
    names = mlp_matrices(student)
    sizes = {"most": config.kept, "neutral": config.neutral, "seed": config.seed}
    taught = lessons(model, request, **sizes, progress=progress)
    found = elicited_gradients(student, names, taught.forget, config)
    line = {
        name: collapse_both(g, config.directions, config.collapse, config.seed)
        * student.masks[name]
        for name, g in found.items()
    }
    size = norm(student.start[name] for name in names) / norm(line.values())
    line = {name: g * size for name, g in line.items()}
    length, steps = farthest(student, line, taught, config, progress)
    updates = {name: Dense(g * length) for name, g in line.items()}
    return finish_by(
        "rep-select", model, request, chosen, updates, config, steps=steps, started=started
    )


def mlp_matrices(student: Student) -> tuple[str, ...]:
    """Return the names of the trained matrices that belong to MLPs.

    Raises:
        WorkbenchError: there is none.
    """
    owned = {name for layer in student.model.structure.layers for name in layer.mlp_names}
    names = tuple(n for n, p in student.trained.items() if n in owned and p.ndim == 2)
    if not names:
        raise WorkbenchError(
            "RepSelect changes matrices of MLPs, and none is chosen; choose some, such as mlp.1."
        )
    return names


def norm(values: Iterable[Tensor]) -> float:
    """Return the norm of all values together."""
    return math.sqrt(sum(float(v.double().square().sum()) for v in values))


def gradients(
    student: Student, names: Sequence[str], forget: Examples, rows: Rows
) -> dict[str, Tensor]:
    """Return the gradient of the forget answers' negative log-likelihood, averaged over tokens."""
    part = forget.take(rows)
    parameters = [student.trained[name] for name in names]
    total = [torch.zeros_like(p) for p in parameters]
    for batch in batches(student.model, part.sequences):
        some = part.take(batch.rows)
        loss = nll(answers(student.model, some)) * (some.n_tokens / part.n_tokens)
        total = [t + g for t, g in zip(total, torch.autograd.grad(loss, parameters), strict=True)]
    return dict(zip(names, total, strict=True))


def elicited_gradients(
    student: Student, names: Sequence[str], forget: Examples, config: RepSelectConfig
) -> dict[str, Tensor]:
    """Let the adversary learn, take the forget gradient in its presence, and take it away again.

    A matrix with the low-rank update `left @ right` has at W the gradient it has at the sum, which
    also gives those of the factors; so no module is wrapped. As in LoRA (Hu et al. 2022, arXiv
    2106.09685) `left` begins at 0.
    """
    generator = torch.Generator().manual_seed(config.seed)
    left, right = {}, {}
    for name in names:
        rows, columns = student.start[name].shape
        first = torch.rand(config.adversary_rank, columns, generator=generator) * 2 - 1
        right[name] = (first / math.sqrt(columns)).to(student.start[name])
        left[name] = torch.zeros(rows, config.adversary_rank).to(right[name])
    once = -(-len(forget) // config.batch) if config.adversary_lr else 0
    some = drawn(len(forget), config.batch, config.seed)
    for _ in range(once):
        for name, g in gradients(student, names, forget, next(some)).items():
            of_left, of_right = g @ right[name].T, left[name].T @ g
            left[name] -= config.adversary_lr * of_left
            right[name] -= config.adversary_lr * of_right
        put(student, {name: left[name] @ right[name] for name in names})
    found = gradients(student, names, forget, range(len(forget)))
    put(student, {name: torch.zeros_like(g) for name, g in found.items()})
    return found


@torch.no_grad()
def put(student: Student, change: Mapping[str, Tensor]) -> None:
    """Set trained parameters to their start plus a change."""
    for name, value in change.items():
        student.trained[name].copy_(student.start[name] + value)


def collapse_both(
    gradient: Float[Tensor, "rows columns"], count: int, kind: str, seed: int
) -> Float[Tensor, "rows columns"]:
    """Collapse the top directions of a gradient on both of its sides."""
    g = gradient.double()
    wide = g.shape[0] <= g.shape[1]
    one, sizes, other = top_svd(g if wide else g.T, count, seed)
    u, v = (one, other) if wide else (other, one)
    once = collapse(g, v, sizes, kind)
    return collapse(once.T, u, sizes, kind).T.to(gradient.dtype)


def top_svd(
    matrix: Float[Tensor, "rows columns"], count: int, seed: int
) -> tuple[Float[Tensor, "rows k"], Float[Tensor, " k"], Float[Tensor, "columns k"]]:
    """Return the top singular directions and values of a matrix with few rows; none that is 0."""
    rows = len(matrix)
    nothing = torch.zeros(rows, rows, dtype=matrix.dtype, device=matrix.device)
    u = top_directions(matrix.T, nothing, 1.0, min(count, rows), seed)
    right = matrix.T @ u
    sizes = right.norm(dim=0)
    real = sizes > _ZERO * sizes.max()
    return u[:, real], sizes[real], right[:, real] / sizes[real]


def collapse(
    matrix: Float[Tensor, "rows columns"],
    directions: Float[Tensor, "columns k"],
    sizes: Float[Tensor, " k"],
    kind: str,
) -> Float[Tensor, "rows columns"]:
    """Shrink the rows' parts along orthonormal directions.

    Args:
        matrix: the gradient.
        directions: of its rows.
        sizes: singular value of each, none of them 0.
        kind: soft divides by size / least size, quadratic by its square, hard leaves nothing.
    """
    if not len(sizes):
        return matrix
    share = sizes.min() / sizes
    kept = {"soft": share, "quadratic": share**2, "hard": torch.zeros_like(share)}[kind]
    return matrix - (matrix @ directions * (1 - kept)) @ directions.T


@torch.no_grad()
def farthest(
    student: Student,
    line: Mapping[str, Tensor],
    taught: Lessons,
    config: RepSelectConfig,
    progress: Progress,
) -> tuple[float, pd.DataFrame]:
    """Find how far the matrices can go while the kept texts stay within the budget.

    Returns:
        The length, 0 where no point was within the budget, and one row a point that was tried.
    """
    kept = taught.retain + taught.neutral
    before = reference_logits(student.model, kept)
    within, beyond, length = 0.0, math.inf, _FIRST
    rows: list[dict[str, Any]] = []
    for step in progress.track(range(config.tries), "searching the line"):
        put(student, {name: g * length for name, g in line.items()})
        moved = disruption(student.model, kept, before)
        lost = mean_nll(student.model, taught.forget)
        rows.append({"step": step, "length": length, "disruption": moved, "forget_loss": lost})
        if moved <= config.budget:  # false as well where nothing is finite any more
            within = length
        else:
            beyond = length
        length = 2 * length if math.isinf(beyond) else (within + beyond) / 2
    return within, pd.DataFrame(rows)


def disruption(
    model: Model, kept: Examples, before: Callable[[Rows], Float[Tensor, "token vocab"]]
) -> float:
    """Return KL(base || model), averaged over all tokens of the kept texts."""
    total = 0.0
    for batch in batches(model, kept.sequences):
        some = kept.take(batch.rows)
        total += float(kl(answers(model, some), before(batch.rows))) * some.n_tokens
    return total / kept.n_tokens


def mean_nll(model: Model, every: Examples) -> float:
    """Return the negative log-likelihood of the answers, averaged over tokens."""
    total = 0.0
    for batch in batches(model, every.sequences):
        some = every.take(batch.rows)
        total += float(nll(answers(model, some))) * some.n_tokens
    return total / every.n_tokens
