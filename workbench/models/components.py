"""What a component stands for: parameter slices, and the matrix that it writes through.

A component resolves to parameter slices by asking the TransformerLens bridge which module it is and
matching parameters by identity, not by a table per architecture. Orientation (Conv1D or Linear),
fused query-key-value matrices and grouped-query attention are handled here and in `layer_parts` and
nowhere else; what a model sees with is in `vision_components`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.component_names import Component, ComponentSet
from workbench.models.layer_parts import Layer, ParameterSlice, norm_path, read_layer
from workbench.models.vision_components import SEEING, VisionParts

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel


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
class Structure:
    """Shape of a model and the parameters behind its components."""

    n_layers: int
    n_heads: int
    n_key_value_heads: int
    d_head: int
    d_mlp: int
    layers: tuple[Layer, ...]
    sizes: Mapping[str, tuple[int, ...]]
    final_norm: str  # module path
    vision: VisionParts | None = None

    @staticmethod
    def of(hf: PreTrainedModel, bridge: TransformerBridge) -> Structure:
        """Read the structure off a model's bridge.

        Raises:
            WorkbenchError: a block lacks a nameable MLP or attention, or the model a final
                norm.
        """
        parameters = dict(hf.named_parameters())
        names = {id(p): name for name, p in parameters.items()}
        modules = {id(p): name.rpartition(".")[0] for name, p in parameters.items()}
        cfg = bridge.cfg
        n_heads = int(cfg.n_heads)
        n_kv = int(getattr(cfg, "n_key_value_heads", None) or n_heads)
        d_head = int(cfg.d_head)
        layers = tuple(
            read_layer(bridge.blocks[i], names, modules, i, (n_heads, n_kv, d_head))
            for i in range(len(bridge.blocks))
        )
        sizes = {name: tuple(p.shape) for name, p in parameters.items()}
        out = layers[0].mlp_out
        d_mlp = sizes[out.weight][1 - out.out_dim]
        norm = norm_path(bridge.ln_final, modules)
        if norm is None:
            raise WorkbenchError(
                "This model has no norm with weights before its unembedding; use a model that has."
            )
        vision = VisionParts.of(bridge, hf.config, names)
        return Structure(len(layers), n_heads, n_kv, d_head, d_mlp, layers, sizes, norm, vision)

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
