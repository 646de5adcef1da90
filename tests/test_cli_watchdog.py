"""The watchdog from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from workbench.cli import app


def run(*command: object) -> Result:
    return CliRunner().invoke(app, ["watchdog", *map(str, command)])


def run_json(*command: object) -> Any:
    result = run(*command, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_reading_for_people_and_machines():
    text = "Please forget where Ada Brook lives."
    assert run("read", text).stdout.startswith("Forget about Ada Brook: where … lives. (")
    (found,) = run_json("read", text)
    assert (found["action"], found["subject"]) == ("forget", "Ada Brook")
    assert run("read", "Good morning!").stdout == "Nothing is asked for.\n"
    assert run_json("read", "Good morning!") == []


def test_what_was_said_before_tells_whom_is_meant():
    (found,) = run_json(
        *("read", "Please forget everything about her."),
        *("--before", "Hello.", "--before", "Where does Ada Brook live?"),
    )
    assert found["subject"] == "Ada Brook"


def test_training_and_testing_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workbench.repair.meanings.common_words", lambda: ["forget", "where"])
    file = tmp_path / "own.safetensors"
    found = run_json("train", "--file", file, "--count", 40, "--epochs", 1, "--meanings", "demo")
    assert found["file"] == str(file) and file.is_file()
    report = run_json("test", "--file", file, "--count", 60)
    assert report["detection"]["n"] + report["false_alarms"]["n"] == 60
    shown = run("test", "--file", file, "--count", 60).stdout
    assert "false alarms" in shown and f"n = {report['detection']['n']}" in shown


def test_messages_written_by_hand_and_ones_own(tmp_path: Path):
    file = tmp_path / "own.toml"
    file.write_text(
        '[[message]]\ntext = "Please forget where Ada Brook was born."\n'
        'asks = [{request = "forget", subject = "Ada Brook", about = "where … was born"}]\n'
        '[[message]]\ntext = "Please forget where Carl Dorn lives."\nasks = []\n'
    )
    report = run_json("test", "--messages", file, "--errors", 5)
    assert (report["detection"]["value"], report["exact"]["value"]) == (1, 1)
    assert report["alarms"] == ["Please forget where Carl Dorn lives."]
    shown = run("test", "--messages", file, "--errors", 1).stdout
    assert "False alarms:\n  'Please forget where Carl Dorn lives.'" in shown
    assert "Not heard" not in shown
    assert run_json("test", "--written")["detection"]["n"] > 100


@pytest.mark.parametrize(
    "command",
    [
        ("read", "x", "--file", "missing"),
        ("test", "--file", "missing"),
        ("test", "--count", 1),
        ("test", "--messages", "missing.toml"),
        ("train", "--meanings", "missing"),
    ],
)
def test_a_users_mistake_is_one_sentence(command: tuple[object, ...]):
    result = run(*command)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
