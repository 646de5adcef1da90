"""One name for a part of the model everywhere: `mlp.3`, `attn.3`, `head.3.1`, `neuron.3.117`.

Grammar: comma-separated items; a layer or an index may be a range or a `+` list:
`mlp.2-4, head.3.0+2, neuron.3.10-19`.

    mlp.L         every weight of the MLP of layer L
    attn.L        every weight of the attention of layer L
    head.L.H      its query rows and output columns, and its key and value rows unless other heads
                  share them (grouped queries)
    neuron.L.N    its input (and gate) row and its output column
    vision.mlp.L  every weight of the MLP of layer L of the vision tower; vision.attn.L likewise
    projector     every weight between the vision tower and the language model
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from workbench.errors import WorkbenchError, unknown_name

Kind = Literal["mlp", "attn", "head", "neuron", "vision.mlp", "vision.attn", "projector"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_NUMBERS = {"head": 2, "neuron": 2, "projector": 0}  # that a kind is followed by; 1 if not here
_STAGE = {"vision.mlp": 0, "vision.attn": 0, "projector": 1}  # of a forward pass; 2 if not here
_ITEM = re.compile(r"((?:vision\.)?[A-Za-z_]+)((?:\.[0-9+\-]+)*)")
_PART = re.compile(r"(\d+)(?:-(\d+))?")
_LONGEST_RANGE = 1_000_000


@dataclass(frozen=True, order=True)
class Component:
    """One part of the model.

    Attributes:
        layer: block number from 0, of the vision tower for its parts; -1 for the projector.
        kind: mlp, attn, head, neuron, vision.mlp, vision.attn or projector.
        index: head or neuron number; -1 for whole layers.
    """

    layer: int
    kind: Kind
    index: int = -1

    def __str__(self) -> str:
        """Write it as it is read."""
        return ".".join([self.kind, *(str(n) for n in (self.layer, self.index) if n >= 0)])

    @property
    def block(self) -> int:
        """First block of the language model whose output it changes; pictures enter before 0."""
        return 0 if self.kind in _STAGE else self.layer


@dataclass(frozen=True)
class ComponentSet:
    """A set of components without duplicates, in the order of a forward pass."""

    items: tuple[Component, ...] = ()

    def __post_init__(self) -> None:
        """Sort and drop duplicates."""
        ordered = sorted(set(self.items), key=lambda c: (_STAGE.get(c.kind, 2), c))
        object.__setattr__(self, "items", tuple(ordered))

    def __iter__(self) -> Iterator[Component]:
        """Iterate in layer order."""
        return iter(self.items)

    def __len__(self) -> int:
        """Count the components."""
        return len(self.items)

    def __contains__(self, component: object) -> bool:
        """Whether this very component is in the set."""
        return component in self.items

    def __or__(self, other: ComponentSet) -> ComponentSet:
        """Unite two sets."""
        return ComponentSet(self.items + other.items)

    def __str__(self) -> str:
        """Write the shortest form that `parse` reads back."""
        groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        per_layer: dict[tuple[str, int], list[int]] = {}
        for c in self.items:
            per_layer.setdefault((c.kind, c.layer), []).append(c.index)
        for (kind, layer), indices in per_layer.items():
            groups.setdefault((kind, tuple(indices)), []).append(layer)
        parts = []
        for (kind, indices), layers in groups.items():
            numbers = [_ranges(n) for n in (layers, indices) if list(n) != [-1]]
            parts.append(".".join([kind, *numbers]))
        return ", ".join(parts)

    @staticmethod
    def parse(text: str) -> ComponentSet:
        """Read "mlp.2-4, head.3.1".

        Raises:
            WorkbenchError: the text is empty or does not follow the grammar.
        """
        items = [c for part in text.split(",") for c in _parse_item(part.strip())]
        return ComponentSet(tuple(items))


def _ranges(numbers: Iterable[int]) -> str:
    """Write sorted numbers as "2-4+7"."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return "+".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _numbers(text: str, item: str) -> list[int]:
    out: list[int] = []
    for part in text.split("+"):
        match = _PART.fullmatch(part)
        if not match:
            raise WorkbenchError(
                f"Cannot read component {item!r}: {part!r} is not a number or a range such as 2-4."
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first > _LONGEST_RANGE:
            raise WorkbenchError(f"Cannot read component {item!r}: the range {part} is not valid.")
        out.extend(range(first, last + 1))
    return out


def _parse_item(item: str) -> list[Component]:
    match = _ITEM.fullmatch(item)
    if not match:
        raise WorkbenchError(
            f"Cannot read component {item!r}; write it like mlp.3, mlp.2-4, attn.3, head.3.1 or "
            "neuron.3.117, separated by commas."
        )
    kind, numbers = match[1], match[2].split(".")[1:]
    if kind not in KINDS:
        raise unknown_name("component kind", kind, KINDS)
    wanted = _NUMBERS.get(kind, 1)
    if len(numbers) != wanted:
        form = ".".join([kind, "LAYER", "INDEX"][: 1 + wanted])
        raise WorkbenchError(f"Cannot read component {item!r}; write it as {form}.")
    layers = _numbers(numbers[0], item) if wanted else [-1]
    indices = _numbers(numbers[1], item) if wanted == 2 else [-1]
    if len(layers) * len(indices) > _LONGEST_RANGE:
        raise WorkbenchError(f"Component {item!r} names more parts than any model has.")
    return [Component(layer, kind, i) for layer in layers for i in indices]  # type: ignore[arg-type]
