"""Versions of what a result depends on, stored with every result."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("edit-workbench", "torch", "transformers", "transformer-lens", "numpy")


@cache
def versions() -> dict[str, str]:
    """Return package name -> version, Python's included."""
    out = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out
