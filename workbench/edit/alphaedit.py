"""AlphaEdit: MEMIT's insertion, restricted to the directions that usual keys do not use.

With C = E[k k^T] of a matrix's keys (`covariance`) and U_0 its eigenvectors of small eigenvalues,

    P      = U_0 U_0^T                                                          d_in x d_in
    Delta  = R K^T P (K_p K_p^T P + K K^T P + L2 I)^-1                         d_out x d_in

K and R are MEMIT's: keys of the facts [d_in x facts] and the asked change of their outputs [d_out x
facts]. K_p are the keys of facts inserted before: of a long request, `batch` facts are inserted at
a time. For any key k with P k = 0 the bracket maps k to L2 k, so Delta k = R K^T P k / L2 = 0: what
usual keys read stays as it was.

Source: Fang et al. 2024 (arXiv 2410.02355), sec. 3 and eq. 14. There an eigenvalue counts as small
below 0.02, and L2 is 10, for Llama-3-8B; scales of keys differ between models, so here both are in
units of C's mean eigenvalue (derived).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.edit.contexts import build_contexts, mlp_matrices, prefixes
from workbench.edit.covariance import Covariance, usual_keys
from workbench.edit.edit import Edit, finish_by
from workbench.edit.matrix import Matrix
from workbench.edit.memit import Change, Keys, Solved, insert
from workbench.edit.value_vector import ValueConfig
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet, Request
from workbench.models.components import ComponentSet
from workbench.models.delta import Dense, Update
from workbench.models.model import Model
from workbench.progress import SILENT, Progress


@dataclass(frozen=True)
class AlphaEditConfig(ValueConfig):
    """Settings of one AlphaEdit edit.

    Attributes:
        wordings: most prompts of each fact that are contexts.
        prefixes: texts the model makes up that its first prompt is put behind.
        steps: most gradient steps of the search for a value vector.
        lr: step size of Adam.
        stop: a fact's -log p(new answer), in nats, below which its vector is good enough.
        kl: weight of the divergence at the essence prompt "{subject} is a".
        decay: weight of the vector's size.
        clamp: largest size of the vector, in sizes of what it is added to.
        samples: keys for each input of a matrix that their covariance is taken from.
        kept: kept facts among them.
        ridge: added to the covariance's diagonal, in units of its mean.
        seed: seed of every draw.
        null: largest eigenvalue of the covariance that counts as null, in units of the mean one.
        l2: weight of the update's size, in units of the mean eigenvalue.
        batch: facts inserted at a time.
    """

    null: float = 0.5
    l2: float = 10.0
    batch: int = 100

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        super().check()
        for name in ("null", "l2", "batch"):
            if not getattr(self, name) > 0:
                raise WorkbenchError(f"{name} must be positive, not {getattr(self, name)}.")


def alphaedit(
    model: Model,
    request: Request,
    components: ComponentSet,
    config: AlphaEditConfig | None = None,
    *,
    progress: Progress = SILENT,
) -> Edit:
    """Edit MLPs so that the model gives the new answers, in the null space of usual keys.

    Args:
        model: the model to edit; it stays as it is.
        request: what to forget; what it keeps joins the covariance.
        components: MLPs.
        config: settings.
        progress: where to report; cancelling changes nothing.

    Raises:
        WorkbenchError: settings, components or request do not fit, or no direction is null.
    """
    started = time.perf_counter()
    config = config or AlphaEditConfig()
    config.check()
    groups = mlp_matrices(model, components, "AlphaEdit")
    usual = usual_keys(model, request, groups, config, progress)
    projectors = {p: null_projector(c, config.null) for p, c in usual.items()}
    earlier = {p: torch.zeros_like(c.second) for p, c in usual.items()}

    def solve(group: Matrix, keys: Keys, change: Change, old: Tensor) -> Solved:
        name = group.writer.parameter
        k, r, c = keys.double().T, change.double().T, usual[name]
        loading = config.l2 * float(c.second.diagonal().mean())
        delta = null_update(k, r, projectors[name], earlier[name], loading)
        earlier[name] += k @ k.T
        weight = (old.T if group.writer.transposed else old).double()
        step = {
            "parameter": name,
            "forget_keys": k.shape[1],
            "retain_keys": c.count,
            "asked": float(change.norm(dim=1).mean()),
            "residual": float((delta @ k - r).norm() / r.norm().clamp_min(1e-30)),
            "retain_change": c.length(delta) / c.length(weight),
            "relative_norm": float(delta.norm() / weight.norm()),
            "covariance_condition": c.condition,
            "rank": min(k.shape[1], *delta.shape),
            "null_directions": round(float(projectors[name].trace())),
        }
        placed = delta.T if group.writer.transposed else delta
        return Dense(placed.to(old.dtype).contiguous()), step

    beginnings = prefixes(model, request, config.prefixes, seed=config.seed)
    hf, steps = model.fork().hf, []
    updates: Mapping[str, Update] = {}
    facts = request.forget.facts
    for i in range(0, len(facts), config.batch):
        some = FactSet(facts[i : i + config.batch])
        contexts = build_contexts(model, request, some, beginnings, wordings=config.wordings)
        more, rows = insert(model, hf, contexts, groups, solve, config, progress=progress)
        updates = {
            n: Dense(updates[n].dense() + u.dense()) if updates else u for n, u in more.items()
        }
        steps += rows
    return finish_by(
        "alphaedit",
        model,
        request,
        components,
        updates,
        config,
        steps=pd.DataFrame(steps),
        started=started,
    )


def null_projector(usual: Covariance, null: float) -> Float[Tensor, "d_in d_in"]:
    """Return the projector on the covariance's eigenvectors of small eigenvalues.

    Source: Fang et al. 2024 (arXiv 2410.02355), sec. 3.1.

    Raises:
        WorkbenchError: no eigenvalue is small.
    """
    values, vectors = torch.linalg.eigh(usual.second)
    kept = vectors[:, values < null * values.mean()]
    if not kept.shape[1]:
        raise WorkbenchError(
            f"No direction of the keys has less than {null} times their mean eigenvalue; raise "
            "null."
        )
    return kept @ kept.T


def null_update(
    keys: Float[Tensor, "d_in fact"],
    change: Float[Tensor, "d_out fact"],
    projector: Float[Tensor, "d_in d_in"],
    earlier: Float[Tensor, "d_in d_in"],
    l2: float,
) -> Float[Tensor, "d_out d_in"]:
    """Return the update that asks `change` of the keys' outputs and none of what P annihilates.

    Source: Fang et al. 2024 (arXiv 2410.02355), eq. 14.
    """
    bracket = (earlier + keys @ keys.T) @ projector
    bracket = bracket + l2 * torch.eye(len(bracket)).to(bracket)
    # X A = B  is solved as  A^T X^T = B^T
    return torch.linalg.solve(bracket.T, projector @ keys @ change.T).T
