"""What every plan can do: be stored as a run's settings, read back, and written as a command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from workbench.errors import WorkbenchError
from workbench.models.delta import WeightDelta
from workbench.models.model import Model

T = TypeVar("T")


@dataclass(frozen=True)
class Recorded(Generic[T]):
    """A result, and the run that it was recorded as.

    Attributes:
        run: the run's id.
        path: the run's folder.
        result: what came out.
    """

    run: str
    path: Path
    result: T


@dataclass(frozen=True)
class Plan:
    """Settings of one operation.

    Attributes:
        model: demo, smollm2, a folder or a hub id.
    """

    KIND: ClassVar[str] = ""

    model: str

    def arguments(self) -> list[str]:
        """Return the command's words behind `workbench KIND MODEL`."""
        raise TypeError(f"{type(self).__name__} cannot be written as a command")

    def command(self) -> str:
        """Write the command line that does the same."""
        return shlex.join(["workbench", self.KIND, self.model, *self.arguments()])

    def python(self) -> str:
        """Write the Python program that does the same."""
        name = type(self).__name__
        given = {
            f.name: value
            for f in fields(self)
            if (value := getattr(self, f.name)) != f.default and value not in ({}, ())
        }
        listed = "".join(f"    {key}={value!r},\n" for key, value in given.items())
        return (
            f"from workbench.plans import {name}, run_{self.KIND}\n\n"
            f"plan = {name}(\n{listed})\nfound = run_{self.KIND}(plan).result\n"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            WorkbenchError: it is not such a plan.
        """
        known = {f.name: f for f in fields(cls)}
        try:
            typed = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
            return cls(**{k: v for k, v in typed.items() if k in known})
        except TypeError as error:
            raise WorkbenchError(f"These are not the settings of a {cls.KIND} run.") from error


def options(**values: Any) -> list[str]:
    """Write options that are given; True is a flag, a list repeats its option."""
    out: list[str] = []
    for key, value in values.items():
        name = f"--{key.rstrip('_').replace('_', '-')}"
        if value is None or value is False or value == "":
            continue
        if value is True:
            out.append(name)
            continue
        for item in value if isinstance(value, (list, tuple)) else [value]:
            out += [name, str(item)]
    return out


def load_deltas(paths: tuple[str, ...]) -> list[WeightDelta]:
    """Read delta files."""
    return [WeightDelta.load(Path(p)) for p in paths]


def apply_deltas(base: Model, deltas: list[WeightDelta]) -> Model:
    """Apply deltas one after the other; each must be made for the base or for what it became.

    Raises:
        WorkbenchError: a delta was made for another model.
    """
    model = base
    for delta in deltas:
        _check_made_for(delta, base, model)
        model = model.with_delta(delta)
    return model


def _check_made_for(delta: WeightDelta, base: Model, model: Model) -> None:
    """Refuse a delta that was made neither for this base nor on top of edits of it."""
    origins = (delta.origin, *delta.origin.parts)
    made_for = {f for o in origins for f in (o.model_fingerprint, o.base_fingerprint) if f}
    if made_for and base.fingerprint not in made_for and model.fingerprint not in made_for:
        raise WorkbenchError(
            f"The delta was made for another model ({delta.origin.model}, fingerprint "
            f"{min(made_for)[:12]}); apply it to that one."
        )
