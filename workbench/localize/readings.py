"""What the activations of one prompt say: attention patterns, and who writes which token.

With the final norm's scale frozen, what a part adds to the residual stream at one position counts

    (A c) / s . (W_target - W_foil)

for the target's logit there, as in direct logit attribution (`logit_lens.py`; Elhage et al. 2021,
"A Mathematical Framework for Transformer Circuits"). The same split goes on inside a layer: an
attention is the sum of its heads' slices of the output matrix and its bias, an MLP the sum of its
neurons' activations times their output columns and its bias. A norm behind them (Gemma-2) is frozen
at its scale too. Effects through later components are not seen. Cost of each: one forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.localize.gradients import EMBEDDING, HOOKS
from workbench.localize.reading_parts import (
    check_count,
    check_position,
    final_scale,
    hook_names,
    last_stream,
    neurons,
    reader,
    states_of,
    written,
)
from workbench.localize.wiring import HeadShare
from workbench.models.components import Component, ComponentSet
from workbench.models.model import Model
from workbench.models.text import decode


@dataclass(frozen=True, eq=False)
class AttentionPatterns:
    """How much each position attends to each position before it.

    Attributes:
        tokens: the prompt's tokens.
        pattern: probabilities; each query's row sums to 1.
    """

    tokens: tuple[str, ...]
    pattern: Float[Tensor, "layer head query key"]


@dataclass(frozen=True, eq=False)
class HeadContributions:
    """What each part writes for the target at one position, in logits.

    Attributes:
        tokens: the prompt's tokens.
        position: where it is written, from 0.
        target: the token that counts for.
        foil: the token that counts against; None for the mean of all tokens.
        heads: each head's share.
        biases: each attention's output bias.
        mlps: each MLP's share.
        embedding: the embedding's share.
        constant: biases of the final norm and the unembedding.
    """

    tokens: tuple[str, ...]
    position: int
    target: str
    foil: str | None
    heads: Float[Tensor, "layer head"]
    biases: Float[Tensor, " layer"]
    mlps: Float[Tensor, " layer"]
    embedding: float
    constant: float

    @property
    def whole(self) -> float:
        """Logit of target minus foil, before a soft cap."""
        parts = self.heads.sum() + self.biases.sum() + self.mlps.sum()
        return float(parts) + self.embedding + self.constant


@dataclass(frozen=True, eq=False)
class NeuronContributions:
    """What each neuron of one MLP writes for the target at one position, in logits.

    Attributes:
        tokens: the prompt's tokens.
        layer: of the MLP.
        position: where it is written, from 0.
        target: the token that counts for.
        foil: the token that counts against; None for the mean of all tokens.
        values: each neuron's share.
        activations: each neuron's activation, gate included.
        bias: share of the MLP's output bias.
        top: the neurons with the largest |share|, largest first.
    """

    tokens: tuple[str, ...]
    layer: int
    position: int
    target: str
    foil: str | None
    values: Float[Tensor, " neuron"]
    activations: Float[Tensor, " neuron"]
    bias: float
    top: tuple[int, ...]

    @property
    def whole(self) -> float:
        """Share of the whole MLP."""
        return float(self.values.sum()) + self.bias


@dataclass(frozen=True, eq=False)
class PromotedTokens:
    """The tokens whose logits a component raises and lowers most at one position.

    Attributes:
        tokens: the prompt's tokens.
        component: which part.
        position: where it is written, from 0.
        top: raised most, first the most.
        raised: by how much, in logits, against the mean of all tokens.
        bottom: lowered most, first the most.
        lowered: by how much; negative.
    """

    tokens: tuple[str, ...]
    component: str
    position: int
    top: tuple[str, ...]
    raised: Float[Tensor, " k"]
    bottom: tuple[str, ...]
    lowered: Float[Tensor, " k"]


@torch.no_grad()
def attention_patterns(model: Model, prompt: str) -> AttentionPatterns:
    """Return every head's attention pattern on a prompt.

    Raises:
        WorkbenchError: the prompt is empty or too long.
    """
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.n_layers)]
    tokens, states = states_of(model, prompt, names)
    return AttentionPatterns(tokens, torch.cat([states[n] for n in names]).float().cpu())


@torch.no_grad()
def head_contributions(
    model: Model, prompt: str, position: int, target: str, foil: str | None = None
) -> HeadContributions:
    """Split the target's logit at one position into what was written there, heads taken apart.

    Args:
        model: the model.
        prompt: text to run.
        position: token position; negative ones count from the end.
        target: continuation whose first token counts for.
        foil: continuation whose first token counts against; None for the mean of all tokens.

    Raises:
        WorkbenchError: empty or too long prompt, no such position, or no such target or foil.
    """
    layers = range(model.n_layers)
    names = [n for i in layers for kind in ("attn", "mlp") for n in hook_names(i, kind)]
    tokens, states = states_of(model, prompt, [*names, EMBEDDING, last_stream(model)])
    at = check_position(position, tokens)
    here = {n: s[:, at : at + 1] for n, s in states.items()}
    vector, constant = reader(model, prompt, here, target, foil)
    heads, biases, mlps = [], [], []
    for i in layers:
        read, y, out = (here[n] for n in hook_names(i, "attn"))
        own = HeadShare.of(model, i).split(read.flatten(2), y, out)[:, 0, 0].double() @ vector
        heads.append(own)
        biases.append(out[0, 0].double() @ vector - own.sum())
        mlps.append(here[HOOKS["mlp"].format(i)][0, 0].double() @ vector)
    embedding = float(here[EMBEDDING][0, 0].double() @ vector)
    parts = (torch.stack(x).cpu() for x in (heads, biases, mlps))
    return HeadContributions(tokens, at, target, foil, *parts, embedding, constant)


@torch.no_grad()
def neuron_contributions(
    model: Model,
    prompt: str,
    layer: int,
    position: int,
    target: str,
    foil: str | None = None,
    *,
    k: int = 20,
) -> NeuronContributions:
    """Split what one MLP writes for the target at one position into its neurons' shares.

    Args:
        model: the model.
        prompt: text to run.
        layer: of the MLP.
        position: token position; negative ones count from the end.
        target: continuation whose first token counts for.
        foil: continuation whose first token counts against; None for the mean of all tokens.
        k: neurons to name in `top`.

    Raises:
        WorkbenchError: as `head_contributions`, no such layer, or `k` below 1.
    """
    check_count(k)
    model.structure.check(ComponentSet((Component(layer, "mlp"),)))
    tokens, states = states_of(model, prompt, [*hook_names(layer, "mlp"), last_stream(model)])
    at = check_position(position, tokens)
    here = {n: s[:, at : at + 1] for n, s in states.items()}
    vector, _ = reader(model, prompt, here, target, foil)
    activations, columns = neurons(model, layer, here)
    values = activations.double() * (columns.double() @ vector)
    whole = here[HOOKS["mlp"].format(layer)][0, 0].double() @ vector
    top = values.abs().topk(min(k, len(values))).indices.tolist()
    return NeuronContributions(
        tokens,
        layer,
        at,
        target,
        foil,
        values.cpu(),
        activations.cpu(),
        float(whole - values.sum()),
        tuple(top),
    )


@torch.no_grad()
def promoted_tokens(
    model: Model, prompt: str, component: Component | str, position: int = -1, *, k: int = 10
) -> PromotedTokens:
    """Read what a component writes at one position as if it went straight to the unembedding.

    Args:
        model: the model.
        prompt: text to run.
        component: an MLP, an attention, a head or a neuron, such as "head.3.1".
        position: token position; negative ones count from the end.
        k: tokens on each side.

    Raises:
        WorkbenchError: empty or too long prompt, no such position or component, or `k` below 1.
    """
    check_count(k)
    one = (
        ComponentSet.parse(component) if isinstance(component, str) else ComponentSet((component,))
    )
    model.structure.check(one)
    if len(one) != 1:
        raise WorkbenchError(f"{component!r} names {len(one)} components; give a single one.")
    (part,) = one
    model.structure.writer(part)  # refuses what does not write to the stream
    kind = "mlp" if part.kind in ("mlp", "neuron") else "attn"
    tokens, states = states_of(model, prompt, [*hook_names(part.layer, kind), last_stream(model)])
    at = check_position(position, tokens)
    here = {n: s[:, at : at + 1] for n, s in states.items()}
    linear, scale = final_scale(model, here)
    read = linear(written(model, part, here).double()[None])[0] / scale
    head: Any = model.hf.get_output_embeddings()
    logits = head.weight.double() @ read
    logits = (logits - logits.mean()).float().cpu()
    best, worst = logits.topk(min(k, len(logits))), (-logits).topk(min(k, len(logits)))
    names = [[decode(model, [i]) for i in x.indices.tolist()] for x in (best, worst)]
    top, bottom = (tuple(n) for n in names)
    return PromotedTokens(tokens, str(part), at, top, best.values, bottom, -worst.values)
