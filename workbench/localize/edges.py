"""Runs in which every reader of the residual stream may be given a stream of its own.

An edge is a pair (writer u, reader v) with v behind u. A reader's input is

    norm_v(stream + shift_v)

where `stream` is what the model itself would read and the caller chooses `shift_v`, so that one
driver serves all: without shifts a run is recorded; shifts of zero are the leaves of the readers'
input gradients; and minus the change of the cut writers is edge ablation. The norm is the reader's.

Each head reads for itself: an attention is run with one copy of the rows for each head, with that
head's input, and of copy h head h is kept. That needs no code per family, grouped queries and
sliding windows included, at `n_heads` times the price of the attention. The query, key and value of
a head share one input. A head's output is its share of the attention's; what is no head's (the
output bias) is dealt out evenly and cancels wherever two runs are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.localize.gradients import Group
from workbench.localize.metrics import Metric
from workbench.localize.runs import before, behind, stream_of, with_stream
from workbench.localize.wiring import Wiring

Shift = Callable[[slice, Sequence[Tensor]], Tensor | None]
Outputs = Float[Tensor, "writer row pos d_model"]


def drive(
    wiring: Wiring, embeds: Float[Tensor, "row pos d_model"], shift: Shift | None = None
) -> tuple[Float[Tensor, "row vocab"], Outputs]:
    """Run embeddings through the model, each reader with its own shift of the stream.

    Args:
        wiring: the model.
        embeds: token embeddings, not yet scaled or given positions.
        shift: called with the readers that are about to read and all writers' outputs so far;
            returns what to add to the stream of each, [reader row pos d_model], or None.

    Returns:
        Logits at the last position, and what every writer wrote.
    """
    outputs: list[Tensor] = []
    last = len(wiring.graph.readers) - 1

    def finish(module: nn.Module, args: tuple, kwargs: dict) -> Any:
        moved = shift(slice(last, last + 1), outputs) if shift else None
        if moved is None:
            return args, kwargs
        return with_stream(args, kwargs, stream_of(args, kwargs) + moved[0])

    with ExitStack() as hooks:
        for layer in range(len(wiring.attns)):
            _hook_layer(hooks, wiring, layer, outputs, shift)
        before(hooks, wiring.final_norm, finish)
        logits = wiring.parts.hf(inputs_embeds=embeds, use_cache=False, logits_to_keep=1).logits
    return logits[:, -1], torch.stack(outputs)


def _hook_layer(
    hooks: ExitStack, wiring: Wiring, layer: int, outputs: list[Tensor], shift: Shift | None
) -> None:
    """Let the readers of one block read shifted streams, and keep what its writers write."""
    parts, (attn_norm, mlp_norm), n = wiring.parts, wiring.norms[layer], wiring.heads
    start = layer * (n + 1)
    seen: dict[str, Tensor] = {}

    def enter(module: nn.Module, args: tuple, kwargs: dict) -> None:
        seen["attn"] = seen["mlp"] = stream_of(args, kwargs)
        if layer == 0:
            outputs.append(seen["attn"])

    def enter_mlp(module: nn.Module, args: tuple, kwargs: dict) -> None:
        seen["mlp"] = stream_of(args, kwargs)

    def read_attn(module: nn.Module, args: tuple, kwargs: dict) -> Any:
        moved = shift(slice(start, start + n), outputs) if shift else None
        if moved is None:
            return args, kwargs
        own = attn_norm.forward(seen["attn"] + moved).flatten(0, 1)
        args, kwargs = _copies((args, kwargs), len(seen["attn"]), n)
        return with_stream(args, kwargs, own)

    def gather(module: nn.Module, args: tuple, kwargs: dict) -> Any:
        z, rows = args[0], len(seen["attn"])
        if len(z) != rows:
            by_copy = z.unflatten(-1, (n, -1)).unflatten(0, (n, rows))
            z = by_copy.diagonal(dim1=0, dim2=-2).movedim(-1, -2).flatten(-2)
        seen["z"] = z
        return (z, *args[1:]), kwargs

    def read_mlp(module: nn.Module, args: tuple, kwargs: dict) -> Any:
        moved = shift(slice(start + n, start + n + 1), outputs) if shift else None
        if moved is None:
            return args, kwargs
        return with_stream(args, kwargs, mlp_norm.forward(seen["mlp"] + moved[0]))

    def keep_read(module: nn.Module, args: tuple, out: Tensor) -> None:
        seen["read"] = out

    def keep_attn(module: nn.Module, args: tuple, out: Tensor) -> None:
        if n == 1:
            outputs.append(out)
            return
        heads = wiring.shares[layer].split(seen["z"], seen["read"], out)
        outputs.extend(heads + (out - heads.sum(0)) / n)

    before(hooks, parts.blocks[layer], enter)
    if mlp_norm is not attn_norm:
        before(hooks, mlp_norm, enter_mlp)
    before(hooks, wiring.attns[layer], read_attn)
    before(hooks, parts.attn_out[layer], gather)
    behind(hooks, parts.attn_out[layer], keep_read)
    behind(hooks, wiring.written[layer][0], keep_attn)
    before(hooks, wiring.mlps[layer], read_mlp)
    behind(hooks, wiring.written[layer][1], lambda module, args, out: outputs.append(out))


def _copies(value: Any, rows: int, n: int) -> Any:
    """Repeat what has one entry per row (masks, positions) for each head's copy of the rows."""
    if isinstance(value, Tensor):
        per_row = value.ndim > 1 and len(value) == rows
        return value.repeat(n, *(1,) * (value.ndim - 1)) if per_row else value
    if isinstance(value, tuple):
        return tuple(_copies(v, rows, n) for v in value)
    if isinstance(value, dict):
        return {key: _copies(v, rows, n) for key, v in value.items()}
    return value


def reader_gradients(
    wiring: Wiring, group: Group, embeds: Float[Tensor, "row pos d_model"], metric: Metric
) -> Float[Tensor, "reader row pos d_model"]:
    """Return d metric / d (stream that each reader reads), for rows of the group's corrupted ones.

    Costs one forward and one backward pass.
    """
    leaves: list[Tensor] = []

    def leaf(readers: slice, outputs: Sequence[Tensor]) -> Tensor:
        shape = (readers.stop - readers.start, *embeds.shape)
        leaves.append(torch.zeros(shape, device=embeds.device, dtype=embeds.dtype))
        return leaves[-1].requires_grad_()

    with torch.enable_grad():
        logits, _ = drive(wiring, embeds, leaf)
        total = group.measure(metric, logits, group.fact).sum()
        return torch.cat(torch.autograd.grad(total, leaves))


def path_reader_gradients(
    wiring: Wiring, group: Group, metric: Metric, steps: int
) -> Float[Tensor, "reader row pos d_model"]:
    """Average `reader_gradients` over midpoints of the embeddings' path from corrupted to clean.

    Hanna et al. 2024 (arXiv 2403.17806) eq. 4, with midpoints instead of left ends.
    """
    step = group.clean[group.fact] - group.corrupted
    points = (group.corrupted + (k + 0.5) / steps * step for k in range(steps))
    gradients = [reader_gradients(wiring, group, point, metric) for point in points]
    return torch.stack(gradients).mean(0)


@torch.no_grad()
def ablate_edges(
    wiring: Wiring,
    embeds: Float[Tensor, "row pos d_model"],
    corrupted: Outputs,
    kept: Bool[Tensor, "writer reader"],
) -> Float[Tensor, "row vocab"]:
    """Run with every edge that is not kept corrupted; return the last position's logits.

    A reader's stream is moved by minus the sum over cut writers of (what the writer wrote in this
    run - what it wrote in the corrupted run).

    Args:
        wiring: the model.
        embeds: clean token embeddings.
        corrupted: what every writer wrote in the corrupted run of the same row.
        kept: edges that stay; those the graph does not have are ignored.
    """
    cut = (wiring.graph.edges & ~kept).to(corrupted)
    change = torch.empty_like(corrupted)
    done = 0

    def shift(readers: slice, outputs: Sequence[Tensor]) -> Tensor | None:
        nonlocal done
        for i in range(done, len(outputs)):
            change[i] = outputs[i] - corrupted[i]
        done = len(outputs)
        weights = cut[:done, readers]
        if not bool(weights.any()):
            return None
        return -torch.einsum("uv,urpd->vrpd", weights, change[:done])

    return drive(wiring, embeds, shift)[0]
