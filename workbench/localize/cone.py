"""Exact patching of every cell of a prompt, computed over the causal cone only.

Patching position t in layer l of a base run changes positions >= t in layers > l and nothing else
(so it is with several neighbouring positions at once, t the first of them: all of a picture's):

    1. run base and donor once; keep every block's input, the outputs of attention and MLP, and the
       base's keys and values;
    2. whatever follows attention in a block acts on each position alone, so one pass over the
       base's block inputs, with a component patched at all positions at once, gives the stream
       behind the patched block for each position; from there on every patch is a stream patch;
    3. for each t sweep the layers once: the variants patched in layer l - 1 join the batch at layer
       l; positions < t are read as the base's keys and values; in the last layer all but keys and
       values, and the unembedding, are computed at the last position only.

Cost per position: n (L - 1) / 2 block passes over positions >= t for n variants, against n L passes
over all positions with logits everywhere for one patched run each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from workbench.localize.corruption import Pair
from workbench.localize.localization import (
    Cell,
    CellKind,
    FactEffects,
)
from workbench.localize.metrics import Metric
from workbench.localize.runs import (
    Parts,
    Run,
    Unit,
    before,
    behind,
    entry_states,
    first_of,
    last_logits,
    record,
    rows_of,
    stream_of,
    with_first,
    with_stream,
)
from workbench.models.caching import as_cache
from workbench.models.model import Model
from workbench.progress import SILENT, Progress

Direction = Literal["denoising", "noising"]
_MAX_TOKENS = 4096  # tokens in one sweep
_MAX_LOGITS = 1 << 26


@dataclass(frozen=True)
class Variant:
    """One way to patch a position: a kind of component in the layers first to last.

    Attributes:
        cell: kind, layer and head under which its effect is reported.
        first: first patched layer.
        last: last patched layer, included; equals `first` for the residual stream and heads.
    """

    cell: Cell
    first: int
    last: int

    @property
    def unit(self) -> Unit:
        """What is patched, whatever the layer."""
        return self.cell[0], self.cell[2]


class _BasePast(DynamicLayer):
    """Keys and values of the base run before the cone, read by any number of rows.

    A plain layer even where attention slides: the window is then the mask's business alone.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys: Tensor = keys
        self.values: Tensor = values
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Put the past of each row in front; keep nothing, for the next sweep starts anew."""
        return _put_behind(self.keys, key_states), _put_behind(self.values, value_states)


def _put_behind(past: Tensor, new: Tensor) -> Tensor:
    past = past[: len(new)]
    copies = len(new) // len(past)
    new = new.unflatten(0, (copies, len(past)))
    return torch.cat([past.expand(copies, *past.shape), new], -2).flatten(0, 1)


def patch_effects(
    model: Model,
    pairs: Sequence[Pair],
    variants: Sequence[Variant],
    metric: Metric,
    *,
    direction: Direction = "denoising",
    progress: Progress = SILENT,
    label: str = "patching",
) -> list[FactEffects]:
    """Patch every variant at every position of every pair, and at all of a seen subject's together.

    Denoising puts clean states into the corrupted runs, noising corrupted ones into the clean run;
    both count towards the clean metric, so that the whole effect is clean minus corrupted:
    denoising gives patched - corrupted, noising clean - patched.

    Raises:
        Cancelled: the caller's progress asked to stop.
    """
    parts = Parts.of(model)
    total = sum(len(pair.ids) for pair in pairs)
    done, out = 0, []
    with torch.no_grad():
        for pair in pairs:
            progress.step(done, total, label)

            def tick(position: int, start: int = done) -> None:
                progress.step(start + position, total, label)

            out.append(_pair_effects(parts, pair, variants, metric, direction, tick))
            done += len(pair.ids)
    progress.step(done, total, label)
    return out


def _pair_effects(
    parts: Parts,
    pair: Pair,
    variants: Sequence[Variant],
    metric: Metric,
    direction: Direction,
    tick: Callable[[int], None],
) -> FactEffects:
    def read(logits: Tensor) -> Tensor:
        target = torch.full((len(logits),), pair.target, device=logits.device)
        foil = None if pair.foil is None else torch.full_like(target, pair.foil)
        return metric(logits, target, foil)

    clean, corrupted = record(parts, pair.clean), record(parts, pair.corrupted)
    base, donor = (corrupted, clean) if direction == "denoising" else (clean, corrupted)
    sign = 1.0 if direction == "denoising" else -1.0
    start = entry_states(parts, base, donor, {v.unit for v in variants})
    unpatched = read(base.logits)
    length, n_rows = len(pair.ids), len(pair.corrupted)
    cells = {v.cell: unpatched.new_zeros(n_rows, length) for v in variants}

    def effects(t: int, end: int) -> Iterator[tuple[Cell, Tensor]]:
        for group in _groups(variants, t, end, length, n_rows, base.logits.shape[-1], parts):
            logits = _sweep(parts, base, donor, start, group, t, end)
            patched = read(logits).view(len(group), n_rows)
            for variant, values in zip(group, patched, strict=True):
                yield variant.cell, sign * (values - unpatched)

    for t in range(pair.first_corrupted, length):
        tick(t)
        for cell, effect in effects(t, t + 1):
            cells[cell][:, t] = effect
    picture = {v.cell: unpatched.new_zeros(n_rows) for v in variants}
    if span := pair.prompt.seen_subject:
        picture |= dict(effects(*span))
    return FactEffects(
        pair.prompt,
        float(read(clean.logits)[0]),
        read(corrupted.logits),
        cells,
        picture if span else None,
    )


def _groups(
    variants: Sequence[Variant],
    t: int,
    end: int,
    length: int,
    n_rows: int,
    n_vocab: int,
    parts: Parts,
) -> list[list[Variant]]:
    """Split the variants that can matter from t to `end` into sweeps that fit in memory."""
    last_layer = len(parts.blocks) - 1
    matter = [v for v in variants if v.first < last_layer or end == length]
    ordered = sorted(matter, key=lambda v: v.first)
    size = min(_MAX_TOKENS // (n_rows * (length - t)), _MAX_LOGITS // (n_rows * n_vocab))
    size = max(size, 1)
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


def _sweep(
    parts: Parts,
    base: Run,
    donor: Run,
    start: Mapping[Unit, Sequence[Tensor]],
    variants: Sequence[Variant],
    t: int,
    end: int,
) -> Float[Tensor, "row vocab"]:
    """Run all variants, patched from t up to `end`, through the layers; rows are variant-major."""
    n_rows = max(len(base.embeds), len(donor.embeds))
    length, last = base.embeds.shape[1], len(parts.blocks) - 1

    def join(old: Tensor, layer: int) -> Tensor:
        new = [] if variants[0].first + 1 >= layer else [old]  # the first row is only a carrier
        for variant in (v for v in variants if v.first + 1 == layer):
            stream = rows_of(base.stream[layer], n_rows)[:, t:].clone()
            stream[:, : end - t] = start[variant.unit][layer - 1][:, t:end]
            new.append(stream)
        return torch.cat(new) if new else old

    def enter(layer: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> Any:
            return with_stream(args, kwargs, join(stream_of(args, kwargs), layer))

        return hook

    def leave(module: nn.Module, args: tuple, out: Any) -> Any:
        return with_first(out, join(first_of(out), last + 1))

    with ExitStack() as hooks:
        for i in range(1, last + 1):
            before(hooks, parts.blocks[i], enter(i))
        if variants[-1].first == last:
            behind(hooks, parts.blocks[last], leave)
        _patch_windows(hooks, parts, donor, variants, t, end, n_rows)
        if end < length:
            _last_position_only(hooks, parts)
        return _run_from(parts, base, t)


def _run_from(parts: Parts, base: Run, t: int) -> Float[Tensor, "row vocab"]:
    """Drive the model over positions >= t, with one row of the base to carry the hooks."""
    past = [_BasePast(keys[:, :, :t], values[:, :, :t]) for keys, values in base.past]
    return last_logits(
        parts,
        inputs_embeds=base.embeds[:1, t:],
        position_ids=torch.arange(t, base.embeds.shape[1], device=base.embeds.device)[None],
        **as_cache(Cache(layers=past)),
    )


def _patch_windows(
    hooks: ExitStack,
    parts: Parts,
    donor: Run,
    variants: Sequence[Variant],
    t: int,
    end: int,
    n_rows: int,
) -> None:
    """Keep windows patched in the layers behind their first; position t is the cone's first."""
    length, last = donor.embeds.shape[1], len(parts.blocks) - 1

    def put(kind: CellKind, layer: int, rows: list[int]) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple, out: Tensor) -> Tensor:
            out = out.clone()
            patched = donor.outputs[kind][layer][:, t:end]
            out.unflatten(0, (-1, n_rows))[rows, :, : end - t] = patched
            return out

        return hook

    for layer in range(1, last + 1 if end == length else last):  # later, they are not read any more
        for kind, modules in (("attn", parts.attn_out), ("mlp", parts.mlp_out)):
            inside = [
                i for i, v in enumerate(variants) if v.cell[0] == kind and v.first < layer <= v.last
            ]
            if inside:
                behind(hooks, modules[layer], put(kind, layer, inside))  # type: ignore[arg-type]


def _last_position_only(hooks: ExitStack, parts: Parts) -> None:
    """In the last layer write to the stream from the last position; the others are not read.

    What is written there is added to all positions, which is wrong for, and of no use to, the rest.
    """

    def cut(module: nn.Module, args: tuple, kwargs: dict) -> Any:
        return (args[0][:, -1:], *args[1:]), kwargs

    for module in (parts.attn_out[-1], parts.mlps[-1]):
        if module is not None:
            before(hooks, module, cut)
