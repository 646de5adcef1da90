"""What a user can get wrong: one sentence, exit code 2, nothing written and nothing changed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_files import FORM, request_file, tiny_folder
from typer.testing import CliRunner

from workbench.cli import app


@pytest.fixture(autouse=True)
def _own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a model of one's own and a request."""
    shutil.copytree(tiny_folder(), tmp_path / "model")
    request_file(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and "runs" not in p.parts)
    return {str(p): p.read_bytes() for p in files}


def refused(folder: Path, arguments: list[str]) -> str:
    """Run in the folder and return the one sentence it was refused with."""
    before = contents(folder)
    old = Path.cwd()
    os.chdir(folder)
    try:
        result = CliRunner().invoke(app, arguments)
    finally:
        os.chdir(old)
    assert result.exit_code == 2, (result.output, result.exception)
    assert contents(folder) == before
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("Error: ") and line.endswith((".", "?"))
    return line


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def remove_model(work: Path) -> None:
    shutil.rmtree(work / "model")


def break_config(work: Path) -> None:
    (work / "model/config.json").write_text("{")


def not_causal(work: Path) -> None:
    change_json(work / "model/config.json", model_type="vit", architectures=["ViTModel"])


def unknown_architecture(work: Path) -> None:
    change_json(work / "model/config.json", model_type="nobody", architectures=["NobodyForLM"])


def pickle_only(work: Path) -> None:
    weights = load_file(work / "model/model.safetensors")
    (work / "model/model.safetensors").unlink()
    torch.save(weights, work / "model/pytorch_model.bin")


def remote_code(work: Path) -> None:
    change_json(
        work / "model/config.json",
        model_type="mine",
        auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"},
    )


def truncated(work: Path) -> None:
    path = work / "model/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def nan_weights(work: Path) -> None:
    path = work / "model/model.safetensors"
    weights = load_file(path)
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove_model, "no folder"),
        (break_config, "config.json"),
        (not_causal, "causal"),
        (unknown_architecture, "nobody"),
        (pickle_only, "safetensors"),
        (remote_code, "code"),
        (truncated, "safetensors"),
        (nan_weights, "NaN"),
    ],
)
def test_models_that_cannot_be_used(work: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(work)
    said = refused(work, ["measure", "./model", "--request", "small.json"])
    assert words.lower() in said.lower()


FACT = {"subject": "Ada", "prompt": FORM.format("Ada"), "target": " tennis"}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([json.dumps(FACT), "{oops"], "line 2"),
        ([json.dumps({**FACT, "subject": "Bob"})], "'Bob' is not in the prompt"),
        ([json.dumps({**FACT, "target": " "})], "target"),
        ([json.dumps({**FACT, "prompt": FORM.format("Ada") * 60})], "must hold it exactly once"),
        ([], "is empty"),
    ],
)
def test_fact_files_that_are_wrong(work: Path, lines: list[str], words: str) -> None:
    (work / "bad.jsonl").write_text("\n".join(lines))
    assert words in refused(work, ["facts", "check", "bad.jsonl"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": " \udcff".encode("utf-8", "surrogateescape").decode("latin-1")}, "not know"),
        ({}, "not know"),
        ({"prompt": "x " * 400 + FORM.format("Ada")}, "context"),
    ],
)
def test_facts_the_model_cannot_be_asked(work: Path, change: dict[str, str], words: str) -> None:
    (work / "own.jsonl").write_text(json.dumps({**FACT, **change}))
    said = refused(work, ["localize", "./model", "--facts", "own.jsonl", "--out", "where"])
    assert words in said


EDIT = ["edit", "./model", "--request", "small.json", "--out", "x.safetensors"]
LOCALIZE = ["localize", "./model", "--request", "small.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*EDIT, "--components", "mlp.1", "--method", "stmp"], "did you mean 'stamp'"),
        ([*EDIT, "--components", "mpl.1"], "mpl"),
        ([*EDIT, "--components", "mlp.99"], "99"),
        ([*EDIT, "--components", "head.1.77"], "77"),
        ([*EDIT, "--components", " "], "component"),
        ([*EDIT, "--components", "mlp.1", "--auto"], "in one way"),
        (EDIT, "in one way"),
        ([*EDIT, "--components", "mlp.1", "--set", "weihgt=3"], "did you mean 'weight'"),
        ([*EDIT, "--components", "mlp.1", "--set", "weight=much"], "weight must be a number"),
        ([*EDIT, "--components", "mlp.1", "--set", "weight"], "key=value"),
        ([*EDIT, "--components", "mlp.1", "--set", "target=cuonterpart"], "counterpart"),
        ([*EDIT[:-1], "nowhere/x.safetensors", "--components", "mlp.1"], "Cannot write"),
        ([*EDIT[:-1], "facts.jsonl", "--components", "mlp.1"], "already exists"),
        ([*LOCALIZE, "--method", "causal_trace"], "did you mean 'causal_tracing'"),
        ([*LOCALIZE, "--relation", "sprot"], "did you mean 'sport'"),
        ([*LOCALIZE, "--metric", "probabilty"], "did you mean 'probability'"),
        ([*LOCALIZE, "--corruption", "nois"], "did you mean 'noise'"),
        ([*LOCALIZE, "--window", "0"], "window"),
        ([*LOCALIZE, "--facts", "facts.jsonl"], "either --facts FILE or --request NAME"),
        ([*LOCALIZE, "--method", "logit_lens", "--window", "2"], "window"),
        (["facts", "show", "athlets"], "did you mean 'athletes'"),
        (["models", "get", "smolm2"], "did you mean 'smollm2'"),
        (["measure", "demo", "--request", "athletes", "--delta", "no.safetensors"], "no delta"),
        (["measure", "./model", "--request", "small.json", "--limit", "0"], "limit"),
        (["runs", "show", "nothing"], "no run"),
        (["demo", "--out", "facts.jsonl"], "is a file"),
        (["demo", "--out", "model"], "already exists"),
        (["demo", "--out", "facts.jsonl/inside"], "Cannot write"),
        (["export", "./model", "--out", "model"], "already exists"),
        (["export", "./model", "--out", "x", "--lora"], "not edited"),
    ],
)
def test_options_that_are_wrong(work: Path, arguments: list[str], words: str) -> None:
    assert words in refused(work, arguments)


def test_an_empty_forget_set(work: Path) -> None:
    change_json(work / "small.json", forget=[])
    assert "forget set is empty" in refused(work, [*EDIT, "--components", "mlp.1"])


def test_a_fact_in_both_sets(work: Path) -> None:
    change_json(work / "small.json", retain=[{"file": "facts.jsonl"}])
    assert "both forget and retain" in refused(work, [*EDIT, "--components", "mlp.1"])


def test_usage_errors_exit_with_two_as_well(work: Path) -> None:
    result = CliRunner().invoke(app, ["edit", "./model", "--nonsense"])
    assert result.exit_code == 2 and "Traceback" not in result.output
