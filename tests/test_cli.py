"""The command line: light, documented, for people and machines, and never half-done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_files import known_facts, request_file, tiny_folder, write_lines
from typer.testing import CliRunner, Result

from workbench.cli import app
from workbench.cli.console import Bar, bar_line
from workbench.models.delta import WeightDelta

COMMANDS = (
    *(["demo"], ["localize"], ["edit"], ["measure"], ["export"]),
    *(["models", c] for c in ("list", "get", "show")),
    *(["facts", c] for c in ("list", "show", "check")),
    *(["runs", c] for c in ("list", "show", "delete")),
    *(["repair", c] for c in ("list", "explain", "undo", "bisect", "export")),
    *(["watchdog", c] for c in ("read", "train", "test")),
)
SMALL = ["counterparts=3", "confusable=20", "context=4", "generations=2"]


@pytest.fixture(autouse=True)
def _own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "runs"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def run_json(*arguments: object) -> dict:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return json.loads(result.stdout)


def edited(tmp_path: Path, *more: str) -> Path:
    request = request_file(tmp_path)
    delta = tmp_path / "edit.safetensors"
    settings = [x for s in SMALL for x in ("--set", s)]
    done = run("edit", tiny_folder(), "--request", request, "--out", delta, *settings, *more)
    assert done.exit_code == 0, done.output
    return delta


def test_importing_the_command_line_is_light() -> None:
    heavy = ("torch", "transformers", "transformer_lens", "pandas", "numpy", "plotly")
    code = f"import sys, workbench.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_an_example(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    words = " ".join(result.output.split())
    assert f"Example: workbench {' '.join(command)}" in words


def test_localize_writes_a_run_and_a_folder(tmp_path: Path) -> None:
    request, out = request_file(tmp_path), tmp_path / "where"
    arguments = ("localize", tiny_folder(), "--request", request, "--samples", 2, "--seed", 3)
    found = run_json(*arguments, "--out", out)
    assert {p.name for p in out.iterdir()} == {
        *("localization.json", "table.csv", "trace.svg", "trace.html")
    }
    assert found["facts"] == 2 and found["ranking"]
    assert found["config"]["corruption"]["seed"] == 3
    assert found["table"] == run_json(*arguments)["table"]
    (first, second) = run_json("runs", "list")
    assert first["status"] == second["status"] == "FINISHED"
    shown = run_json("runs", "show", found["run"])
    assert shown["kind"] == "localize" and "table.csv" in shown["artefacts"]
    run_json("runs", "delete", found["run"])
    assert [r["id"] for r in run_json("runs", "list")] == [second["id"]]


def test_edit_measure_and_export_by_hand(tmp_path: Path) -> None:
    delta = edited(tmp_path, "--subject", "mlp.0-1", "--answer", "attn.2", "--set", "rank=4")
    request = tmp_path / "small.json"
    card = run_json("measure", tiny_folder(), "--request", request, "--delta", delta, "--limit", 1)
    assert card["scores"]["acc_f"]["n"] == 2
    assert card["verdict"] in ("changed", "failed: no-op")
    made = run_json("export", tiny_folder(), "--delta", delta, "--lora", "--out", tmp_path / "x")
    assert made["formats"] == ["checkpoint", "delta", "lora"]
    assert made["max_logit_difference"] <= 1e-4
    assert [r["kind"] for r in run_json("runs", "list")] == ["edit", "measure"]


def test_equal_seeds_give_equal_edits(tmp_path: Path) -> None:
    first = edited(tmp_path, "--components", "mlp.1", "--seed", "5").read_bytes()
    again = edited(tmp_path, "--components", "mlp.1", "--seed", "5", "--overwrite").read_bytes()
    assert first == again


def test_auto_chooses_components(tmp_path: Path) -> None:
    request, out = request_file(tmp_path), tmp_path / "e.safetensors"
    arguments = ["edit", tiny_folder(), "--request", request, "--auto", "--out", out]
    made = run_json(*arguments, *(x for s in SMALL for x in ("--set", s)))
    assert "mlp." in made["components"] and out.is_file()


def test_auto_takes_the_settings_that_go_with_the_request_and_leaves_those_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suggested = {"weight": 2.0, "counterparts": 2}
    monkeypatch.setattr("workbench.plans.edit.suggested_settings", lambda *_, **__: suggested)
    request = request_file(tmp_path)
    for n, (how, weight) in enumerate(((("--auto",), 2.0), (("--components", "mlp.1"), 30.0))):
        out = tmp_path / f"{n}.safetensors"
        arguments = ["edit", tiny_folder(), "--request", request, *how, "--out", out]
        run_json(*arguments, *(x for s in SMALL for x in ("--set", s)))
        config = WeightDelta.load(out).origin.config
        assert (config["weight"], config["counterparts"]) == (weight, 3)


def test_a_delta_of_another_model_is_refused(tmp_path: Path) -> None:
    from conftest import make_model

    delta = edited(tmp_path, "--components", "mlp.1")
    other = make_model("qwen2", seed=1)
    other.hf.save_pretrained(tmp_path / "other")
    other.tokenizer.save_pretrained(tmp_path / "other")
    result = run("export", tmp_path / "other", "--delta", delta, "--out", tmp_path / "x")
    assert result.exit_code == 2 and "made for another model" in result.stderr
    assert not (tmp_path / "x").exists()


def test_facts_check_counts_what_the_model_knows(tmp_path: Path) -> None:
    facts = known_facts()
    path = write_lines(tmp_path / "facts.jsonl", facts)
    found = run_json("facts", "check", path, "--model", tiny_folder())
    assert found["facts"] == found["known"] == len(facts) and found["unknown"] == []


def test_bundled_requests_are_listed_and_shown() -> None:
    names = [r["name"] for r in run_json("facts", "list")]
    assert {"athletes", "personal", "misinformation", "hazard"} <= set(names)
    assert len(run_json("facts", "show", "athletes-1")["forget"]) == 4


def test_models_show(tmp_path: Path) -> None:
    found = run_json("models", "show", tiny_folder())
    assert found["layers"] == 3 and found["heads"] == 4
    assert {m["name"] for m in run_json("models", "list")} == {
        "demo",
        "demo-oracle",
        "demo-vision",
        "demo-vision-oracle",
        "smollm2",
    }


def test_the_whole_demo_on_a_folder(tmp_path: Path) -> None:
    request, out = request_file(tmp_path), tmp_path / "demo"
    arguments = ("demo", "--model", tiny_folder(), "--request", request, "--out", out)
    summary = run_json(*arguments)
    assert summary == json.loads((out / "summary.json").read_text())
    refused = run(*arguments)
    assert refused.exit_code == 2 and "already exists" in refused.stderr
    before = (out / "report.html").stat().st_mtime_ns
    assert run(*arguments, "--overwrite").exit_code == 0
    assert (out / "report.html").stat().st_mtime_ns > before


def test_ctrl_c_exits_130_and_leaves_nothing(tmp_path: Path) -> None:
    request, out = request_file(tmp_path), tmp_path / "demo"
    # Started by a job that ignores the signal, the process would ignore it too.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from workbench.cli import main; main()"
    )
    arguments = ["demo", "--model", tiny_folder(), "--request", request, "--out", out]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "WORKBENCH_RUNS": str(tmp_path / "runs")},
    )
    runs = tmp_path / "runs"
    while process.poll() is None and not (runs.is_dir() and list(runs.glob("*/run.json"))):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert output == "" and "Traceback" not in errors and "Stopped" in errors
    assert not out.exists() and not list(tmp_path.glob(".*"))
    (record,) = run_json("runs", "list")
    assert record["status"] == "INTERRUPTED"


def test_a_ctrl_c_that_python_drops_stops_at_the_next_step() -> None:
    code = """
import os, signal, weakref
from workbench.cli.console import heed_interrupts, progress_bar
from workbench.progress import Cancelled

class Held: pass

def let_go(_):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000): pass

signal.signal(signal.SIGINT, signal.default_int_handler)
heed_interrupts()
held = Held()
reference = weakref.ref(held, let_go)
del held
print("went on")
with progress_bar(as_json=True) as progress:
    try:
        list(progress.track(range(3), "steps"))
    except Cancelled:
        print("stopped")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["went on", "stopped"], done.stderr


def test_the_bar_says_how_much_time_is_left() -> None:
    assert bar_line(10, 40, "tracing", 5.0).endswith("10/40, 0:15 left")
    assert bar_line(1, 100, "tracing", 2.0).endswith("1/100, 3:18 left")
    assert "left" not in bar_line(0, 40, "tracing", 5.0)
    assert "left" not in bar_line(40, 40, "tracing", 5.0)
    assert bar_line(20, 40, "x", 1.0).count("#") == 12


def test_the_bar_redraws_one_line_and_clears_it() -> None:
    import io

    stream = io.StringIO()
    bar = Bar(stream)
    for i in range(4):
        bar.report(i, 3, "work")
    bar.clear()
    assert "\n" not in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K") and "3/3" in stream.getvalue()
