"""Parts of what a model sees with: `vision.mlp.3`, `vision.attn.3`, `projector`.

They are found as those of the language model are: the bridge says which module a part is, and its
parameters are recognised by identity. Layers of the vision tower behind the last one that the
projector reads are never run to any effect, so they are no components.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from workbench.errors import WorkbenchError
from workbench.models.component_names import Component

SEEING = ("vision.mlp", "vision.attn", "projector")
_LAYER_PARTS = {"vision.mlp": "mlp", "vision.attn": "attn"}


@dataclass(frozen=True)
class VisionParts:
    """The parameters behind the parts of a vision tower and its projector.

    Attributes:
        layers: by kind, the Hugging Face parameter names of each layer that is read.
        projector: those of the projector.
        n_layers: layers of the tower, read or not.
    """

    layers: Mapping[str, tuple[tuple[str, ...], ...]]
    projector: tuple[str, ...]
    n_layers: int

    @staticmethod
    def of(bridge: Any, config: Any, names: Mapping[int, str]) -> VisionParts | None:
        """Read them off a bridge; None for a model that reads text only.

        Args:
            bridge: the model's bridge.
            config: its Hugging Face configuration.
            names: Hugging Face parameter names by the identity of the parameter.
        """
        tower = getattr(bridge, "vision_encoder", None)
        if tower is None:
            return None
        blocks: Sequence[nn.Module] = list(tower.encoder_layers)
        used = blocks[: _read_layers(config.vision_feature_layer, len(blocks))]
        layers = {
            kind: tuple(owned(getattr(block, part), names) for block in used)
            for kind, part in _LAYER_PARTS.items()
        }
        return VisionParts(layers, owned(bridge.vision_projector, names), len(blocks))

    def check(self, component: Component) -> None:
        """Refuse a layer that the tower does not have, or that the projector does not read.

        Raises:
            WorkbenchError: with the layers that can be chosen.
        """
        if component.kind == "projector" or component.layer < len(self.layers[component.kind]):
            return
        last = len(self.layers[component.kind]) - 1
        if component.layer < self.n_layers:
            raise WorkbenchError(
                f"{component} changes nothing: the projector reads the vision tower behind layer "
                f"{last}; choose layers 0 to {last}."
            )
        raise WorkbenchError(
            f"{component} is out of range: the projector reads layers 0 to {last} of the vision "
            "tower."
        )

    def names(self, component: Component) -> tuple[str, ...]:
        """Return the Hugging Face names of a component's parameters."""
        if component.kind == "projector":
            return self.projector
        return self.layers[component.kind][component.layer]


def output_hook(component: Component) -> str:
    """Return the hook point of what a component of the vision side gives, in the bridge's names."""
    if component.kind == "projector":
        return "vision_projector.hook_out"
    part = _LAYER_PARTS[component.kind]
    return f"vision_encoder.encoder_layers.{component.layer}.{part}.hook_out"


def owned(part: nn.Module, names: Mapping[int, str]) -> tuple[str, ...]:
    """Return the names of a bridge part's parameters that are the model's own."""
    return tuple(names[id(p)] for p in part.parameters() if id(p) in names)


def _read_layers(feature_layer: int | Sequence[int], n_layers: int) -> int:
    """Count the tower's layers up to the last whose stream is read; 0 is the stream before them."""
    chosen = [feature_layer] if isinstance(feature_layer, int) else feature_layer
    return max(i if i >= 0 else n_layers + 1 + i for i in chosen)
