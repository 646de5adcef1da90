"""What the residual stream says: after each layer (the lens), and each component's share of it.

Lens: the stream behind layer l, read as if it were the last one's,

    logits_l = unembed(final_norm(resid_l))

Direct attribution: with the final norm's scale frozen the logits are a sum over what was written,

    logit(target) - logit(foil) = constant + sum_c (A c) / s . (W_target - W_foil)

where A is the norm's linear part (gain, and centring if it centres) and s its scale in this run; c
runs over the embedding and every attention's and MLP's output at the last position. Without a foil
the target is held against the mean of all tokens. Logits are those before a soft cap. Indirect
effects are not seen: what other components make of c counts for them.

Source: nostalgebraist 2020, "interpreting GPT: the logit lens"; Elhage et al. 2021, "A Mathematical
Framework for Transformer Circuits". Cost: one forward pass of each prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet
from workbench.facts.known import split_known
from workbench.facts.prompts import Prompt, continuation, group_by_length, tokenize
from workbench.localize.corruption import distinguish
from workbench.localize.gradients import EMBEDDING, States, node_names, run
from workbench.localize.localization import Cell, FactEffects, Localization, summarise
from workbench.models.embeddings import embed
from workbench.models.model import Model
from workbench.models.text import encode, final_norm, unembed
from workbench.progress import SILENT, Progress

Linear = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class LogitLens:
    """What each layer would say next at each position.

    Attributes:
        tokens: the prompt's tokens.
        top: the most probable next tokens, [layer][position][rank].
        probability: their probabilities.
        target_probability: probability of the target's first token, if one was given.
        target_rank: its rank, 0 = most probable.
    """

    tokens: tuple[str, ...]
    top: tuple[tuple[tuple[str, ...], ...], ...]
    probability: Float[Tensor, "layer pos rank"]
    target_probability: Float[Tensor, "layer pos"] | None = None
    target_rank: Int[Tensor, "layer pos"] | None = None


@torch.no_grad()
def logit_lens(
    model: Model, prompt: str, *, target: str | None = None, top_k: int = 5
) -> LogitLens:
    """Read the next token off the residual stream behind every layer.

    Raises:
        WorkbenchError: empty or too long prompt, a target that cannot be made, or `top_k` below 1.
    """
    if top_k < 1:
        raise WorkbenchError("The lens shows at least one token; set top_k to 1 or more.")
    ids = encode(model, prompt)
    names = node_names(model, ["resid"])
    _, states = run(model, embed(model, [ids]), names)
    logits = unembed(model, final_norm(model, torch.cat([states[n] for n in names])))
    probability = torch.softmax(logits.float(), -1)
    best = probability.topk(min(top_k, probability.shape[-1]), -1)
    top = tuple(
        tuple(tuple(model.tokenizer.decode([i]) for i in at) for at in layer)
        for layer in best.indices.tolist()
    )
    texts = tuple(model.tokenizer.decode([i]) for i in ids)
    if target is None:
        return LogitLens(texts, top, best.values)
    first = continuation(model, prompt, target)[0]
    own = probability[..., first]
    rank = (probability > own[..., None]).sum(-1)
    return LogitLens(texts, top, best.values, own, rank)


@torch.no_grad()
def logit_attribution(model: Model, facts: FactSet, *, progress: Progress = SILENT) -> Localization:
    """Split the answer's logit at the last position into what each component wrote there.

    Scores, `config["embedding"]` and `config["constant"]` (biases of norm and unembedding) sum to
    1, the whole logit difference. Other positions write nothing there directly and score 0.

    Raises:
        WorkbenchError: no fact is known, or the logit difference is 0.
    """
    known = split_known(model, facts, progress=progress)
    prompts = [distinguish(tokenize(model, f)) for f in known.require()]
    parts = [{}] * len(prompts)
    for indices in progress.track(group_by_length(prompts), "logit attribution"):
        for i, part in zip(indices, _direct(model, [prompts[i] for i in indices]), strict=True):
            parts[i] = part
    effects = [_effects(p, part) for p, part in zip(prompts, parts, strict=True)]
    whole = float(np.mean([e.clean for e in effects]))
    ends = {n: float(np.mean([float(p[n]) for p in parts])) for n in ("embedding", "constant")}
    config = {
        "model": model.name,
        "model_fingerprint": model.fingerprint,
        "facts_fingerprint": facts.fingerprint,
        **{n: value / whole if whole else 0.0 for n, value in ends.items()},
    }
    tokens = [model.tokenizer.decode([i]) for i in prompts[0].ids] if len(prompts) == 1 else None
    left_out = [f.prompt for f in known.unknown]
    return summarise(
        "logit_lens", effects, model.structure, left_out=left_out, config=config, tokens=tokens
    )


def _effects(prompt: Prompt, part: dict[Any, Tensor]) -> FactEffects:
    cells: dict[Cell, Tensor] = {}
    for cell, value in part.items():
        if isinstance(cell, tuple):
            cells[cell] = torch.zeros(1, len(prompt.ids))
            cells[cell][0, -1] = value
    return FactEffects(prompt, float(part["whole"]), torch.zeros(1), cells)


def _direct(model: Model, prompts: Sequence[Prompt]) -> list[dict[Any, Tensor]]:
    """Return each prompt's contributions by cell, and "embedding", "constant" and "whole"."""
    kinds = ("mlp", "attn")
    final = node_names(model, ["resid"])[-1]
    names = [*node_names(model, kinds), EMBEDDING, final]
    _, states = run(model, embed(model, [p.ids for p in prompts]), names)
    last: States = {n: s[:, -1].double() for n, s in states.items()}
    foils = [p.foil[0] if p.foil else None for p in prompts]
    direction, bias = readout(model, [p.target[0] for p in prompts], foils)
    linear, offset = frozen_norm(model)
    normed = final_norm(model, states[final][:, -1])
    scale = norm_scale(linear, offset, last[final], normed)
    share = {n: (linear(v) / scale * direction).sum(-1) for n, v in last.items()}
    constant = (offset * direction).sum(-1) + bias
    out: list[dict[Any, Tensor]] = []
    for row in range(len(prompts)):
        part: dict[Any, Tensor] = {
            (kind, layer, -1): share[name][row]
            for kind in kinds
            for layer, name in enumerate(node_names(model, [kind]))
        }
        part |= {"embedding": share[EMBEDDING][row], "constant": constant[row]}
        part["whole"] = share[final][row] + constant[row]
        out.append(part)
    return out


def readout(
    model: Model, target: Sequence[int], foil: Sequence[int | None]
) -> tuple[Float[Tensor, "row d_model"], Float[Tensor, " row"]]:
    """Return the directions of the unembedding whose products are measured, and their biases.

    Args:
        model: the model.
        target: token ids whose logits count for.
        foil: token ids whose logits count against; None for the mean of all tokens.
    """
    head: Any = model.hf.get_output_embeddings()
    weight = head.weight.double()
    bias = head.bias if getattr(head, "bias", None) is not None else weight.new_zeros(len(weight))
    against = [weight.mean(0) if f is None else weight[f] for f in foil]
    minus = [bias.mean() if f is None else bias[f] for f in foil]
    rows = list(target)
    return weight[rows] - torch.stack(against), bias[rows].double() - torch.stack(minus)


def frozen_norm(model: Model, path: str | None = None) -> tuple[Linear, Float[Tensor, " d_model"]]:
    """Return a norm's linear part as a function, and what it adds.

    norm(v) = A v / s(v) + b, so A v = (norm(v) - b) s(v); vectors are made long first, so that the
    norm's epsilon vanishes. Whether it centres is asked of the norm itself: it then sends a
    constant vector to b.

    Args:
        model: the model.
        path: module path of the norm; default the final one.
    """
    norm = model.hf.get_submodule(path or model.structure.final_norm)
    probe = torch.ones(1, model.d_model, device=model.device, dtype=model.hf.dtype)
    offset = norm(probe * 0)[0].double()
    centres = torch.allclose(norm(probe)[0].double(), offset, atol=1e-4)

    def linear(v: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        centred = v - v.mean(-1, keepdim=True) if centres else v
        size = centred.pow(2).mean(-1, keepdim=True).sqrt().clamp(min=1e-12)
        unit = (centred / size * 1e3).to(model.hf.dtype)
        return (norm(unit).double() - offset) * size

    return linear, offset


def norm_scale(
    linear: Linear,
    offset: Float[Tensor, " d_model"],
    read: Float[Tensor, "... d_model"],
    out: Float[Tensor, "... d_model"],
) -> Float[Tensor, "... 1"]:
    """Return the scale s at which a norm made `out` of `read`, its epsilon included.

    out - b = A read / s, so s is the ratio of the two, by least squares; 1 where nothing was read.
    """
    image, normed = linear(read), out.double() - offset
    size = (normed * normed).sum(-1, keepdim=True)
    ratio = (image * normed).sum(-1, keepdim=True) / size.clamp(min=1e-300)
    return torch.where(size > 0, ratio, torch.ones_like(ratio))
