"""`workbench app`: the workbench in the browser."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.errors import WorkbenchError
from workbench.models.paths import FIRST_MODEL, browser_config, pages_dir


def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8501,
    address: Annotated[
        str, typer.Option(help="The address to listen on; only this machine by default.")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    model: Annotated[
        str, typer.Option(help="The model to open on: demo, smollm2, a folder or a hub id.")
    ] = "demo",
) -> None:
    """Open the workbench in the browser, on the bundled model or another.

    Example: workbench app --model smollm2 --port 8600
    """
    page = pages_dir() / "app.py"
    if not page.is_file():
        raise WorkbenchError(f"The pages are not at {page.parent}; install the package again.")
    settings = {**flags(browser_config()), "server.port": str(port), "server.address": address}
    settings["server.headless"] = str(not browser).lower()
    words = [f"--{key}={value}" for key, value in settings.items()]
    command = [sys.executable, "-m", "streamlit", "run", str(page), *words]
    raise typer.Exit(subprocess.call(command, env={**os.environ, FIRST_MODEL: model}))


def flags(config: Path) -> dict[str, str]:
    """Return a Streamlit configuration as command-line settings.

    Streamlit itself looks for the file in the folder it is started from, which is the user's.
    """
    return dict(_flat(tomllib.loads(config.read_text(encoding="utf-8"))))


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(item).lower() if isinstance(item, bool) else str(item)
