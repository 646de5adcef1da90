"""The second moments of the keys an edit must leave alone, carried from one edit to the next.

C = sum w x x^T over the retain buffer, for every matrix to solve. The keys are those of the model
before the edit at every layer (`retain.Buffer`).

Two edits of one model have nearly the same buffer: it leaves out other subjects. So the moments of
the last buffers are kept, in memory and in the user's cache, and of the next buffer only those
sequences are run that are more or fewer, or weigh otherwise: C is linear in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from workbench.edit.matrix import Matrix
from workbench.edit.rows import Rows
from workbench.edit.solvers import Moments
from workbench.edit.stream import Stream
from workbench.models.kept import keep_tensors, kept_tensors
from workbench.models.model import Model
from workbench.progress import SILENT, Progress
from workbench.recent import remember

_WORTH = 0.5  # share of a buffer's tokens that may differ from a kept one's
_NEAR = 0.1  # that share, up to which a buffer is not kept beside the other
_MOST_NUMBERS = 1 << 25  # in the moments of a buffer that is kept: 256 MB
_MOST_KEPT = 4  # buffers of the same matrices
_MOST_MODELS = 2

_Read = tuple[tuple[int, ...], tuple[float, ...]]  # positions, in order, and their weights
_Weights = dict[tuple[int, ...], _Read]  # what is read of each sequence


_NOTHING: _Read = ((), ())


@dataclass(frozen=True, eq=False)
class _Kept:
    """The moments of one buffer, in the matrices' order."""

    weights: _Weights
    moments: tuple[Moments, ...]


KEPT: dict[tuple[Any, ...], list[_Kept]] = {}  # the last buffers of a model's matrices


@torch.no_grad()
def moments_of(
    model: Model, rows: Rows, groups: Sequence[Matrix], *, progress: Progress = SILENT
) -> Iterator[Moments]:
    """Yield the second moments of each matrix's keys; all take one pass through the model.

    Args:
        model: whose keys.
        rows: the positions to read, with their weights.
        groups: the matrices, in layer order.
        progress: where to report.
    """
    layers = [g.layer for g in groups]
    stream = Stream(model, rows, layers, label="retain activations", progress=progress)
    hf = model.fork().hf
    for group in groups:
        stream.advance(hf, group.layer)
        moments = Moments.zeros(_inputs(model, group), model.device)
        for keys, weights in stream.keys(hf, group.writer):
            moments = moments.add(keys, weights)
        yield moments


def kept_moments(
    model: Model, rows: Rows, groups: Sequence[Matrix], *, progress: Progress = SILENT
) -> Iterable[Moments]:
    """Return `moments_of` rows, from those of a like buffer where one is kept; not to be added to.

    Moments too large to be kept are made one at a time, as they are asked for.
    """
    if sum(_inputs(model, group) ** 2 for group in groups) > _MOST_NUMBERS:
        return moments_of(model, rows, groups, progress=progress)
    names = [group.writer.parameter for group in groups]
    key = (*model.identity, str(model.device), *names)
    held = remember(KEPT, key, lambda: _read(model, names), most=_MOST_MODELS)
    wanted = _weights(rows)
    more, moments = _nearest(wanted, held)
    if moments and not more:
        return moments
    apart = _size(more) / max(_size(wanted), 1)
    if not moments or apart > _WORTH:
        made = tuple(moments_of(model, rows, groups, progress=progress))
    else:
        changes = moments_of(model, _rows(more), groups, progress=progress)
        made = tuple(own + change for own, change in zip(moments, changes, strict=True))
    if not moments or apart > _NEAR:
        kept = _Kept(wanted, made)
        held[:] = [kept, *held][:_MOST_KEPT]
        _write(model, names, kept)
    return made


def _inputs(model: Model, group: Matrix) -> int:
    shape = model.parameters[group.writer.parameter].shape
    return shape[0] if group.writer.transposed else shape[1]


def _nearest(wanted: _Weights, held: Sequence[_Kept]) -> tuple[_Weights, tuple[Moments, ...]]:
    """Return what the kept buffer that is nearest lacks, and its moments."""
    apart = [(_difference(wanted, kept.weights), kept.moments) for kept in held]
    return min(apart, key=lambda pair: _size(pair[0]), default=(wanted, ()))


def _weights(rows: Rows) -> _Weights:
    out: _Weights = {}
    for sequence, *read in zip(rows.sequences, rows.picks, rows.all_weights, strict=True):
        twice = sequence in out or any(a >= b for a, b in pairwise(read[0]))
        out[sequence] = _sum(out.get(sequence, ((), ())), read) if twice else tuple(read)
    return out


def _sum(*reads: Sequence[Sequence[float]]) -> _Read:
    """Add the weights of each position; those that add up to nothing are left out."""
    total: dict[int, float] = {}
    for positions, weights in reads:
        for position, weight in zip(positions, weights, strict=True):
            total[int(position)] = total.get(int(position), 0.0) + weight
    left = sorted((position, weight) for position, weight in total.items() if weight)
    return tuple(p for p, _ in left), tuple(w for _, w in left)


def _difference(wanted: _Weights, held: _Weights) -> _Weights:
    """Return what has to be added to what is held to get what is wanted; less is negative."""
    out: _Weights = {}
    for sequence in wanted.keys() | held.keys():
        new, (at, old) = wanted.get(sequence, _NOTHING), held.get(sequence, _NOTHING)
        if new != (at, old):
            out[sequence] = _sum(new, (at, [-weight for weight in old]))
    return out


def _size(weights: _Weights) -> int:
    """Return how many tokens have to be run."""
    return sum(map(len, weights))


def _rows(weights: _Weights) -> Rows:
    """Write rows in an order that does not hang on how they were found."""
    ordered = sorted(weights.items(), key=lambda item: (len(item[0]), item[0]))
    return Rows(
        tuple(sequence for sequence, _ in ordered),
        tuple(positions for _, (positions, _) in ordered),
        tuple(weights for _, (_, weights) in ordered),
    )


def _read(model: Model, names: Sequence[str]) -> list[_Kept]:
    out = []
    for tensors, note in kept_tensors(model, "moments", list(names), most=_MOST_KEPT):
        counts, rows = json.loads(note)
        moments = [
            Moments(tensors[name].to(model.device), count)
            for name, count in zip(names, counts, strict=True)
        ]
        weights = {tuple(ids): (tuple(at), tuple(own)) for ids, at, own in rows}
        out.append(_Kept(weights, tuple(moments)))
    return out


def _write(model: Model, names: Sequence[str], made: _Kept) -> None:
    """Keep moments for another process; not those of pictures, which tokens alone do not tell."""
    if any(type(token) is not int for sequence in made.weights for token in sequence):
        return
    rows = [[ids, *read] for ids, read in made.weights.items()]
    note = json.dumps([[own.count for own in made.moments], rows])
    tensors = {name: own.second for name, own in zip(names, made.moments, strict=True)}
    keep_tensors(model, "moments", list(names), tensors, note)
