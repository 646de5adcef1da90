"""Where the bundled data and the user's cache are."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
FIRST_MODEL = "WORKBENCH_MODEL"  # the variable that names the model the browser app opens on


def data_dir() -> Path:
    """Return the folder of bundled data: inside an installed wheel, or beside a checkout's code."""
    inside = _PACKAGE / "_data"
    return inside if inside.is_dir() else _PACKAGE.parent / "data"


def pages_dir() -> Path:
    """Return the folder of the browser's pages: inside an installed wheel, or in a checkout."""
    inside = _PACKAGE / "_pages"
    return inside if inside.is_dir() else _PACKAGE.parent / "pages"


def browser_config() -> Path:
    """Return the file with the browser application's theme and server settings."""
    inside = _PACKAGE / "_pages" / ".streamlit" / "config.toml"
    return inside if inside.is_file() else _PACKAGE.parent / ".streamlit" / "config.toml"


def cache_dir() -> Path:
    """Return the folder for what is fetched or computed once; WORKBENCH_CACHE moves it."""
    configured = os.environ.get("WORKBENCH_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache/edit-workbench"
