"""The edit methods: one file and one line each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from workbench.edit.auto import auto_stamp
from workbench.edit.edit import Edit
from workbench.edit.stamp import Sites, StampConfig, stamp
from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.fact import Request
from workbench.models.components import ComponentSet
from workbench.models.model import Model
from workbench.progress import SILENT, Progress


@dataclass(frozen=True)
class Method:
    """A way to edit.

    Attributes:
        run: called with model, request, components and a config; keyword `progress`.
        config: dataclass of its settings.
        summary: what it does, in one line.
    """

    run: Callable[..., Edit]
    config: type[Any]
    summary: str


METHODS: dict[str, Method] = {
    "stamp": Method(stamp, StampConfig, "closed-form redirection of forget activations"),
    "stamp-auto": Method(auto_stamp, StampConfig, "STAMP with weight and strength searched for"),
}


def method_named(name: str) -> Method:
    """Look a method up.

    Raises:
        WorkbenchError: there is none of this name.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[name]


def settings_help(name: str) -> dict[str, str]:
    """Return what each setting of a method means, from its config's documentation."""
    lines = inspect.cleandoc(method_named(name).config.__doc__ or "").splitlines()
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


def make_config(name: str, settings: Mapping[str, Any]) -> Any:
    """Build a method's config from settings.

    Raises:
        WorkbenchError: unknown method or setting, or a value of the wrong type.
    """
    config = method_named(name).config
    defaults = config()
    known = {f.name for f in fields(config)}
    typed = {}
    for key, value in settings.items():
        if key not in known:
            raise unknown_name(f"setting of {name}", key, known)
        typed[key] = _typed(key, value, getattr(defaults, key))
    return config(**typed)


def _typed(key: str, value: Any, default: Any) -> Any:
    """Read a written value as the type of its default; `rank` alone may be none."""
    if default is None and (value is None or value == "none"):
        return None
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


def edit(
    name: str,
    model: Model,
    request: Request,
    components: ComponentSet | Sites,
    settings: Mapping[str, Any] | None = None,
    *,
    progress: Progress = SILENT,
) -> Edit:
    """Run a method by its name.

    Raises:
        WorkbenchError: unknown method or setting, or what the method itself refuses.
    """
    method = method_named(name)
    return method.run(
        model, request, components, make_config(name, settings or {}), progress=progress
    )
