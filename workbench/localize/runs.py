"""One forward pass of base and donor, kept layer by layer, and the streams behind patched blocks.

The Hugging Face module itself is driven, through hooks that live as long as one call, so that no
family needs code of its own: blocks take and return the stream, and the matrices that write to it
are found by the model's structure. Norms behind these matrices (Gemma-2) act on each position
alone, so replacing a matrix's output at a position is replacing what the component writes there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from workbench.localize.localization import CellKind
from workbench.models.caching import as_cache
from workbench.models.components import Component
from workbench.models.model import Model

Unit = tuple[CellKind, int]  # kind, head (-1 where there is none)


@dataclass(frozen=True, eq=False)
class Parts:
    """A copy of the module tree, for hooks, and the modules in it that patching touches.

    `mlps` are the modules around the down projections; None where a family has none.
    """

    hf: PreTrainedModel
    blocks: Sequence[nn.Module]
    attn_out: Sequence[nn.Module]
    mlp_out: Sequence[nn.Module]
    mlps: Sequence[nn.Module | None]
    d_head: int

    @staticmethod
    def of(model: Model) -> Parts:
        """Find them by the names that the model's structure gives."""
        hf, structure = model.fork().hf, model.structure
        layers = range(model.n_layers)
        mlp = [structure.writer(Component(i, "mlp")).module for i in layers]
        attn = [structure.writer(Component(i, "attn")).module for i in layers]
        blocks = [structure.layers[i].block for i in layers]
        around = [name.rpartition(".")[0] for name in mlp]
        return Parts(
            hf,
            [hf.get_submodule(n) for n in blocks],
            [hf.get_submodule(n) for n in attn],
            [hf.get_submodule(n) for n in mlp],
            [hf.get_submodule(a) if a != b else None for a, b in zip(around, blocks, strict=True)],
            structure.d_head,
        )


@dataclass(frozen=True, eq=False)
class Run:
    """What one forward pass leaves behind, layer by layer.

    Attributes:
        embeds: token embeddings that were run.
        stream: input of each block, then the output of the last.
        outputs: what the output matrices of "attn" and "mlp" wrote; what that of "head"s read.
        past: keys, with positions encoded, and values of each layer.
        logits: logits at the last position.
    """

    embeds: Float[Tensor, "row pos d_model"]
    stream: Sequence[Float[Tensor, "row pos d_model"]]
    outputs: Mapping[str, Sequence[Float[Tensor, "row pos d"]]]
    past: Sequence[tuple[Float[Tensor, "row head pos d"], Float[Tensor, "row head pos d"]]]
    logits: Float[Tensor, "row vocab"]


def record(parts: Parts, embeds: Float[Tensor, "row pos d_model"]) -> Run:
    """Run embeddings through the model once and keep what patching needs."""
    stream: list[Tensor] = []
    outputs: dict[str, list[Tensor]] = {"attn": [], "mlp": [], "head": []}
    # A cache made without the config keeps all keys where attention slides; masks do the sliding.
    cache = DynamicCache()

    def keep_stream(module: nn.Module, args: tuple, kwargs: dict) -> None:
        stream.append(stream_of(args, kwargs))

    def keep_attn(module: nn.Module, args: tuple, out: Tensor) -> None:
        outputs["head"].append(args[0])
        outputs["attn"].append(out)

    with ExitStack() as hooks:
        for block, attn_out, mlp_out in zip(
            parts.blocks, parts.attn_out, parts.mlp_out, strict=True
        ):
            before(hooks, block, keep_stream)
            behind(hooks, attn_out, keep_attn)
            behind(hooks, mlp_out, lambda m, args, out: outputs["mlp"].append(out))
        behind(hooks, parts.blocks[-1], lambda m, args, out: stream.append(first_of(out)))
        logits = last_logits(parts, inputs_embeds=embeds, **as_cache(cache))
    past = [(layer.keys, layer.values) for layer in cache.layers]  # type: ignore[attr-defined]
    return Run(embeds, stream, outputs, past, logits)  # type: ignore[arg-type]


def last_logits(parts: Parts, **inputs: Any) -> Float[Tensor, "row vocab"]:
    """Run the model and unembed the last position of each row.

    The slice of last positions is made contiguous: as a view it would be multiplied row by row,
    at several times the cost of everything else.
    """

    def gather(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return (args[0].contiguous(), *args[1:]), kwargs

    with ExitStack() as hooks:
        before(hooks, parts.hf.get_output_embeddings(), gather)
        out = parts.hf(**inputs, use_cache=True, logits_to_keep=1)
    return out.logits[:, -1]


def entry_states(
    parts: Parts, base: Run, donor: Run, units: set[Unit]
) -> Mapping[Unit, Sequence[Float[Tensor, "row pos d_model"]]]:
    """Return the stream behind each layer when a unit of that layer alone is patched.

    The state at position t is that of patching t alone: behind attention positions do not meet.
    """
    out: dict[Unit, Sequence[Tensor]] = {}
    for unit in units:
        if unit[0] == "resid":
            out[unit] = donor.stream[1:]
        else:
            out[unit] = _entry_pass(parts, base, donor, unit)
    return out


def _entry_pass(parts: Parts, base: Run, donor: Run, unit: Unit) -> list[Tensor]:
    kind, head = unit
    n_rows = max(len(base.embeds), len(donor.embeds))
    states: list[Tensor] = []
    columns = slice(head * parts.d_head, (head + 1) * parts.d_head)

    def restart(layer: int) -> Callable[..., Any]:
        stream = rows_of(base.stream[layer], n_rows)
        return lambda m, args, kwargs: with_stream(args, kwargs, stream)

    def put_head(layer: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> Any:
            read = args[0].clone()
            read[..., columns] = donor.outputs["head"][layer][..., columns]
            return (read, *args[1:]), kwargs

        return hook

    def put(layer: int) -> Callable[..., Any]:
        return lambda m, args, out: rows_of(donor.outputs[kind][layer], n_rows)

    with ExitStack() as hooks:
        for i, block in enumerate(parts.blocks):
            before(hooks, block, restart(i))
            if kind == "head":
                before(hooks, parts.attn_out[i], put_head(i))
            else:
                behind(hooks, (parts.attn_out if kind == "attn" else parts.mlp_out)[i], put(i))
            behind(hooks, block, lambda m, args, out: states.append(first_of(out)))
        parts.hf.base_model(inputs_embeds=rows_of(base.embeds, n_rows), use_cache=False)
    return states


def before(hooks: ExitStack, module: nn.Module, hook: Callable[..., Any]) -> None:
    """Call `hook(module, args, kwargs)` before the module until the stack closes."""
    hooks.enter_context(module.register_forward_pre_hook(hook, with_kwargs=True))


def behind(hooks: ExitStack, module: nn.Module, hook: Callable[..., Any]) -> None:
    """Call `hook(module, args, output)` behind the module until the stack closes."""
    hooks.enter_context(module.register_forward_hook(hook))


def rows_of(tensor: Tensor, n_rows: int) -> Tensor:
    """Let one row stand for many; tensors of `n_rows` rows stay."""
    return tensor.expand(n_rows, *tensor.shape[1:])


def stream_of(args: tuple, kwargs: dict) -> Tensor:
    """Take the residual stream from a block's arguments."""
    return args[0] if args else kwargs["hidden_states"]


def with_stream(args: tuple, kwargs: dict, stream: Tensor) -> tuple[tuple, dict]:
    """Put another residual stream into a block's arguments."""
    return ((stream, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": stream})


def first_of(out: Any) -> Tensor:
    """Take the residual stream from a block's result."""
    return out[0] if isinstance(out, tuple) else out


def with_first(out: Any, stream: Tensor) -> Any:
    """Put another residual stream into a block's result."""
    return (stream, *out[1:]) if isinstance(out, tuple) else stream
