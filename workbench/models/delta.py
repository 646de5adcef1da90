"""What an edit is: updates of named parameters, and where they came from.

An update is dense (a tensor of the parameter's shape) or low-rank, `left @ right`. Deltas add,
scale, compress to a rank, and save as safetensors with a JSON header; nothing here is executable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError

FORMAT = "workbench-delta-1"
_HEADER = "workbench"


@dataclass(frozen=True, eq=False)
class Dense:
    """A full update of one parameter."""

    value: Float[Tensor, "..."]

    def dense(self) -> Float[Tensor, "..."]:
        """The update itself."""
        return self.value

    def scaled(self, factor: float) -> Dense:
        """Multiply by a number."""
        return Dense(self.value * factor)

    @property
    def n_values(self) -> int:
        """Numbers stored."""
        return self.value.numel()


@dataclass(frozen=True, eq=False)
class LowRank:
    """An update left @ right of one matrix."""

    left: Float[Tensor, "rows rank"]
    right: Float[Tensor, "rank columns"]

    def dense(self) -> Float[Tensor, "rows columns"]:
        """Multiply out."""
        return self.left @ self.right

    def scaled(self, factor: float) -> LowRank:
        """Multiply by a number."""
        return LowRank(self.left * factor, self.right)

    @property
    def rank(self) -> int:
        """Inner dimension."""
        return self.left.shape[1]

    @property
    def n_values(self) -> int:
        """Numbers stored."""
        return self.left.numel() + self.right.numel()


Update = Dense | LowRank


@dataclass(frozen=True)
class Origin:
    """Where a delta came from: all that is needed to make it again.

    Attributes:
        method: registry name of the edit method, or "sum" for added deltas.
        config: its settings.
        components: the component set in its written form.
        model: name of the base model.
        model_fingerprint: SHA-256 of the parameters of the model it was made for.
        base_fingerprint: the same of the unedited model below, where that one was edited already.
        facts_fingerprint: SHA-256 of the request.
        seed: the seed of every random choice.
        versions: package name -> version.
        parts: the origins of the deltas that were added.
    """

    method: str
    config: Mapping[str, Any] = field(default_factory=dict)
    components: str = ""
    model: str = ""
    model_fingerprint: str = ""
    base_fingerprint: str = ""
    facts_fingerprint: str = ""
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Origin, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        out = {k: getattr(self, k) for k in self.__dataclass_fields__ if k != "parts"}
        out["config"], out["versions"] = dict(self.config), dict(self.versions)
        if self.parts:
            out["parts"] = [part.to_json() for part in self.parts]
        return out

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Origin:
        """Read what `to_json` wrote."""
        parts = tuple(Origin.from_json(part) for part in data.get("parts", ()))
        return Origin(**{k: v for k, v in data.items() if k != "parts"}, parts=parts)


@dataclass(frozen=True, eq=False)
class WeightDelta:
    """Updates by Hugging Face parameter name, and their origin."""

    updates: Mapping[str, Update]
    origin: Origin

    def __post_init__(self) -> None:
        """Make the mapping read-only."""
        object.__setattr__(self, "updates", MappingProxyType(dict(self.updates)))

    def __mul__(self, factor: float) -> WeightDelta:
        """Scale every update."""
        config = {**self.origin.config, "scale": self.origin.config.get("scale", 1.0) * factor}
        scaled = {name: update.scaled(factor) for name, update in self.updates.items()}
        return WeightDelta(scaled, replace(self.origin, config=config))

    __rmul__ = __mul__

    def __add__(self, other: WeightDelta) -> WeightDelta:
        """Add two edits of one base model."""
        updates = dict(self.updates)
        for name, update in other.updates.items():
            updates[name] = _sum(updates[name], update) if name in updates else update
        origin = replace(
            self.origin,
            method="sum",
            config={},
            components=", ".join(c for c in (self.origin.components, other.origin.components) if c),
            parts=(self.origin, other.origin),
        )
        return WeightDelta(updates, origin)

    @property
    def n_values(self) -> int:
        """Numbers stored in the delta."""
        return sum(update.n_values for update in self.updates.values())

    def compress(self, rank: int) -> WeightDelta:
        """Keep the `rank` largest singular directions of every matrix update.

        Raises:
            WorkbenchError: the rank is not positive.
        """
        if rank < 1:
            raise WorkbenchError(f"A rank must be at least 1, not {rank}.")
        updates = {name: _truncate(update, rank) for name, update in self.updates.items()}
        return WeightDelta(
            updates, replace(self.origin, config={**self.origin.config, "compressed_to_rank": rank})
        )

    def save(self, path: str | Path) -> None:
        """Write one safetensors file with the origin in its header; atomic."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        tensors = {}
        for name, update in self.updates.items():
            if isinstance(update, LowRank):
                tensors[f"{name}::left"], tensors[f"{name}::right"] = update.left, update.right
            else:
                tensors[name] = update.value
        # One entry only: safetensors writes several in an order that changes from run to run.
        header = {"format": FORMAT, "origin": self.origin.to_json()}
        metadata = {_HEADER: json.dumps(header, sort_keys=True)}
        path = Path(path)
        part = path.with_name(path.name + ".part")
        try:
            save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, part, metadata)
            part.replace(path)
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise WorkbenchError(
                f"Cannot write {path} ({reason}); choose a folder with space that you may write to."
            ) from error
        finally:
            with suppress(OSError):
                part.unlink()

    @staticmethod
    def load(path: str | Path) -> WeightDelta:
        """Read a delta file.

        Raises:
            WorkbenchError: there is no such file, or it is not a delta.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise WorkbenchError(f"There is no delta file {path}; give the path of one.")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise WorkbenchError(f"{path} is not a readable safetensors file ({error}).") from error
        header = json.loads(metadata.get(_HEADER, "{}"))
        if header.get("format") != FORMAT:
            raise WorkbenchError(f"{path} is not a delta that this workbench wrote.")
        updates: dict[str, Update] = {}
        for key, tensor in tensors.items():
            name, _, side = key.partition("::")
            if side == "left":
                updates[name] = LowRank(tensor, tensors[f"{name}::right"])
            elif not side:
                updates[name] = Dense(tensor)
        return WeightDelta(updates, Origin.from_json(header["origin"]))


def total(deltas: list[WeightDelta]) -> WeightDelta:
    """Add deltas of one base model.

    Raises:
        WorkbenchError: the list is empty.
    """
    if not deltas:
        raise WorkbenchError("There is no edit to add up; make an edit first.")
    return reduce(WeightDelta.__add__, deltas)


def _sum(a: Update, b: Update) -> Update:
    """Add two updates; low-rank ones stay low-rank while that stores fewer numbers."""
    if isinstance(a, LowRank) and isinstance(b, LowRank):
        joined = LowRank(torch.cat([a.left, b.left], 1), torch.cat([a.right, b.right], 0))
        if joined.n_values < joined.left.shape[0] * joined.right.shape[1]:
            return joined
    return Dense(a.dense() + b.dense())


def _truncate(update: Update, rank: int) -> Update:
    value = update.dense()
    if value.ndim != 2 or min(value.shape) <= rank:
        return update
    u, s, vh = torch.linalg.svd(value.double(), full_matrices=False)
    left, right = u[:, :rank] * s[:rank], vh[:rank]
    return LowRank(left.to(value.dtype), right.to(value.dtype))
