"""Who writes to a model's residual stream, who reads it, and who comes behind whom.

Writers are the embedding, every head (or attention) and every MLP; readers are the same without the
embedding, and the logits. What is needed of a family is found, not tabled: norms and matrices
through the bridge by the identity of their parameters, parallel blocks (GPT-NeoX, Phi) by pushing
an attention's output and looking whether the MLP of its block reads the push.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.localize.logit_lens import Linear, frozen_norm, norm_scale
from workbench.localize.runs import Parts, before, behind, stream_of
from workbench.models.components import Component
from workbench.models.model import Model

EMBED, LOGITS = "embed", "logits"


@dataclass(frozen=True, eq=False)
class Graph:
    """Every edge a model has.

    Attributes:
        writers: "embed", then per layer its heads (or attention) and its MLP.
        readers: the same without "embed", then "logits".
        edges: true where the reader comes behind the writer. The MLP of a parallel block does not
            come behind its attention.
    """

    writers: tuple[str, ...]
    readers: tuple[str, ...]
    edges: Bool[Tensor, "writer reader"]

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes from embedding to logits."""
        return (*self.writers, LOGITS)


@dataclass(frozen=True, eq=False)
class HeadShare:
    """How an attention's output is split among its heads.

    Attributes:
        matrix: the output matrix by heads.
        linear: linear part of the norm behind it, where a family has one (Gemma-2).
        offset: what that norm adds.
    """

    matrix: Float[Tensor, "head d_head d_model"]
    linear: Linear | None = None
    offset: Float[Tensor, " d_model"] | None = None

    @staticmethod
    def of(model: Model, layer: int) -> HeadShare:
        """Read it off one layer."""
        writer = model.structure.writer(Component(layer, "attn"))
        weight = model.parameters[writer.parameter]
        matrix = (weight if writer.transposed else weight.T).unflatten(
            0, (-1, model.structure.d_head)
        )
        norm = writer.post_norm
        return HeadShare(matrix, *frozen_norm(model, norm)) if norm else HeadShare(matrix)

    def split(
        self,
        z: Float[Tensor, "row pos heads_d"],
        read: Float[Tensor, "row pos d_model"],
        out: Float[Tensor, "row pos d_model"],
    ) -> Float[Tensor, "head row pos d_model"]:
        """Return what each head adds to the stream; the output bias is no head's and left out.

        Args:
            z: input of the output matrix.
            read: output of that matrix.
            out: what is added to the stream: the same, or the output of the norm behind it.
        """
        parts = torch.einsum("rphk,hkd->hrpd", z.unflatten(-1, self.matrix.shape[:2]), self.matrix)
        if self.linear is None or self.offset is None:
            return parts
        scale = norm_scale(self.linear, self.offset, read, out)
        return (self.linear(parts) / scale).to(out.dtype)


@dataclass(frozen=True, eq=False)
class Wiring:
    """A model taken apart at its residual stream.

    Attributes:
        parts: a copy of the module tree, for hooks.
        attns: the attention modules.
        mlps: the MLP modules.
        norms: per layer the norms before attention and before the MLP; one module may be both.
        written: per layer the modules whose outputs attention and MLP add to the stream.
        final_norm: the norm before the unembedding.
        shares: per layer how heads share the attention's output.
        heads: parts each attention is taken into; 1 leaves it whole.
        graph: nodes and edges.
    """

    parts: Parts
    attns: Sequence[nn.Module]
    mlps: Sequence[nn.Module]
    norms: Sequence[tuple[nn.Module, nn.Module]]
    written: Sequence[tuple[nn.Module, nn.Module]]
    final_norm: nn.Module
    shares: Sequence[HeadShare]
    heads: int
    graph: Graph


def wire(model: Model, *, heads: bool = True) -> Wiring:
    """Find the readers and writers of a model's stream.

    Raises:
        WorkbenchError: a block has no MLP module, or its parts read the stream without a norm.
    """
    parts, structure = Parts.of(model), model.structure
    sub = parts.hf.get_submodule
    paths = {id(p): n.rpartition(".")[0] for n, p in model.hf.named_parameters()}
    norms, attns, mlps, written = [], [], [], []
    for i, layer in enumerate(structure.layers):
        block: Any = model.bridge.blocks[i]
        first, second = (_norm_path(getattr(block, n, None), paths) for n in ("ln1", "ln2"))
        mlp = parts.mlps[i]
        if first is None or mlp is None:
            raise not_wired(model)
        norms.append((sub(first), sub(second or first)))
        writer = structure.writer(Component(i, "attn"))
        attns.append(sub(writer.module.rpartition(".")[0]))
        mlps.append(mlp)
        outs = (layer.attn_norm, parts.attn_out[i]), (layer.mlp_norm, parts.mlp_out[i])
        attn_end, mlp_end = (sub(norm) if norm else out for norm, out in outs)
        written.append((attn_end, mlp_end))
    parallel = _parallel(model, parts, attns, mlps, norms)
    return Wiring(
        parts,
        attns,
        mlps,
        norms,
        written,
        sub(structure.final_norm),
        [HeadShare.of(model, i) for i in range(model.n_layers)] if heads else [],
        structure.n_heads if heads else 1,
        graph_of(structure.n_heads if heads else None, parallel),
    )


def _norm_path(part: Any, paths: dict[int, str]) -> str | None:
    weight = getattr(getattr(part, "original_component", None), "weight", None)
    return paths.get(id(weight)) if weight is not None else None


def not_wired(model: Model) -> WorkbenchError:
    """Build the error for a model whose stream cannot be taken apart."""
    return WorkbenchError(
        "A circuit needs blocks whose attention and MLP read the residual stream through norms and "
        f"add to it, which those of {model.name} do not; localize components instead."
    )


def graph_of(heads: int | None, parallel: Sequence[bool]) -> Graph:
    """Name the nodes and say who comes behind whom.

    Args:
        heads: heads of each layer; None leaves attentions whole.
        parallel: for each layer, whether its MLP reads what its attention reads.
    """
    names = [EMBED]
    counts = []  # for each reader, how many writers stand before it
    for layer, side_by_side in enumerate(parallel):
        start = len(names)
        whole = heads is None
        attn = [f"attn.{layer}"] if whole else [f"head.{layer}.{h}" for h in range(heads)]
        names += attn
        counts += [start] * len(attn)
        counts.append(start if side_by_side else len(names))
        names.append(f"mlp.{layer}")
    counts.append(len(names))
    edges = torch.arange(len(names))[:, None] < torch.tensor(counts)[None]
    return Graph(tuple(names), (*names[1:], LOGITS), edges)


def _parallel(
    model: Model,
    parts: Parts,
    attns: Sequence[nn.Module],
    mlps: Sequence[nn.Module],
    norms: Sequence[tuple[nn.Module, nn.Module]],
) -> list[bool]:
    """Push every attention's output and see whether the same block's MLP reads the push.

    Raises:
        WorkbenchError: attention or MLP do not read the stream through the norms found.
    """
    streams: dict[tuple[str, int], Tensor] = {}
    right: list[bool] = []

    def keep(*kinds_at: tuple[str, int]) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            streams.update(dict.fromkeys(kinds_at, stream_of(args, kwargs)))

        return hook

    def check(at: tuple[str, int], norm: nn.Module) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            expected = norm.forward(streams[at])
            right.append(torch.allclose(expected, stream_of(args, kwargs), rtol=1e-3, atol=1e-4))

        return hook

    with ExitStack() as hooks, torch.no_grad():
        for i, (first, second) in enumerate(norms):
            before(hooks, parts.blocks[i], keep(("attn", i), ("mlp", i)))
            if second is not first:
                before(hooks, second, keep(("mlp", i)))
            before(hooks, attns[i], check(("attn", i), first))
            before(hooks, mlps[i], check(("mlp", i), second))
            behind(hooks, parts.attn_out[i], lambda module, args, out: out + 1)
        token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        parts.hf(inputs_embeds=model.hf.get_input_embeddings()(token), use_cache=False)
    if not all(right):
        raise not_wired(model)
    return [torch.equal(streams["attn", i], streams["mlp", i]) for i in range(len(norms))]
