"""MEMIT: insert all facts at once, shared out over several MLPs.

    z_i    h_i + d_i, the residual stream behind the last chosen block at fact i's subject, with d_i
           searched so that the model gives the new answer                     (`value_vector`)
    for each chosen MLP l, in order, with the activations of the model as edited so far:
        K      its input keys, one column a fact, each the mean over the fact's contexts
        R      (z_i - h_i) / (number of chosen MLPs still to come, this one included)
        Delta  = R K^T (lambda C + K K^T)^-1                                    in float64

C = E[k k^T] is the second moment of the MLP's keys in the unedited model (`covariance`); lambda
says how many usual keys all facts together are weighed against. Behind a post-norm (Gemma-2) the
matrix is asked for what the norm turns into R.

Source: Meng et al. 2023 (arXiv 2210.07229), eq. 14-16 and algorithm 1. Published settings are for
GPT-J (lambda 15 000, clamp 0.75); the defaults here were tried on the bundled model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench.edit.contexts import Contexts, build_contexts, mlp_matrices, prefixes
from workbench.edit.covariance import usual_keys
from workbench.edit.edit import Edit, finish_by
from workbench.edit.matrix import Matrix, before_norm, solve_matrix
from workbench.edit.value_vector import Onward, ValueConfig, find_vectors
from workbench.errors import WorkbenchError
from workbench.facts.fact import Request
from workbench.models.components import ComponentSet
from workbench.models.delta import Update
from workbench.models.model import Model, replace_parameter
from workbench.progress import SILENT, Progress

Keys = Float[Tensor, "fact d_in"]
Change = Float[Tensor, "fact d_out"]
Solved = tuple[Update, dict[str, Any]]  # the update, and what to note about it
Solve = Callable[[Matrix, Keys, Change, Tensor], Solved]  # the last is the parameter


@dataclass(frozen=True)
class MemitConfig(ValueConfig):
    """Settings of one MEMIT edit.

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
        preserve: lambda, usual keys that the facts are weighed against.
    """

    preserve: float = 1000.0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        super().check()
        if not self.preserve > 0:
            raise WorkbenchError(f"preserve must be positive, not {self.preserve}.")


def memit(
    model: Model,
    request: Request,
    components: ComponentSet,
    config: MemitConfig | None = None,
    *,
    progress: Progress = SILENT,
) -> Edit:
    """Edit MLPs so that the model gives the new answers.

    Args:
        model: the model to edit; it stays as it is.
        request: what to forget; what it keeps joins the covariance.
        components: MLPs.
        config: settings.
        progress: where to report; cancelling changes nothing.

    Raises:
        WorkbenchError: settings, components or request do not fit.
    """
    started = time.perf_counter()
    config = config or MemitConfig()
    config.check()
    groups = mlp_matrices(model, components, "MEMIT")
    usual = usual_keys(model, request, groups, config, progress)

    def solve(group: Matrix, keys: Keys, change: Change, old: Tensor) -> Solved:
        c = usual[group.writer.parameter]
        update, step = solve_matrix(
            keys,
            change,
            c.scaled(config.preserve),
            group.writer,
            old,
            solver="ridge",
            weight=1.0,
            ridge=0.0,
            rank=None,
            seed=config.seed,
        )
        return update, {**step, "retain_keys": c.count, "covariance_condition": c.condition}

    beginnings = prefixes(model, request, config.prefixes, seed=config.seed)
    contexts = build_contexts(model, request, request.forget, beginnings, wordings=config.wordings)
    updates, steps = insert(
        model, model.fork().hf, contexts, groups, solve, config, progress=progress
    )
    return finish_by(
        "memit",
        model,
        request,
        components,
        updates,
        config,
        steps=pd.DataFrame(steps),
        started=started,
    )


def insert(
    model: Model,
    hf: nn.Module,
    contexts: Contexts,
    groups: Sequence[Matrix],
    solve: Solve,
    config: ValueConfig,
    *,
    progress: Progress = SILENT,
) -> tuple[dict[str, Update], list[dict[str, Any]]]:
    """Insert facts into the chosen MLPs, in order.

    Args:
        model: whose weights below the first chosen MLP are used.
        hf: a copy of its own with the weights to edit; it is edited.
        contexts: of the facts.
        groups: the matrices, in layer order.
        solve: the update of one matrix from its keys and the asked change of their outputs.
        config: settings of the search for the value vectors.
        progress: where to report.

    Returns:
        The updates, and a record for each.
    """
    first, last = groups[0].layer, groups[-1].layer
    rows, fact = contexts.lookups
    layers = range(first, last + 1)
    stream = Onward(model, rows, layers, label="reading subjects", progress=progress)
    fact = fact.to(model.device)
    here = _means(stream.peek(hf, last), fact)
    found = find_vectors(
        model,
        hf,
        contexts,
        last,
        None,
        first=first,
        size=here.norm(dim=1),
        config=config,
        progress=progress,
    )
    wanted = here + found.change
    updates: dict[str, Update] = {}
    steps = []
    for i, group in enumerate(progress.track(groups, "inserting facts")):
        stream.advance(hf, group.layer)
        x, y, _ = stream.observe(hf, group.writer)
        change = (wanted - _means(stream.peek(hf, last), fact)) / (len(groups) - i)
        if group.writer.post_norm:
            norm = hf.get_submodule(group.writer.post_norm)
            change = before_norm(norm, _means(y, fact), change)
        parameter = group.writer.parameter
        old = hf.get_parameter(parameter)
        updates[parameter], step = solve(group, _means(x, fact), change, old)
        replace_parameter(hf, parameter, old + updates[parameter].dense())
        steps.append(
            {
                "layer": group.layer,
                **step,
                "loss": float(found.loss.mean()),
                "probability": float(found.probability.mean()),
            }
        )
    return updates, steps


def _means(values: Float[Tensor, "n d"], fact: Int[Tensor, " n"]) -> Float[Tensor, "fact d"]:
    """Average over each fact's contexts."""
    sums = torch.zeros(int(fact.max()) + 1, values.shape[1], device=values.device)
    sums = sums.index_add(0, fact, values.float())
    return sums / torch.bincount(fact)[:, None]
