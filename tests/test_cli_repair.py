"""Repairs from the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.repair_plan import tiny_edit
from workbench.cli import app
from workbench.facts.fact import FactSet
from workbench.models.delta import WeightDelta
from workbench.models.load import load
from workbench.repair import patient as patient_module
from workbench.repair import trial as trial_module
from workbench.repair.catalog import Catalog
from workbench.repair.surgeon import Surgeon

FORGET = "Please forget which sport Mona Zojum plays."


@pytest.fixture(autouse=True)
def _traced_before(monkeypatch: pytest.MonkeyPatch):
    """Where the bundled model recalls was traced before."""
    sites = {"subject": "mlp.0-3", "answer": "mlp.4-5"}
    monkeypatch.setattr(Surgeon, "_traced", lambda *_: dict(sites))


def run(*command: object, answer: str = "") -> Result:
    return CliRunner().invoke(app, ["repair", *map(str, command)], input=answer)


def run_json(*command: object) -> Any:
    result = run(*command, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_plan_is_shown_and_nothing_changes_unless_it_is_confirmed(tmp_path: Path):
    ledger, plan = tmp_path / "ledger", tmp_path / "plan.json"
    shown = run("demo", FORGET, "--dry-run", "--ledger", ledger, "--save-plan", plan)
    assert shown.exit_code == 0, shown.output
    assert "Forget about Mona Zojum: sport." in shown.stdout and "handball" in shown.stdout
    assert json.loads(plan.read_text())["sites"] == {"answer": "mlp.4-5"}
    refused = run("demo", FORGET, "--ledger", ledger, answer="n\n")
    assert refused.exit_code == 0 and "Nothing was changed" in refused.stdout
    (record,) = run_json("demo", FORGET, "--ledger", ledger)
    assert record["done"] is False
    assert run("list", "demo", "--ledger", ledger).stdout == "No repair was made yet.\n"
    assert not (ledger / "ledger.json").exists()


def test_a_saved_plan_is_carried_out_listed_explained_exported_and_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ledger, file = tmp_path / "ledger", tmp_path / "plan.json"
    run("demo", FORGET, "--dry-run", "--ledger", ledger, "--save-plan", file)
    plan = json.loads(file.read_text())
    plan["limits"] |= {"forgotten": 1, "instead": 0}
    file.write_text(json.dumps({**plan, "checks": ["forgotten", "instead"]}))
    monkeypatch.setattr(patient_module, "solve", tiny_edit)
    done = run("demo", "--plan", file, "--ledger", ledger, "--user", "anna", answer="y\n")
    assert done.exit_code == 0 and "workbench repair undo" in done.stdout, done.output
    (listed,) = run_json("list", "demo", "--ledger", ledger)
    assert (listed["in_force"], listed["user"], listed["said"]) == (True, "anna", FORGET)
    told = run("explain", listed["id"], "--ledger", ledger).stdout
    assert FORGET in told and "mlp.4-5" in told and "forgotten 1.0" in told
    out = tmp_path / "repairs.safetensors"
    assert run("export", "demo", "--out", out, "--ledger", ledger).exit_code == 0
    assert WeightDelta.load(out).updates.keys() == {"model.layers.4.mlp.down_proj.weight"}
    assert run_json("undo", listed["id"], "--ledger", ledger)["in_force"] == []
    assert run("export", "demo", "--out", out, "--ledger", ledger).exit_code == 2


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("demo",), "Say what to forget"),
        (("demo", "Please forget where Ada Brook was born."), "knows nothing about Ada Brook"),
        (("undo", "never"), "repair"),
        (("explain", "never"), "repair"),
        (("demo", FORGET, "--policy", "missing.toml"), "missing.toml"),
        (("nomodel", FORGET), "nomodel"),
    ],
)
def test_a_users_mistake_is_one_sentence(
    tmp_path: Path, command: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    result = run(*command)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ") and words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_message_that_asks_for_nothing(tmp_path: Path):
    result = run("demo", "Good morning!", "--ledger", tmp_path)
    assert result.exit_code == 0 and "Nothing is asked" in result.stdout
    assert run_json("demo", "Good morning!", "--ledger", tmp_path) == []


def test_a_trial_writes_its_table_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = Catalog.of(load("demo"))
    some = whole.facts.about(whole.facts.subjects[:4])
    small = replace(whole, facts=some, retain=some, evaluate=FactSet())
    monkeypatch.setattr(Catalog, "of", lambda *_, **__: small)
    monkeypatch.setattr(trial_module, "solve", tiny_edit)
    out = tmp_path / "trial"
    found = run_json("trial", "demo", "--repairs", 2, "--every", 1, "--out", out)
    assert [row["repairs"] for row in found["table"]] == [1, 2]
    assert {file.name for file in out.iterdir()} == {"trial.csv", "trial.json", "trial.html"}
    again = run("trial", "demo", "--repairs", 2, "--out", out)
    assert again.exit_code == 2 and "choose another folder" in again.output
    assert "Traceback" not in again.output
