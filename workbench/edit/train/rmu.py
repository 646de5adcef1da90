"""RMU: send the stream of what is to be forgotten to a random direction, and hold the rest still.

L = MSE(h_l(forget), c u) + alpha MSE(h_l(retain), h_l of the base at retain)

h_l is the residual stream after layer l, u a unit vector whose entries are drawn uniformly, and
both means are over tokens and dimensions. The forward pass stops after layer l, so nothing is
unembedded. The model learns no refusal: it talks at random about what it has forgotten.

Source: Li et al. 2024 (WMDP, arXiv 2403.03218, sec. 4): forget, retain and full loss. There the
MLP down projections of three layers up to l are trained, here whatever was chosen. c is given in
multiples of the base's own norm, as in adaptive RMU (Huu-Tien et al. 2024, arXiv 2408.06223),
because a length that fits one model is nothing to another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from workbench.edit.edit import Edit
from workbench.edit.stamp import Sites
from workbench.edit.train.config import TrainingConfig
from workbench.edit.train.examples import Examples, answer_positions, gathered, texts
from workbench.edit.train.lessons import Lessons
from workbench.edit.train.loop import Objective, Rows, Student, train_edit, union
from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.fact import Request
from workbench.models.components import ComponentSet
from workbench.models.model import Model
from workbench.models.text import pad, pad_id
from workbench.models.vision import pixels_for
from workbench.progress import SILENT, Progress

TokenName = Literal["answer", "all"]
TOKENS: tuple[TokenName, ...] = get_args(TokenName)


@dataclass(frozen=True)
class RmuConfig(TrainingConfig):
    """Settings of RMU; `retain_weight` is its alpha.

    Attributes:
        layer: whose output is steered; none for the last chosen one. Components above it stay as
            they are.
        coefficient: c, length of the target in multiples of the mean norm of the base's stream at
            the forget tokens.
        tokens: where the stream is read: answer, from which each answer token is predicted, or
            all, everywhere in prompt and answer.
    """

    steps: int = 40
    layer: int | None = None
    coefficient: float = 1.0
    tokens: str = "answer"

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        super().check()
        self.check_signs(positive=("coefficient",))
        if self.tokens not in TOKENS:
            raise unknown_name("tokens to steer", self.tokens, TOKENS)


def rmu(
    model: Model,
    request: Request,
    components: ComponentSet | Sites,
    config: RmuConfig | None = None,
    *,
    progress: Progress = SILENT,
) -> Edit:
    """Make an edit by RMU; see `train_edit` for arguments and errors.

    Raises:
        WorkbenchError: the layer is not in the model, or no chosen component can reach it.
    """
    chosen = config or RmuConfig()
    layer = steered_layer(model, union(components), chosen.layer)

    def build(student: Student, base: Model, taught: Lessons) -> Objective:
        def spread(every: Examples) -> Examples:
            return texts(every.sequences) if chosen.tokens == "all" else every

        forget, retain = spread(taught.forget), spread(taught.retain + taught.neutral)
        at_forget = all_states(base, forget, layer)
        length = chosen.coefficient * float(at_forget.norm(dim=-1).mean())
        target = (length * random_direction(base.d_model, chosen.seed)).to(at_forget)
        before = all_states(base, retain, layer)

        def misdirect(rows: Rows) -> Float[Tensor, ""]:
            own = states(student.model, forget.take(rows), layer)
            return F.mse_loss(own, target.expand_as(own))

        def hold(rows: Rows) -> Float[Tensor, ""]:
            at = retain.tokens_of(rows).to(before.device)
            return F.mse_loss(states(student.model, retain.take(rows), layer), before[at])

        return Objective(misdirect, hold)

    return train_edit("rmu", model, request, components, chosen, build, progress)


def steered_layer(model: Model, components: ComponentSet, layer: int | None) -> int:
    """Return the layer whose output is steered: the last chosen one unless another is given.

    Raises:
        WorkbenchError: it is not in the model, or every chosen component is above it.
    """
    model.structure.check(components)
    layers = [c.block for c in components]
    if layer is None:
        return max(layers)
    if not min(layers) <= layer < model.n_layers:
        raise WorkbenchError(
            f"Layer {layer} cannot be steered by {components}; choose one from {min(layers)} to "
            f"{model.n_layers - 1}."
        )
    return layer


def random_direction(d_model: int, seed: int) -> Float[Tensor, " d_model"]:
    """Return u: entries uniform in [0, 1), then scaled to length 1."""
    drawn = torch.rand(d_model, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm()


class _Stop(Exception):
    """Ends a forward pass once the layer was read."""


def states(model: Model, batch: Examples, layer: int) -> Float[Tensor, "token d_model"]:
    """Return the stream after a layer, where each answer token is predicted from."""
    found: list[Tensor] = []

    def hook(module: nn.Module, args: Sequence[Any], output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)
        raise _Stop

    ids, mask = pad(batch.sequences, pad_id(model))
    block = model.hf.get_submodule(model.structure.layers[layer].block)
    handle = block.register_forward_hook(hook)
    try:
        with contextlib.suppress(_Stop):
            model.hf.base_model(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                use_cache=False,
                **pixels_for(model.vision, batch.sequences, model.device),
            )
    finally:
        handle.remove()
    hidden = found[0].float()
    row, position = answer_positions(batch)
    return hidden[row.to(hidden.device), position.to(hidden.device)]


def all_states(model: Model, every: Examples, layer: int) -> Float[Tensor, "token d_model"]:
    """Return the same for all examples, in the order of `Examples.tokens_of`."""
    own = model.fork()  # a hook needs a module tree of its own
    return gathered(own, every, lambda batch: states(own, batch, layer))
