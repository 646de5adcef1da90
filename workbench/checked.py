"""Records from files that people write: checked, and the first fault said in one sentence."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from workbench.errors import WorkbenchError, unknown_name

T = TypeVar("T", bound=BaseModel)
Scalar = bool | int | float | str
_MEMBERS = ("bool", "int", "float", "str")  # of `Scalar`, as they stand in the path of a fault
_WANTED = {
    "tuple_type": "a list",
    "too_short": "a list of at least one",
    "dict_type": "a table",
    "model_type": "a table",
}


class Checked(BaseModel):
    """A record that is read only and has no key but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def checked(kind: type[T], data: Any, where: str) -> T:
    """Make a record of plain data.

    Args:
        kind: the record's class.
        data: what was read.
        where: what the sentence calls it.

    Raises:
        WorkbenchError: with the first fault.
    """
    if not isinstance(data, Mapping):
        raise WorkbenchError(f"{where} is no record with named fields; write one.")
    try:
        return kind.model_validate(dict(data))
    except ValidationError as error:
        raise _sentence(error, kind, where) from None


def _sentence(error: ValidationError, kind: type[BaseModel], where: str) -> WorkbenchError:
    """Turn the first fault into a sentence; a misspelt key comes before the one it leaves out."""
    first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"]]
    written = ".".join(part for part in path if part not in _MEMBERS)
    if first["type"] == "extra_forbidden":
        return unknown_name(f"key of {where}", path[-1], _owner(kind, path[:-1]).model_fields)
    if first["type"] == "missing":
        return WorkbenchError(f"{where} lacks {written!r}; add it.")
    wanted = "a number or a word" if path[-1] in _MEMBERS else _WANTED.get(first["type"])
    given = f"{first['input']!r:.80}"
    if wanted:
        return WorkbenchError(f"{where}: {written} must be {wanted}, not {given}.")
    return WorkbenchError(f"{where}: {written} is wrong: {first['msg']}, not {given}.")


def _owner(kind: type[BaseModel], path: list[str]) -> type[BaseModel]:
    """Return the record that a path leads to."""
    for part in path:
        field = kind.model_fields.get(part)
        kind = next(_records(field.annotation), kind) if field else kind
    return kind


def _records(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the records in a type, such as the members of a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _records(inner)
