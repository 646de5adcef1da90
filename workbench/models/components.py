"""What a component stands for: parameter slices, and the matrix that it writes through.

A component resolves to parameter slices by asking the TransformerLens bridge which module it is and
matching parameters by identity, not by a table per architecture. Orientation (Conv1D or Linear),
fused query-key-value matrices and grouped-query attention are handled here and nowhere else; what a
model sees with is in `vision_components`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.component_names import Component, ComponentSet
from workbench.models.vision_components import SEEING, VisionParts, owned

if TYPE_CHECKING:
    from workbench.models.model import Model


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
class Writer:
    """The matrix through which a component writes to the residual stream, and its inputs.

    Attributes:
        parameter: Hugging Face name of the weight.
        input_hook: hook point of the matrix's input, the key x of y = W x.
        transposed: True if stored [inputs, outputs] (Conv1D).
        columns: the input columns that belong to the component; None for all.
        post_norm: module path of the norm between y and the residual stream, if there is one.
    """

    parameter: str
    input_hook: str
    transposed: bool
    columns: tuple[int, ...] | None = None
    post_norm: str | None = None

    @property
    def module(self) -> str:
        """Module path of the linear map."""
        return self.parameter.rpartition(".")[0]

    @property
    def ends_block(self) -> bool:
        """Whether its output is added to the residual stream as it is, and read by nothing else."""
        return ".mlp." in self.input_hook and self.post_norm is None


@dataclass(frozen=True)
class _Matrix:
    """A weight, its bias if any, and its orientation."""

    weight: str
    bias: str | None
    transposed: bool

    @property
    def out_dim(self) -> int:
        return 1 if self.transposed else 0

    def outputs(self, index: Iterable[int]) -> list[ParameterSlice]:
        rows = tuple(index)
        out = [ParameterSlice(self.weight, self.out_dim, rows)]
        return [*out, ParameterSlice(self.bias, 0, rows)] if self.bias else out

    def inputs(self, index: Iterable[int]) -> list[ParameterSlice]:
        return [ParameterSlice(self.weight, 1 - self.out_dim, tuple(index))]

    def whole(self) -> list[ParameterSlice]:
        return [ParameterSlice(n) for n in (self.weight, self.bias) if n]


@dataclass(frozen=True)
class _Layer:
    mlp_inputs: tuple[_Matrix, ...]
    mlp_out: _Matrix
    query: _Matrix
    query_rows: tuple[int, ...]  # row of each query output in its (maybe fused) matrix
    key_value: tuple[tuple[_Matrix, tuple[int, ...]], ...]
    attn_out: _Matrix
    mlp_names: tuple[str, ...]
    attn_names: tuple[str, ...]
    block: str  # module path of the block
    mlp_norm: str | None  # module path of the norm behind the MLP, where a family has one
    attn_norm: str | None


@dataclass(frozen=True)
class Structure:
    """Shape of a model and the parameters behind its components."""

    n_layers: int
    n_heads: int
    n_key_value_heads: int
    d_head: int
    d_mlp: int
    layers: tuple[_Layer, ...]
    sizes: Mapping[str, tuple[int, ...]]
    final_norm: str  # module path
    vision: VisionParts | None = None

    @staticmethod
    def of(model: Model) -> Structure:
        """Read the structure off a model's bridge.

        Raises:
            WorkbenchError: a block lacks a nameable MLP or attention, or the model a final
                norm.
        """
        bridge = model.bridge
        names = {id(p): name for name, p in model.hf.named_parameters()}
        modules = {id(p): name.rpartition(".")[0] for name, p in model.hf.named_parameters()}
        cfg = bridge.cfg
        n_heads = int(cfg.n_heads)
        n_kv = int(getattr(cfg, "n_key_value_heads", None) or n_heads)
        d_head = int(cfg.d_head)
        layers = tuple(
            _read_layer(bridge.blocks[i], names, modules, i, (n_heads, n_kv, d_head))
            for i in range(model.n_layers)
        )
        sizes = {name: tuple(p.shape) for name, p in model.parameters.items()}
        out = layers[0].mlp_out
        d_mlp = sizes[out.weight][1 - out.out_dim]
        norm = _norm_path(bridge.ln_final, modules)
        if norm is None:
            raise WorkbenchError(
                "This model has no norm with weights before its unembedding; use a model that has."
            )
        vision = VisionParts.of(bridge, model.hf.config, names)
        return Structure(model.n_layers, n_heads, n_kv, d_head, d_mlp, layers, sizes, norm, vision)

    @cached_property
    def everything(self) -> ComponentSet:
        """Every MLP and every attention of the language model."""
        return ComponentSet(
            tuple(Component(i, k) for i in range(self.n_layers) for k in ("mlp", "attn"))
        )

    def check(self, components: ComponentSet) -> None:
        """Refuse an empty set and components this model does not have.

        Raises:
            WorkbenchError: with the first offending component and the valid range.
        """
        if not components:
            raise WorkbenchError("No component is selected; choose some, for example mlp.1-3.")
        limits = {"head": self.n_heads, "neuron": self.d_mlp}
        for c in components:
            if c.kind in SEEING:
                self._seeing(c).check(c)
            elif c.layer >= self.n_layers:
                raise WorkbenchError(
                    f"{c} is out of range: this model has layers 0 to {self.n_layers - 1}."
                )
            if c.kind in limits and c.index >= limits[c.kind]:
                raise WorkbenchError(
                    f"{c} is out of range: layer {c.layer} has {c.kind}s 0 to {limits[c.kind] - 1}."
                )

    def slices(self, component: Component) -> list[ParameterSlice]:
        """Every parameter slice that belongs to a component."""
        if component.kind in SEEING:
            return [ParameterSlice(name) for name in self._seeing(component).names(component)]
        layer = self.layers[component.layer]
        if component.kind == "mlp":
            return [ParameterSlice(name) for name in layer.mlp_names]
        if component.kind == "attn":
            return [ParameterSlice(name) for name in layer.attn_names]
        if component.kind == "neuron":
            rows = [s for m in layer.mlp_inputs for s in m.outputs([component.index])]
            return rows + layer.mlp_out.inputs([component.index])
        span = self.head_columns(component.index)
        out = layer.query.outputs(layer.query_rows[i] for i in span)
        if self.n_key_value_heads == self.n_heads:
            for matrix, rows in layer.key_value:
                out += matrix.outputs(rows[i] for i in span)
        return out + layer.attn_out.inputs(span)

    def masks(
        self, components: ComponentSet, parameters: Mapping[str, Tensor]
    ) -> dict[str, Bool[Tensor, "..."]]:
        """Return, for each touched parameter, a mask of what the components may change."""
        self.check(components)
        out: dict[str, Tensor] = {}
        for component in components:
            for piece in self.slices(component):
                mask = piece.mask(parameters[piece.name])
                out[piece.name] = out[piece.name] | mask if piece.name in out else mask
        return out

    def n_parameters(self, components: ComponentSet) -> int:
        """Count the parameters of a set; what two components share counts once."""
        if {c.kind for c in components} <= {"mlp", "attn", *SEEING}:  # whole tensors never overlap
            meta = {n: torch.empty(s, device="meta") for n, s in self.sizes.items()}
            return sum(s.count(meta[s.name]) for c in components for s in self.slices(c))
        views = {n: torch.zeros(()).expand(s) for n, s in self.sizes.items()}
        return sum(int(m.sum()) for m in self.masks(components, views).values())

    def writer(self, component: Component) -> Writer:
        """Return the matrix through which a component writes to the residual stream.

        Raises:
            WorkbenchError: the component is a part of what the model sees with.
        """
        if component.kind in SEEING:
            raise WorkbenchError(
                f"{component} does not write to the residual stream of the language model, where "
                "this works; choose components such as mlp.1-3, or a method that trains."
            )
        layer, i = self.layers[component.layer], component.layer
        if component.kind in ("mlp", "neuron"):
            columns = None if component.kind == "mlp" else (component.index,)
            out = layer.mlp_out
            hook = f"blocks.{i}.mlp.out.hook_in"
            return Writer(out.weight, hook, out.transposed, columns, layer.mlp_norm)
        columns = None if component.kind == "attn" else tuple(self.head_columns(component.index))
        out = layer.attn_out
        hook = f"blocks.{i}.attn.o.hook_in"
        return Writer(out.weight, hook, out.transposed, columns, layer.attn_norm)

    def _seeing(self, component: Component) -> VisionParts:
        if self.vision is None:
            raise WorkbenchError(
                f"This model reads text only and has no {component}; choose components such as "
                "mlp.1-3."
            )
        return self.vision

    def head_columns(self, head: int) -> range:
        """Columns of the attention output matrix that read from a head."""
        return range(head * self.d_head, (head + 1) * self.d_head)


def _original(bridge_part: nn.Module | None) -> nn.Module | None:
    return getattr(bridge_part, "original_component", None)


def _matrix(part: nn.Module | None, names: Mapping[int, str]) -> _Matrix | None:
    """Describe a linear map whose weight is one of the model's own parameters."""
    original = _original(part)
    weight = getattr(original, "weight", None)
    if weight is None or id(weight) not in names:
        return None
    bias = getattr(original, "bias", None)
    transposed = type(original).__name__ == "Conv1D"
    return _Matrix(names[id(weight)], names.get(id(bias)), transposed)


def _read_layer(
    block: nn.Module,
    names: Mapping[int, str],
    modules: Mapping[int, str],
    index: int,
    shape: tuple[int, int, int],
) -> _Layer:
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
    return _Layer(
        tuple(m for m in ins if m),
        mlp_out,
        query,
        rows,
        key_value,
        attn_out,
        mlp_names,
        attn_names,
        _common_path((*mlp_names, *attn_names)),
        _norm_path(getattr(block, "ln2_post", None), modules),
        _norm_path(getattr(block, "ln1_post", None), modules),
    )


def _common_path(names: Iterable[str]) -> str:
    """Return the longest module path that all names begin with."""
    paths = [name.split(".") for name in names]
    columns = zip(*paths, strict=False)
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, columns)
    return ".".join(parts[0] for parts in shared)


def _norm_path(part: nn.Module | None, modules: Mapping[int, str]) -> str | None:
    weight = getattr(_original(part), "weight", None)
    return modules.get(id(weight)) if weight is not None else None


def _attention_inputs(
    attn: nn.Module, names: Mapping[int, str], q_width: int, kv_width: int, d_head: int
) -> tuple[_Matrix, tuple[int, ...], tuple[tuple[_Matrix, tuple[int, ...]], ...]]:
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
