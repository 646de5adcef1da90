"""`workbench circuit` writes a run and a file, and says what is wrong in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_cli import run, run_json
from tiny_files import request_file, tiny_folder

from workbench.localize.circuit_graph import Circuit


@pytest.fixture(autouse=True)
def _own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "runs"))


def test_circuit_writes_a_run_and_a_file(tmp_path: Path) -> None:
    request, out = request_file(tmp_path), tmp_path / "circuit.json"
    arguments = ["circuit", tiny_folder(), "--request", request, "--corruption", "noise"]
    arguments += ["--samples", 2, "--steps", 1, "--edges", 60, "--seed", 3]
    found = run_json(*arguments, "--out", out)
    kept = Circuit.load(out)
    assert found["n_facts"] == 2 and found["config"]["corruption"]["seed"] == 3
    assert 0 < len(kept.edges) == len(found["edges"]) <= 60 < found["whole"] == 118
    assert kept.nodes == tuple(found["nodes"])
    assert found["faithfulness"]["kept"] == len(kept.edges)
    shown = run_json("runs", "show", found["run"])
    assert shown["kind"] == "circuit"
    assert {"edges.csv", "faithfulness.csv", "circuit.json"} <= set(shown["artefacts"])
    again = run_json(*arguments)
    assert again["edges"] == found["edges"] and again["faithfulness"] == found["faithfulness"]


def test_circuit_for_people_and_its_mistakes(tmp_path: Path) -> None:
    request, out = request_file(tmp_path), tmp_path / "circuit.json"
    arguments = ["circuit", tiny_folder(), "--request", request, "--corruption", "noise"]
    few = run(*arguments, "--steps", 1, "--no-heads", "--edges", 1)
    assert few.exit_code == 0 and "of 28 edges" in few.output and "keep more" in few.output
    assert "Example: workbench circuit" in " ".join(run("circuit", "--help").output.split())
    out.write_text("mine")
    for more, message in (
        (["--out", out], "already exists"),
        (["--relation", "sprot"], "did you mean 'sport'"),
        (["--metric", "probabilty"], "did you mean 'probability'"),
        (["--facts", request], "either --facts FILE or --request"),
    ):
        wrong = run(*arguments, *more)
        assert wrong.exit_code == 2 and message in wrong.output.replace("\n", " "), wrong.output
    assert out.read_text() == "mine"
