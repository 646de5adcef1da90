"""Settings of a frozen dataclass: what each means, and how a written value is read."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from workbench.errors import WorkbenchError, unknown_name


def explained(config: type[Any]) -> dict[str, str]:
    """Return what each setting means: the "Attributes:" of the class and of its bases."""
    found: dict[str, str] = {}
    for part in reversed(config.__mro__):
        found |= _attributes(part.__doc__ or "")
    return {f.name: found[f.name] for f in fields(config) if f.name in found}


def _attributes(documentation: str) -> dict[str, str]:
    lines = inspect.cleandoc(documentation).splitlines()
    found: dict[str, str] = {}
    key = ""
    for line in lines[lines.index("Attributes:") + 1 :] if "Attributes:" in lines else []:
        if not line.strip():
            break
        if not line.startswith("        "):
            key, _, text = line.strip().partition(": ")
            found[key] = text
        elif key:
            found[key] += f" {line.strip()}"
    return found


def configured(name: str, config: type[Any], settings: Mapping[str, Any]) -> Any:
    """Build a config from settings, each read as the type of its default.

    Args:
        name: whose settings they are, for messages.
        config: dataclass with a default for every field.
        settings: values by field, written or typed.

    Raises:
        WorkbenchError: an unknown setting, or a value of the wrong type.
    """
    defaults = config()
    names = {f.name for f in fields(config)}
    typed = {}
    for key, value in settings.items():
        if key not in names:
            raise unknown_name(f"setting of {name}", key, names)
        typed[key] = _typed(key, value, getattr(defaults, key))
    return config(**typed)


def _typed(key: str, value: Any, default: Any) -> Any:
    """Read a written value; None is kept where it is the default, lists are separated by commas."""
    if default is None and (value is None or value == "none"):
        return None
    if isinstance(default, tuple):
        items = value.split(",") if isinstance(value, str) else value
        items = items if isinstance(items, Iterable) else [items]
        return tuple(_typed(key, item, default[0]) for item in items)
    kind = int if default is None else type(default)
    try:
        return _switch(value) if kind is bool else kind(value)
    except (TypeError, ValueError) as error:
        wanted = {int: "a number", float: "a number", bool: "true or false"}.get(kind, "a word")
        raise WorkbenchError(f"{key} must be {wanted}, not {value!r}.") from error


def _switch(value: Any) -> bool:
    """Read a switch; `bool` would take the text "false" for true."""
    words = {"true": True, "false": False}
    if str(value).lower() not in words:
        raise ValueError(value)
    return words[str(value).lower()]
