"""What readings of one prompt share: states at one position, and how the unembedding reads them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.facts.prompts import continuation
from workbench.localize.gradients import HOOKS, States, run
from workbench.localize.localization import CellKind
from workbench.localize.logit_lens import Linear, frozen_norm, norm_scale, readout
from workbench.localize.wiring import HeadShare
from workbench.models.components import Component
from workbench.models.embeddings import embed
from workbench.models.model import Model
from workbench.models.text import decode, encode, final_norm

_INPUT = "blocks.{}.{}.hook_in"
_OUTPUT = "blocks.{}.{}.hook_out"
_MATRIX: dict[CellKind, str] = {"attn": "attn.o", "mlp": "mlp.out"}


def hook_names(layer: int, kind: CellKind) -> tuple[str, str, str]:
    """Return the hook points of a matrix's input and output, and of what is added to the stream."""
    matrix = _MATRIX[kind]
    return _INPUT.format(layer, matrix), _OUTPUT.format(layer, matrix), HOOKS[kind].format(layer)


def last_stream(model: Model) -> str:
    """Return the hook point of the stream behind the last block."""
    return HOOKS["resid"].format(model.n_layers - 1)


def states_of(model: Model, prompt: str, names: Sequence[str]) -> tuple[tuple[str, ...], States]:
    """Run a prompt once; return its tokens and the states at some hook points."""
    ids = encode(model, prompt)
    _, states = run(model, embed(model, [ids]), names)
    return tuple(decode(model, [i]) for i in ids), states


def check_position(position: int, tokens: Sequence[str]) -> int:
    """Return a position counted from 0.

    Raises:
        WorkbenchError: the prompt has no such token.
    """
    if not -len(tokens) <= position < len(tokens):
        raise WorkbenchError(
            f"The prompt has tokens 0 to {len(tokens) - 1} and no token {position}; choose one of "
            "them."
        )
    return position % len(tokens)


def check_count(k: int) -> None:
    """Refuse an empty ranking.

    Raises:
        WorkbenchError: `k` is below 1.
    """
    if k < 1:
        raise WorkbenchError("A ranking shows at least one entry; set k to 1 or more.")


def final_scale(model: Model, here: States) -> tuple[Linear, Tensor]:
    """Return the final norm's linear part and its scale at this position."""
    linear, offset = frozen_norm(model)
    stream = here[last_stream(model)][:, 0]
    return linear, norm_scale(linear, offset, stream, final_norm(model, stream))[0]


def reader(
    model: Model, prompt: str, here: States, target: str, foil: str | None
) -> tuple[Float[Tensor, " d_model"], float]:
    """Return the vector whose product with what is added to the stream is its share.

    The second value is what the biases of final norm and unembedding add.

    Raises:
        WorkbenchError: target or foil cannot be made, or begin alike.
    """
    wanted = continuation(model, prompt, target)[0]
    other = continuation(model, prompt, foil)[0] if foil else None
    if wanted == other:
        raise WorkbenchError(
            f"The target {target!r} and the foil {foil!r} begin with the same token; choose "
            "another foil, or put what they share at the end of the prompt."
        )
    direction, bias = readout(model, [wanted], [other])
    linear, scale = final_scale(model, here)
    offset = frozen_norm(model)[1]
    return _pulled(linear, direction[0]) / scale, float(offset @ direction[0] + bias[0])


def _pulled(linear: Linear, vector: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    """Return A^T v for a linear map A given as a function of rows."""
    return linear(torch.eye(len(vector), device=vector.device, dtype=torch.float64)) @ vector


def neurons(
    model: Model, layer: int, here: States
) -> tuple[Float[Tensor, " neuron"], Float[Tensor, "neuron d_model"]]:
    """Return activations, and what each neuron adds to the stream for an activation of 1."""
    writer = model.structure.writer(Component(layer, "mlp"))
    weight = model.parameters[writer.parameter]
    columns = weight if writer.transposed else weight.T
    read, y, out = (here[n][0, 0] for n in hook_names(layer, "mlp"))
    if writer.post_norm is None:
        return read, columns
    linear, offset = frozen_norm(model, writer.post_norm)
    return read, linear(columns.double()) / norm_scale(linear, offset, y[None], out[None])


def written(model: Model, part: Component, here: States) -> Float[Tensor, " d_model"]:
    """Return what a component adds to the stream at this position; neurons and heads no bias."""
    if part.kind == "neuron":
        activations, columns = neurons(model, part.layer, here)
        return activations[part.index] * columns[part.index]
    if part.kind == "head":
        read, y, out = (here[n] for n in hook_names(part.layer, "attn"))
        return HeadShare.of(model, part.layer).split(read.flatten(2), y, out)[part.index, 0, 0]
    return here[HOOKS[part.kind].format(part.layer)][0, 0]
