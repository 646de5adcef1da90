"""Which parameters stand behind one block: its MLP's and its attention's matrices.

The bridge says which module plays which part; a part's weights are found among the model's own
parameters by identity, so that no family needs code of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.vision_components import owned


@dataclass(frozen=True)
class ParameterSlice:
    """Some rows or columns of one parameter.

    Attributes:
        name: Hugging Face parameter name.
        dim: dimension the index runs along; None for the whole tensor.
        index: positions along `dim`.
    """

    name: str
    dim: int | None = None
    index: tuple[int, ...] = ()

    def mask(self, tensor: Tensor) -> Bool[Tensor, "..."]:
        """Return a mask of the tensor's shape, true inside the slice."""
        if self.dim is None:
            return torch.ones_like(tensor, dtype=torch.bool)
        mask = torch.zeros_like(tensor, dtype=torch.bool)
        return mask.index_fill_(self.dim, torch.tensor(self.index, device=tensor.device), True)

    def count(self, tensor: Tensor) -> int:
        """Number of values inside the slice."""
        if self.dim is None:
            return tensor.numel()
        return tensor.numel() // tensor.shape[self.dim] * len(self.index)


@dataclass(frozen=True)
class Matrix:
    """A weight, its bias if any, and its orientation."""

    weight: str
    bias: str | None
    transposed: bool

    @property
    def out_dim(self) -> int:
        """Dimension along which the outputs lie."""
        return 1 if self.transposed else 0

    def outputs(self, index: Iterable[int]) -> list[ParameterSlice]:
        """Return what makes some outputs, their biases with them."""
        rows = tuple(index)
        out = [ParameterSlice(self.weight, self.out_dim, rows)]
        return [*out, ParameterSlice(self.bias, 0, rows)] if self.bias else out

    def inputs(self, index: Iterable[int]) -> list[ParameterSlice]:
        """Return what reads some inputs."""
        return [ParameterSlice(self.weight, 1 - self.out_dim, tuple(index))]

    def whole(self) -> list[ParameterSlice]:
        """Return weight and bias."""
        return [ParameterSlice(n) for n in (self.weight, self.bias) if n]


@dataclass(frozen=True)
class Layer:
    """The matrices of one block, and where it is among the modules."""

    mlp_inputs: tuple[Matrix, ...]
    mlp_out: Matrix
    query: Matrix
    query_rows: tuple[int, ...]  # row of each query output in its (maybe fused) matrix
    key_value: tuple[tuple[Matrix, tuple[int, ...]], ...]
    attn_out: Matrix
    mlp_names: tuple[str, ...]
    attn_names: tuple[str, ...]
    block: str  # module path of the block
    mlp_norm: str | None  # module path of the norm behind the MLP, where a family has one
    attn_norm: str | None


def _original(bridge_part: nn.Module | None) -> nn.Module | None:
    return getattr(bridge_part, "original_component", None)


def _matrix(part: nn.Module | None, names: Mapping[int, str]) -> Matrix | None:
    """Describe a linear map whose weight is one of the model's own parameters."""
    original = _original(part)
    weight = getattr(original, "weight", None)
    if weight is None or id(weight) not in names:
        return None
    bias = getattr(original, "bias", None)
    transposed = type(original).__name__ == "Conv1D"
    return Matrix(names[id(weight)], names.get(id(bias)), transposed)


def read_layer(
    block: nn.Module,
    names: Mapping[int, str],
    modules: Mapping[int, str],
    index: int,
    shape: tuple[int, int, int],
) -> Layer:
    """Find a block's matrices.

    Args:
        block: the bridge's block.
        names: the model's parameters' names by identity.
        modules: the paths of the modules they belong to.
        index: the block's number.
        shape: heads, key-value heads and width of a head.

    Raises:
        WorkbenchError: it has no single MLP or attention output matrix, or inputs laid out in a way
            that is not known.
    """
    attn, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
    mlp_out = _matrix(getattr(mlp, "out", None), names)
    attn_out = _matrix(getattr(attn, "o", None), names)
    if mlp is None or attn is None or mlp_out is None or attn_out is None:
        raise WorkbenchError(
            f"Layer {index} of this model has no single MLP and attention output matrix (a mixture "
            "of experts, perhaps); use a dense transformer."
        )
    ins = (_matrix(getattr(mlp, part, None), names) for part in ("in", "gate"))
    n_heads, n_kv, d_head = shape
    query, rows, key_value = _attention_inputs(attn, names, n_heads * d_head, n_kv * d_head, d_head)
    mlp_names, attn_names = owned(mlp, names), owned(attn, names)
    return Layer(
        tuple(m for m in ins if m),
        mlp_out,
        query,
        rows,
        key_value,
        attn_out,
        mlp_names,
        attn_names,
        _common_path((*mlp_names, *attn_names)),
        norm_path(getattr(block, "ln2_post", None), modules),
        norm_path(getattr(block, "ln1_post", None), modules),
    )


def _common_path(names: Iterable[str]) -> str:
    """Return the longest module path that all names begin with."""
    paths = [name.split(".") for name in names]
    columns = zip(*paths, strict=False)
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, columns)
    return ".".join(parts[0] for parts in shared)


def norm_path(part: nn.Module | None, modules: Mapping[int, str]) -> str | None:
    """Return the module path of a norm with weights; None if there is none."""
    weight = getattr(_original(part), "weight", None)
    return modules.get(id(weight)) if weight is not None else None


def _attention_inputs(
    attn: nn.Module, names: Mapping[int, str], q_width: int, kv_width: int, d_head: int
) -> tuple[Matrix, tuple[int, ...], tuple[tuple[Matrix, tuple[int, ...]], ...]]:
    """Find the query matrix and its rows, and the key and value matrices and theirs."""
    query, key, value = (_matrix(getattr(attn, p, None), names) for p in "qkv")
    if query and key and value:
        plain = tuple(range(kv_width))
        return query, tuple(range(q_width)), ((key, plain), (value, plain))
    fused = _matrix(getattr(attn, "qkv", None), names)
    original = _original(getattr(attn, "qkv", None))
    if fused is None or original is None:
        raise WorkbenchError("The attention of this model has no query, key and value that I know.")
    weight = original.weight.T if fused.transposed else original.weight
    copies = [_original(getattr(attn, p)).weight for p in "qkv"]  # type: ignore[union-attr]
    for layout in _fused_layouts(q_width, d_head):
        if all(torch.equal(weight[list(r)], c) for r, c in zip(layout, copies, strict=True)):
            q, k, v = layout
            return fused, q, ((fused, k), (fused, v))
    raise WorkbenchError("The fused query-key-value matrix of this model has an unknown layout.")


def _fused_layouts(width: int, d_head: int) -> list[tuple[tuple[int, ...], ...]]:
    """Rows of query, key and value in a fused matrix: one after the other, or head by head."""
    blocks = tuple(tuple(range(i * width, (i + 1) * width)) for i in range(3))
    heads = range(width // d_head)
    interleaved = tuple(
        tuple(h * 3 * d_head + i * d_head + j for h in heads for j in range(d_head))
        for i in range(3)
    )
    return [blocks, interleaved]
