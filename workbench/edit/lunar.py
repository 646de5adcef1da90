"""LUNAR: turn the forget prompts' activations into those of prompts the model refuses, at one MLP.

    r      mean over refused prompts - mean over forget prompts, of the residual stream behind block
           l at the prompt's last token
    D      coefficient r, the asked change at every token of the forget prompts
    Delta = argmin  |Delta X_f - D|^2 + |Delta X_r|^2          X_f, X_r: keys of the down projection

Source: Shen et al. 2025 (arXiv 2502.07218): the direction, the target and its coefficient 2, the
down projection as the only matrix that changes. There it is trained with AdamW on the mean squared
error over the forget and retain tokens; the minimum of that error is a least-squares problem, and
here it is solved as one (derived), with the moment of usual keys (`covariance`) for the retain
tokens. Refused prompts are the request's `unknown` ones: the method needs a model that refuses
those by itself.

Of several chosen MLPs one is edited. "best" is the one whose redirected stream makes the refusal
likeliest on the forget prompts; it stands for the paper's choice by similarity of the answers to
refusals, which needs a sentence encoder (derived).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.edit.contexts import at_place, build_contexts, mlp_matrices
from workbench.edit.covariance import usual_keys
from workbench.edit.edit import Edit, finish_by
from workbench.edit.forms import prompts_of
from workbench.edit.matrix import Matrix, before_norm, solve_matrix
from workbench.edit.rows import Rows
from workbench.edit.stream import Stream
from workbench.edit.value_vector import Onward, Part, answer_losses, log_probabilities, parts_of
from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.fact import FactSet, Replace, Request
from workbench.models.components import ComponentSet
from workbench.models.model import Model
from workbench.models.text import encode
from workbench.progress import SILENT, Progress

Which = Literal["best", "first", "middle", "last"]
Where = Literal["all", "last"]
_WORDINGS = 4  # of each fact, to try layers on


@dataclass(frozen=True)
class LunarConfig:
    """Settings of one LUNAR edit.

    Attributes:
        layer: which of several chosen MLPs is edited.
        coefficient: multiple of the direction that is asked for.
        positions: tokens of a forget prompt that are redirected.
        references: most refused prompts that the direction is taken from.
        preserve: usual keys that one forget key is weighed against.
        samples: usual keys for each input of the matrix.
        kept: kept facts among them.
        ridge: added to the diagonal of their moment, in units of its mean.
        seed: seed of every draw.
    """

    layer: Which = "best"
    coefficient: float = 2.0
    positions: Where = "all"
    references: int = 128
    preserve: float = 1.0
    samples: int = 10
    kept: int = 400
    ridge: float = 1e-4
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        for name, known in (("layer", Which), ("positions", Where)):
            if getattr(self, name) not in get_args(known):
                raise unknown_name(name, getattr(self, name), get_args(known))
        for name in ("coefficient", "references", "preserve", "ridge"):
            if not getattr(self, name) > 0:
                raise WorkbenchError(f"{name} must be positive, not {getattr(self, name)}.")
        if self.kept < 0:
            raise WorkbenchError(f"kept must not be negative, not {self.kept}.")


def lunar(
    model: Model,
    request: Request,
    components: ComponentSet,
    config: LunarConfig | None = None,
    *,
    progress: Progress = SILENT,
) -> Edit:
    """Edit one MLP so that the forget prompts look like ones the model refuses.

    Args:
        model: the model to edit; it stays as it is.
        request: what to forget, and `unknown` prompts that the model refuses.
        components: MLPs.
        config: settings.
        progress: where to report; cancelling changes nothing.

    Raises:
        WorkbenchError: settings, components or request do not fit.
    """
    started = time.perf_counter()
    config = config or LunarConfig()
    config.check()
    if isinstance(request.behaviour, Replace):
        raise WorkbenchError("LUNAR sends facts to a refusal; give the request a refusal text.")
    groups = mlp_matrices(model, components, "LUNAR")
    found = directions(
        model, request, groups, most=config.references, seed=config.seed, progress=progress
    )
    chances: dict[int, float] = {}
    if config.layer == "best":
        pushes = {layer: config.coefficient * r for layer, r in found.items()}
        chances = refusal_chances(model, request, pushes, progress=progress)
        group = max(groups, key=lambda g: chances[g.layer])
    else:
        group = at_place(groups, config.layer)
    writer, hf = group.writer, model.fork().hf
    rows = prompt_rows(model, prompts_in(request.forget), last=config.positions == "last")
    stream = Stream(model, rows, [group.layer], label="forget activations", progress=progress)
    x, y, _ = stream.observe(hf, writer)
    change = (config.coefficient * found[group.layer]).expand_as(y)
    if writer.post_norm:
        change = before_norm(hf.get_submodule(writer.post_norm), y, change)
    (usual,) = usual_keys(model, request, [group], config, progress).values()
    update, step = solve_matrix(
        x,
        change,
        usual.scaled(config.preserve * len(x)),
        writer,
        model.parameters[writer.parameter],
        solver="ridge",
        weight=1.0,
        ridge=0.0,
        rank=None,
        seed=config.seed,
    )
    step |= {"retain_keys": usual.count, "covariance_condition": usual.condition}
    if chances:
        step["refusal_chance"] = chances[group.layer]
    return finish_by(
        "lunar",
        model,
        request,
        components,
        {writer.parameter: update},
        config,
        steps=pd.DataFrame([{"layer": group.layer, **step}]),
        started=started,
    )


def prompts_in(facts: FactSet) -> list[str]:
    """Return the prompts of facts that an edit may use, each once, in order."""
    return list(dict.fromkeys(p for fact in facts for p in prompts_of(fact)))


def prompt_rows(model: Model, prompts: Sequence[str], *, last: bool) -> Rows:
    """Return prompts, and all of their positions or the last one."""
    sequences = tuple(tuple(encode(model, p)) for p in prompts)
    picks = tuple(tuple(range(len(s)))[-1 if last else 0 :] for s in sequences)
    return Rows(sequences, picks)


def directions(
    model: Model,
    request: Request,
    groups: Sequence[Matrix],
    *,
    most: int,
    seed: int,
    progress: Progress = SILENT,
) -> dict[int, Float[Tensor, " d_model"]]:
    """Return r behind the block of each matrix.

    Source: Shen et al. 2025 (arXiv 2502.07218); a difference in means as in Arditi et al. 2024
    (arXiv 2406.11717, eq. 1-3).

    Raises:
        WorkbenchError: the request has no `unknown` prompts.
    """
    refused = prompts_in(request.unknown)
    if not refused:
        raise WorkbenchError(
            "LUNAR needs prompts that the model refuses; give the request an `unknown` set."
        )
    hf, layers = model.fork().hf, [g.layer for g in groups]
    refused = random.Random(seed).sample(refused, min(most, len(refused)))
    forget = Stream(model, prompt_rows(model, prompts_in(request.forget), last=True), layers)
    aim = Stream(model, prompt_rows(model, refused, last=True), layers)
    out = {}
    for layer in progress.track(layers, "refusal directions"):
        forget.advance(hf, layer)
        aim.advance(hf, layer)
        out[layer] = aim.after(hf).float().mean(0) - forget.after(hf).float().mean(0)
    return out


@torch.no_grad()
def refusal_chances(
    model: Model,
    request: Request,
    pushes: Mapping[int, Float[Tensor, " d_model"]],
    *,
    progress: Progress = SILENT,
) -> dict[int, float]:
    """Return how likely the refusal's tokens are once a vector is added to the forget prompts.

    Args:
        model: the model.
        request: what to forget.
        pushes: block -> what is added to the stream behind it, at every token of the prompts.
        progress: where to report.

    Returns:
        Block -> geometric mean of the probabilities.
    """
    contexts = build_contexts(model, request, request.forget, (), wordings=_WORDINGS)
    hf, last = model.fork().hf, model.n_layers - 1
    stream = Onward(model, contexts.readings, range(min(pushes), model.n_layers))
    parts, n = parts_of(contexts, stream), len(request.forget)
    out = {}
    for layer in progress.track(sorted(pushes), "trying layers"):
        stream.advance(hf, layer)
        misses = 0.0
        for i, part in enumerate(parts):
            states = stream.onward(hf, i, last, _pushing(part, pushes[layer]))
            found = log_probabilities(model, states)
            misses += float(answer_losses(part, found, found[part.essence], n)[0].sum())
        out[layer] = math.exp(-misses / n)
    return out


def _pushing(part: Part, push: Float[Tensor, " d_model"]) -> Callable[[Tensor], Tensor]:
    def add(out: Tensor) -> Tensor:
        inside = torch.arange(out.shape[1], device=out.device) < part.prompt[:, None]
        return out + inside[:, :, None] * push.to(out.dtype)

    return add
