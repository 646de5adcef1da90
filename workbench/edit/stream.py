"""Activations of many sequences, carried through the model block by block.

A closed-form edit of several layers needs the keys of a layer as they are after the layers below it
were edited. Running the whole model again for each layer would cost a forward pass a layer; instead
the residual stream of every sequence is kept and only moved on: all layers together cost one pass.
What an edit of a matrix W adds to the stream behind its block is Delta x where nothing else of the
block reads the matrix's output, so the block is not run again either (`edited`).

Sequences are padded on the right, which a causal model never sees; the arguments a block is called
with (position embeddings, masks) are recorded from the model itself, so no family is special here.
A beginning that all sequences of a chunk share, such as a system prompt, is run once.
An edit that is tried again with another setting starts from the same streams: the last few starts
are kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache

from workbench.edit.rows import Rows, chunks, offsets
from workbench.models.caching import as_cache, is_plain
from workbench.models.components import Structure, Writer
from workbench.models.model import Model
from workbench.models.prefix import worth_sharing
from workbench.models.text import pad, pad_id
from workbench.models.vision import pixels_for
from workbench.progress import SILENT, Progress
from workbench.recent import remember

_MOST_HELD = 1 << 26  # numbers a stream keeps of what a matrix read: 256 MB of float32
_MOST_STARTED = 1 << 25  # numbers of the residual stream that are kept for another try
_STARTS = 8  # streams whose starts are kept
_Call = tuple[tuple[Any, ...], dict[str, Any]]


class _Stop(Exception):
    """Ends a forward pass once the block of interest was reached."""


def _recorder(
    name: str, hidden: list[Tensor], calls: dict[str, _Call], last: bool
) -> Callable[..., Tensor]:
    """Stand in for a block's forward: note what it is called with, and compute nothing."""

    def stand_in(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        hidden.append(hidden_states)
        calls[name] = (args, kwargs)
        if last:
            raise _Stop
        return hidden_states

    return stand_in


@dataclass
class _Chunk:
    hidden: Float[Tensor, "batch pos d_model"]
    calls: dict[str, _Call]  # block path -> arguments behind the hidden states
    row: Int[Tensor, " pick"]
    position: Int[Tensor, " pick"]
    weight: Float[Tensor, " pick"]
    order: Int[Tensor, " pick"]  # where each pick stands in Rows
    run: _Run | None = None  # of the current block, if it was run


@dataclass(frozen=True, eq=False)
class _Run:
    """What one run of a block gave."""

    weights: tuple[Tensor, ...]  # the block's parameters at the time
    after: Float[Tensor, "batch pos d_model"]
    read: Float[Tensor, "batch pos d_in"] | None = None  # what the observed matrix read


KEPT: dict[tuple[Any, ...], list[_Chunk]] = {}  # the last starts, by all they are made of


class Stream:
    """The residual stream of `rows`, at the input of one block."""

    def __init__(
        self,
        model: Model,
        rows: Rows,
        layers: Sequence[int],
        *,
        max_tokens: int = 4096,
        progress: Progress = SILENT,
        label: str = "reading activations",
    ) -> None:
        """Run the embeddings and the blocks below the first of `layers`.

        Raises:
            ValueError: no layer is given.
        """
        self.structure: Structure = model.structure
        self.layer = min(layers)
        self._last = max(layers)
        self._n_picks = len(rows)
        groups = list(chunks(rows, max_tokens))

        def start() -> list[_Chunk]:
            hf, passing = model.fork().hf, model.fork().hf
            return [self._start(hf, passing, rows, g, model) for g in progress.track(groups, label)]

        padded = sum(len(g) * max(len(rows.sequences[i]) for i in g) for g in groups)
        if padded * model.d_model > _MOST_STARTED:
            self._chunks = start()
        else:
            key = (*model.identity, str(model.device), rows, self.layer, self._last, max_tokens)
            # A stream moves its own chunks on; the tensors that they start from stay as they are.
            self._chunks = [replace(c) for c in remember(KEPT, key, start, most=_STARTS)]

    def _block(self, hf: nn.Module, layer: int) -> nn.Module:
        return hf.get_submodule(self.structure.layers[layer].block)

    @torch.no_grad()
    def _start(self, hf: Any, passing: Any, rows: Rows, group: list[int], model: Model) -> _Chunk:
        sequences = [rows.sequences[i] for i in group]
        device = model.device
        ids = pad(sequences, pad_id(model))[0].to(device)
        pixels = pixels_for(model.vision, sequences, device)
        shared = worth_sharing(sequences) if self.layer and not pixels else 0
        cache = DynamicCache(config=hf.config)
        if shared and is_plain(cache):
            _, calls = self._record(passing, 0, input_ids=ids, use_cache=False)
            hidden = self._behind(hf, ids, shared, cache)
        else:
            first = self.layer
            hidden, calls = self._record(hf, first, input_ids=ids, use_cache=False, **pixels)
        first = offsets(rows)
        picks = [
            (r, p, w, first[i] + k)
            for r, i in enumerate(group)
            for k, (p, w) in enumerate(zip(rows.picks[i], rows.all_weights[i], strict=True))
        ]
        row, position, weight, order = zip(*picks, strict=True) if picks else ((), (), (), ())
        return _Chunk(
            hidden,
            calls,
            torch.tensor(row, dtype=torch.long, device=device),
            torch.tensor(position, dtype=torch.long, device=device),
            torch.tensor(weight, device=device),
            torch.tensor(order, dtype=torch.long, device=device),
        )

    def _behind(
        self, hf: Any, ids: Int[Tensor, "batch pos"], shared: int, cache: DynamicCache
    ) -> Tensor:
        """Return the input of the first block of interest, the shared beginning run but once."""
        beginning, rest = ids[:1, :shared], ids[:, shared:]
        first, _ = self._record(hf, self.layer, input_ids=beginning, **as_cache(cache))
        cache.batch_repeat_interleave(len(ids))
        behind, _ = self._record(hf, self.layer, input_ids=rest, **as_cache(cache))
        return torch.cat([first.expand(len(ids), -1, -1), behind], 1)

    def _record(self, hf: Any, first: int, **inputs: Any) -> tuple[Tensor, dict[str, _Call]]:
        """Return the input of block `first` and the arguments of this one and every later block.

        Blocks may get different masks (sliding windows), so each one's arguments are recorded; the
        blocks themselves are passed over, which is why `hf` must be a private copy.
        """
        hidden: list[Tensor] = []
        calls: dict[str, _Call] = {}
        for layer in range(first, self._last + 1):
            name = self.structure.layers[layer].block
            hf.get_submodule(name).forward = _recorder(name, hidden, calls, layer == self._last)
        with contextlib.suppress(_Stop):
            hf(**inputs)
        return hidden[0], calls

    @torch.no_grad()
    def _run(self, hf: nn.Module, chunk: _Chunk) -> Tensor:
        """Run the current block and return its output."""
        name = self.structure.layers[self.layer].block
        args, kwargs = chunk.calls[name]
        block = self._block(hf, self.layer)
        out = block(chunk.hidden, *args, **kwargs)
        after = out[0] if isinstance(out, tuple) else out
        chunk.run = _Run(tuple(block.parameters()), after)
        return after

    def _after(self, hf: nn.Module, chunk: _Chunk) -> Tensor:
        """Return the current block's output; with the weights of the last run it is that run's."""
        weights = self._block(hf, self.layer).parameters()
        run = chunk.run
        if run is not None and all(a is b for a, b in zip(run.weights, weights, strict=True)):
            return run.after
        return self._run(hf, chunk)

    def advance(self, hf: nn.Module, layer: int) -> None:
        """Move the stream on to the input of `layer`, through the weights of `hf`."""
        while self.layer < layer:
            for chunk in self._chunks:
                chunk.hidden = self._after(hf, chunk)
                chunk.run = None
            self.layer += 1

    @torch.no_grad()
    def edited(self, hf: nn.Module, writer: Writer, change: Tensor) -> None:
        """Carry over what a change of the matrix observed last does to the current block's output.

        Only the stream reads what an MLP writes, so its change is added; after any other the block
        is run again when its output is asked for.

        Args:
            hf: the module, with the changed matrix.
            writer: the matrix.
            change: what was added to it, in the parameter's own layout.
        """
        weights = tuple(self._block(hf, self.layer).parameters())
        matrix = change if writer.transposed else change.T
        for chunk in self._chunks:
            run = chunk.run
            if run is None or run.read is None or not writer.ends_block:
                chunk.run = None
            else:
                chunk.run = _Run(weights, run.after + run.read @ matrix.to(run.read))

    def keys(
        self, hf: nn.Module, writer: Writer
    ) -> Iterator[tuple[Float[Tensor, "pick d_in"], Float[Tensor, " pick"]]]:
        """Yield the writer's inputs at the picked positions, and their weights, chunk by chunk."""
        for chunk in self._chunks:
            taken, _ = self._capture(hf, chunk, writer)
            yield taken[0], chunk.weight

    def observe(
        self, hf: nn.Module, writer: Writer
    ) -> tuple[
        Float[Tensor, "pick d_in"], Float[Tensor, "pick d_out"], Float[Tensor, "pick d_model"]
    ]:
        """Return the writer's inputs and outputs and the stream after the block, in row order."""
        out: list[Tensor] = []
        for chunk in self._chunks:
            (x, y), after = self._capture(hf, chunk, writer)
            for k, part in enumerate((x, y, after)):
                if len(out) <= k:
                    out.append(part.new_empty(self._n_picks, part.shape[-1]))
                out[k][chunk.order] = part
        return out[0], out[1], out[2]

    def after(self, hf: nn.Module) -> Float[Tensor, "pick d_model"]:
        """Return the stream after the current block at the picked positions, in row order."""
        out: Tensor | None = None
        for chunk in self._chunks:
            part = self._after(hf, chunk)[chunk.row, chunk.position]
            if out is None:
                out = part.new_empty(self._n_picks, part.shape[-1])
            out[chunk.order] = part
        assert out is not None  # a stream has at least one chunk
        return out

    def _capture(
        self, hf: nn.Module, chunk: _Chunk, writer: Writer
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        found: list[Tensor] = []

        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            found.extend((args[0], output))

        handle = hf.get_submodule(writer.module).register_forward_hook(hook)
        try:
            after = self._run(hf, chunk)
        finally:
            handle.remove()
        assert chunk.run is not None  # it has just been run
        held = sum(c.run.read.numel() for c in self._chunks if c.run and c.run.read is not None)
        if held + found[0].numel() <= _MOST_HELD:
            chunk.run = replace(chunk.run, read=found[0])
        x, y = (t[chunk.row, chunk.position] for t in found)
        return (x, y), after[chunk.row, chunk.position]
