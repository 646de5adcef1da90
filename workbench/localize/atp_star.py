"""AtP*: two repairs of attribution patching where its first-order estimate is known to fail.

Query/key fix: the softmax is computed, not linearised. With the clean query (or key) in place,

    effect(head, position) = sum_{i,j} (pattern'_ij - pattern_ij) * d metric / d pattern_ij

for a query the rows i = position, for a key all rows after its own column was exchanged. One pass
with every query (or key) exchanged and every block's output put back gives all layers at once.

Gradient drop: direct and indirect effects may cancel; so the gradient through one block after the
other is dropped and the sizes of the estimates are averaged,

    score = sign(estimate) / (L - 1) * sum_l |estimate with block l's gradient dropped|

(L for the residual stream, which no drop silences). L backward passes over one forward pass.

Source: Kramar et al. 2024 (arXiv 2403.00745), sec. 3.1 and 3.2. The paper's score has no sign; the
estimate's own is kept here so that components that lower the answer can be told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.localize.gradients import Group, run, run_with_gradients
from workbench.localize.metrics import Metric
from workbench.models.model import Model

Part = Literal["query", "key"]
_INPUT: Mapping[Part, str] = {"query": "blocks.{}.attn.hook_q", "key": "blocks.{}.attn.hook_k"}
_SCORES = "blocks.{}.attn.hook_attn_scores"
_PATTERN = "blocks.{}.attn.hook_pattern"
_BLOCK = "blocks.{}.hook_resid_post"


def gradient_drop(
    model: Model,
    group: Group,
    names: Sequence[str],
    metric: Metric,
    change: Mapping[str, Tensor],
) -> dict[str, Float[Tensor, "..."]]:
    """Estimate the effect of each node as the mean over dropped blocks.

    Args:
        model: the model.
        group: facts of one length.
        names: hook points of the nodes.
        metric: what is measured.
        change: clean minus corrupted state of each node.

    Returns:
        Effects by hook point: [row pos], heads [row pos head].
    """
    writers = [
        [f"blocks.{i}.hook_{part}_out" for part in ("attn", "mlp")] for i in range(model.n_layers)
    ]
    every = list(dict.fromkeys([*names, *(w for pair in writers for w in pair)]))
    with torch.enable_grad():
        logits, states = run(model, group.corrupted.detach().requires_grad_(), every)
        total = group.measure(metric, logits, group.fact).sum()
        nodes = [states[n] for n in names]
        plain = torch.autograd.grad(total, nodes, retain_graph=True)
        sizes = {n: torch.zeros_like(change[n][..., 0]) for n in names}
        for layer, pair in enumerate(writers if model.n_layers > 1 else ()):
            handles = [states[w].register_hook(torch.zeros_like) for w in pair]
            try:
                found = torch.autograd.grad(total, nodes, retain_graph=True)
            finally:
                for handle in handles:
                    handle.remove()
            for name, gradient in zip(names, found, strict=True):
                # What writes through the dropped block has no effect; torch reports the gradient
                # before the hook.
                if name.startswith(f"blocks.{layer}.") and name != _BLOCK.format(layer):
                    continue
                sizes[name] += (change[name] * gradient).sum(-1).abs()
    out = {}
    for name, gradient in zip(names, plain, strict=True):
        estimate = (change[name] * gradient).sum(-1)
        heard = model.n_layers - (0 if name.endswith("hook_resid_post") else 1)
        out[name] = torch.sign(estimate) * sizes[name] / heard if model.n_layers > 1 else estimate
    return out


def query_key_effects(
    model: Model, group: Group, metric: Metric, part: Part, *, fix: bool = True
) -> list[Float[Tensor, "row pos head"]]:
    """Estimate, layer by layer, the effect of exchanging one head's query or key at one position.

    With grouped queries a head's key is changed for that head alone. Costs one clean forward pass,
    one forward and backward pass of the corrupted run and one more forward pass.

    Args:
        model: the model.
        group: facts of one length.
        metric: what is measured.
        part: which input of the softmax is exchanged.
        fix: False linearises the softmax, as plain attribution does.
    """
    layers = range(model.n_layers)
    inputs = [_INPUT[part].format(i) for i in layers]
    blocks = [_BLOCK.format(i) for i in layers]
    scores, patterns = ([n.format(i) for i in layers] for n in (_SCORES, _PATTERN))
    with torch.no_grad():
        _, clean = run(model, group.clean, inputs)
    _, base, gradients = run_with_gradients(
        model, group, group.corrupted, [*scores, *patterns, *blocks], metric
    )
    replace = {n: _constant(clean[n][group.fact]) for n in inputs}
    replace |= {n: _constant(base[n]) for n in blocks}
    with torch.no_grad():
        _, patched = run(model, group.corrupted, scores, replace=replace)
        out = []
        for old, pattern in zip(scores, patterns, strict=True):
            new = (base[old], patched[old])
            effect = (
                _exact(*new, base[pattern], gradients[pattern], part)
                if fix
                else _linear(*new, gradients[old], part)
            )
            out.append(effect.transpose(1, 2))
    return out


def _constant(value: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda _: value


def _exact(old: Tensor, new: Tensor, pattern: Tensor, gradient: Tensor, part: Part) -> Tensor:
    """Sum the exact change of the pattern against the pattern's gradient: [row head pos]."""
    if part == "query":
        return ((torch.softmax(new, -1) - pattern) * gradient).sum(-1)
    out = torch.empty_like(old[..., 0])
    for t in range(old.shape[-1]):
        column = old.clone()
        column[..., t] = new[..., t]
        change = torch.softmax(column, -1) - pattern
        out[..., t] = (change * gradient).sum((-1, -2))
    return out


def _linear(old: Tensor, new: Tensor, gradient: Tensor, part: Part) -> Tensor:
    # Masked scores are -inf in some families; nothing flows through them.
    change = torch.nan_to_num(new - old, nan=0.0, posinf=0.0, neginf=0.0) * gradient
    return change.sum(-1 if part == "query" else -2)
