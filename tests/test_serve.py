"""The browser application listens to this machine only, unless it is told otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from streamlit import config as streamlit_config
from typer.testing import CliRunner

from workbench.cli import app
from workbench.cli.serve import flags
from workbench.models.paths import FIRST_MODEL, browser_config, pages_dir


def started(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, str]:
    """Return the settings that the browser application would be started with."""
    calls: list[list[str]] = []
    models: list[str] = []

    def call(command: list[str], env: dict[str, str]) -> int:
        calls.append(command)
        models.append(env[FIRST_MODEL])
        return 7

    monkeypatch.setattr(subprocess, "call", call)
    result = CliRunner().invoke(app, ["app", *arguments])
    assert result.exit_code == 7, result.output  # the application's own code is handed on
    ((python, *words),) = calls
    assert python == sys.executable
    assert words[:4] == ["-m", "streamlit", "run", str(pages_dir() / "app.py")]
    settings = [word.removeprefix("--").split("=", 1) for word in words[4:]]
    assert len({key for key, _ in settings}) == len(settings)
    return {**dict(settings), "model": models[0]}  # type: ignore[arg-type]


def test_the_bundled_settings_are_safe() -> None:
    found = flags(browser_config())
    assert found["server.address"] == "127.0.0.1"
    assert found["server.enableXsrfProtection"] == "true"
    assert found["server.enableCORS"] == "true"
    assert found["browser.gatherUsageStats"] == "false"


def test_streamlit_knows_every_setting() -> None:
    known = streamlit_config.get_config_options()
    assert set(flags(browser_config())) <= set(known)


def test_nested_tables_become_dotted_names(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        'top = "x"\n[server]\nport = 1\nheadless = true\n[theme]\nfont = "a, \'b\'"\n'
        "[theme.dark]\nradius = 0.5\n[theme.dark.deep]\noff = false\n",
        encoding="utf-8",
    )
    assert flags(file) == {
        "top": "x",
        "server.port": "1",
        "server.headless": "true",
        "theme.font": "a, 'b'",
        "theme.dark.radius": "0.5",
        "theme.dark.deep.off": "false",
    }


def test_it_starts_on_this_machine_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # the user's own folder has no settings
    found = started(monkeypatch)
    assert found["server.address"] == "127.0.0.1" and found["server.port"] == "8501"
    assert found["server.headless"] == "false" and found["server.enableXsrfProtection"] == "true"


def test_what_the_user_says_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    found = started(monkeypatch, "--port", "8600", "--address", "0.0.0.0", "--no-browser")
    assert (found["server.port"], found["server.address"]) == ("8600", "0.0.0.0")
    assert found["server.headless"] == "true" and found["server.enableXsrfProtection"] == "true"


def test_it_opens_on_the_model_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert started(monkeypatch)["model"] == "demo"
    assert started(monkeypatch, "--model", "smollm2")["model"] == "smollm2"


@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_ports_out_of_range_are_refused(port: str) -> None:
    assert CliRunner().invoke(app, ["app", "--port", port]).exit_code == 2
