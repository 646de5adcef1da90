"""The commands `attack` and `compare`: for people and machines, and never half-done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_files import request_file, tiny_folder
from typer.testing import CliRunner, Result

from tests.compare.small import METHOD, ROUNDING, load
from workbench.attack.robustness import Robustness
from workbench.cli import app
from workbench.compare import bench, runner
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.store.store import RunStore

FILES = {
    *("table.csv", "cells.csv", "attacks.csv", "differences.csv"),
    *("study.json", "README.md", "report.html"),
}


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bench, "load", load)
    monkeypatch.setattr(bench, "neutral_texts", lambda model, request: ("One text.",))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def run_json(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return json.loads(result.stdout)


def refused(words: str, *arguments: object) -> None:
    """Check that a command ends with one sentence and the user's exit code."""
    result = run(*arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert words in result.stderr and len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["attack", "compare"])
def test_every_help_has_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example: workbench {command}" in " ".join(result.output.split())


@pytest.fixture
def request_path(tmp_path: Path) -> Path:
    return request_file(tmp_path)


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    name = "model.norm.weight"
    turned = Dense(-2 * load(str(tiny_folder())).parameters[name])
    WeightDelta({name: turned}, Origin("by hand")).save(tmp_path / "edit.safetensors")
    return tmp_path / "edit.safetensors"


def attack(request_path: Path, *more: object) -> tuple[object, ...]:
    return ("attack", tiny_folder(), "--request", request_path, *more)


def test_attack_is_recorded_and_printed(request_path: Path, delta: Path) -> None:
    two = ("--attack", "quantization", "--attack", "multiple_choice")
    given = attack(request_path, "--delta", delta, *two, "--set", "quantization.bits=16,8")
    found = run_json(*given, "--seed", 2)
    (record,) = RunStore.default().list()
    assert (found["run"], record.kind, record.seed) == (record.id, "attack", 2)
    kept = json.loads((record.path / "robustness.json").read_text(encoding="utf-8"))
    assert {**kept, "run": record.id} == found
    first, second = Robustness.from_json(kept).results
    assert first.config["bits"] == [16, 8] and set(first.cells["bits"]) == {16, 8}
    assert second.failed  # the facts have no choices
    people = run(*given)
    head, quantized, choices, verdict, failed = people.stdout.splitlines()
    assert head.split()[:3] == ["attack", "worst", "setting"]
    worst = first.worst
    assert worst is not None
    numbers = [f"{worst[m]:.2f}" for m in ("value", "before", "base", "recovered")]
    where = [f"bits={worst['bits']},", f"group={worst['group']}"]
    assert quantized.split() == ["quantization", *where, *numbers]
    assert choices.split() == ["multiple_choice"]  # no number, and no nan
    assert verdict.startswith("The worst attack is quantization (bits=")
    assert failed == f"multiple_choice did not run: {second.failed}"


def test_where_nothing_can_be_measured_no_number_is_given(request_path: Path, delta: Path) -> None:
    done = run(*attack(request_path, "--delta", delta, "--attack", "multiple_choice"))
    assert done.exit_code == 0 and "No attack could be measured." in done.stdout


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--attack", "prunin"], "Unknown attack 'prunin'; did you mean 'pruning'"),
        (["--set", "quantization.bit=4"], "did you mean 'bits'"),
        (["--set", "bits=4"], "names no attack"),
        (["--set", "quantization.bits"], "write it as key=value"),
        (["--set", "quantization.bits=few"], "bits must be a number"),
        (["--attack", "pruning", "--set", "quantization.bits=4"], "an attack that is not run"),
        (["--oracle", "no-such-model"], "no-such-model"),
    ],
)
def test_faults_are_sentences(more: list[str], words: str, request_path: Path, delta: Path) -> None:
    refused(words, *attack(request_path, "--delta", delta, *more))
    assert RunStore.default().list() == []


def test_without_an_edit_there_is_nothing_to_attack(request_path: Path) -> None:
    refused("There is no edit to attack", *attack(request_path))
    refused("no delta file gone", *attack(request_path, "--delta", "gone.safetensors"))


@pytest.fixture
def study(tmp_path: Path, request_path: Path) -> Path:
    """Write a study of two cells that are edits."""
    settings = ", ".join(f"{k} = {v}" for k, v in METHOD["settings"].items())
    text = f"""
name = "small"
model = "{tiny_folder()}"
request = "{request_path}"
budget = "mlp.0"
limit = 2
[[method]]
method = "stamp"
places = ["mlp.0", "random"]
settings = {{{settings}}}
search = {{weight = [10, 1000]}}
[[attack]]
attack = "{ROUNDING["attack"]}"
settings = {{bits = [8]}}
"""
    path = tmp_path / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path


def everything(folder: Path) -> set[Path]:
    return {p for p in folder.rglob("*") if p.is_file()}


def test_a_dry_run_says_what_it_would_run_and_writes_nothing(tmp_path: Path, study: Path) -> None:
    before = everything(tmp_path)
    found = run_json("compare", study, "--dry-run")
    assert found == {
        **{"cells": 3, "attacks": 3, "done": 0, "edits": 4},
        **{"seconds": 0, "unknown": 6},
    }
    people = run("compare", study, "--dry-run", "--workers", 2)
    assert people.stdout.startswith("3 cells (4 edits to try) and 3 attacks on them; 0 are done.")
    assert everything(tmp_path) == before and not (tmp_path / "cache").exists()


def test_a_report_only_runs_nothing(tmp_path: Path, study: Path) -> None:
    result = run("compare", study, "--report-only")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("Not run yet") == 3
    assert {p.name for p in (tmp_path / "small").iterdir()} == FILES
    assert RunStore.default().list() == [] and not (tmp_path / "cache").exists()
    cells = pd.read_csv(tmp_path / "small/cells.csv")
    assert cells["status"].tolist() == ["missing"] * 3


def test_compare_writes_its_folder_and_goes_on_where_it_was(
    tmp_path: Path, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("compare", study)
    assert done.exit_code == 0, done.output
    out = tmp_path / "small"
    assert {p.name for p in out.iterdir()} == FILES
    head, *body, last = done.stdout.splitlines()
    assert head.split()[:2] == ["method", "place"] and last == f"Wrote 7 files to {out}."
    assert [line.split()[0] for line in body] == ["base", "stamp", "stamp"]
    assert len(RunStore.default().list()) == 2

    def no(*_: object) -> None:
        raise AssertionError("done twice")

    monkeypatch.setattr(runner, "run_cell", no)
    monkeypatch.setattr(runner, "run_attack", no)
    elsewhere = tmp_path / "elsewhere"
    found = run_json("compare", study, "--out", elsewhere)
    assert {Path(f) for f in found["files"]} == {elsewhere / name for name in FILES}
    assert found["table"] == json.loads((elsewhere / "study.json").read_text())["table"]
    assert [(r["method"], r["place"], r["seeds"]) for r in found["table"]] == [
        *(("base", "", 1), ("stamp", "mlp.0", 1), ("stamp", "random", 1)),
    ]
    for name in ("cells.csv", "README.md", "attacks.csv"):
        assert (elsewhere / name).read_bytes() == (out / name).read_bytes()
    assert run("compare", study).exit_code == 0  # its own folder is written again
    assert run_json("compare", study, "--dry-run")["done"] == 6


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("limit", "limmit", "did you mean 'limit'"),
        ('"stamp"', '"stmp"', "did you mean 'stamp'"),
        ('"random"', '"randon"', "did you mean 'random'"),
        ("strength", "strenght", "did you mean 'strength'"),
        ('attack = "quantization"', 'attack = "quantisation"', "did you mean 'quantization'"),
        ("bits", "bit", "did you mean 'bits'"),
        ('budget = "mlp.0"', 'budget = "mlp.7"', "layers 0 to 2"),
        ("[[method]]", "[[method", "is not a TOML file"),
        ("/small.json", "/gone.json", "gone.json"),
    ],
)
def test_a_wrong_study_is_a_sentence(
    tmp_path: Path, study: Path, old: str, new: str, words: str
) -> None:
    study.write_text(study.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    refused(words, "compare", study)
    refused(words, "compare", study, "--dry-run")
    assert not (tmp_path / "small").exists() and RunStore.default().list() == []


def test_results_that_cannot_be_written_are_told_before_the_work(
    tmp_path: Path, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(*_: object, **__: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(runner, "run_study", no)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    refused("holds other things", "compare", study, "--out", tmp_path / "mine")
    refused("is a file", "compare", study, "--out", study)
    bare = tmp_path / "study"
    bare.write_bytes(study.read_bytes())
    refused("is a file", "compare", bare)  # its results would be called as it is
    assert bare.read_bytes() == study.read_bytes()


def test_no_study_and_no_worker_are_refused(tmp_path: Path, study: Path) -> None:
    refused("Cannot read", "compare", tmp_path / "gone.toml")
    assert run("compare", study, "--workers", 0).exit_code == 2
