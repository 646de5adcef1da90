"""Runs are readable whatever happened to the process that wrote them."""

import json
import math
import os
import signal
import subprocess
import sys

import pandas as pd
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.progress import Cancelled
from workbench.store.store import RunStore, default_root


@pytest.fixture
def store(tmp_path) -> RunStore:
    return RunStore(tmp_path / "runs")


def test_a_finished_run_reads_back(store):
    table = pd.DataFrame({"layer": [0, 1], "effect": [math.pi, 1 / 3], "role": ["first", "last"]})
    delta = WeightDelta({"w": Dense(torch.randn(3, 4))}, Origin("stamp", components="mlp.1"))
    with store.start("edit", {"method": "stamp", "rank": None}, name="mine", seed=5) as run:
        assert store.get(run.id).status == "RUNNING"
        run.save_table("effects", table)
        run.save_json("summary", {"acc_f": 0.0})
        run.save_delta(delta)
        (run.path / "report.html").write_text("<p>")
    record = store.get(run.id)
    assert (record.status, record.kind, record.name, record.seed) == ("FINISHED", "edit", "mine", 5)
    assert record.config == {"method": "stamp", "rank": None} and record.versions["torch"]
    assert record.finished is not None and record.started < record.finished
    pd.testing.assert_frame_equal(record.table("effects"), table, check_exact=True)
    assert record.json("summary") == {"acc_f": 0.0}
    assert torch.equal(record.delta().updates["w"].dense(), delta.updates["w"].dense())
    assert record.artefacts == ("delta.safetensors", "effects.csv", "report.html", "summary.json")
    with pytest.raises(WorkbenchError, match=r"has no other\.csv; it has delta"):
        record.table("other")


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (WorkbenchError("The forget set is empty; add a fact."), "FAILED", "The forget set is"),
        (ZeroDivisionError("division by zero\nmore"), "FAILED", "ZeroDivisionError: division"),
        (SystemExit(3), "FAILED", "SystemExit: 3"),
        (KeyboardInterrupt(), "INTERRUPTED", "The user stopped it."),
        (Cancelled("edit: cancelled after 1 of 2 steps."), "INTERRUPTED", "edit: cancelled"),
    ],
)
def test_how_a_run_ends_is_recorded(store, error, status, sentence):
    with pytest.raises(type(error)), store.start("edit", {}) as run:
        raise error
    record = store.get(run.id)
    assert record.status == status and record.error is not None
    assert record.error.startswith(sentence) and "\n" not in record.error
    assert record.finished is not None


def test_a_killed_process_reads_as_interrupted(store):
    code = (
        "import sys, time; from pathlib import Path; from workbench.store.store import RunStore\n"
        f"with RunStore(Path({str(store.root)!r})).start('localize', {{}}) as run:\n"
        "    print(run.id, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        run_id = child.stdout.readline().strip()
        assert store.get(run_id).status == "RUNNING"
        with pytest.raises(WorkbenchError, match="still running"):
            store.delete(run_id)
        child.send_signal(signal.SIGKILL)
    record = store.get(run_id)
    assert record.status == "INTERRUPTED" and "without a word" in (record.error or "")
    store.delete(run_id)
    assert store.list() == []


def test_a_process_id_used_again_is_another_process(store):
    with store.start("edit", {}) as run:
        path = run.path / "run.json"
        record = json.loads(path.read_text())
        assert record["owner"]["pid"] == os.getpid()
        record["owner"]["process_start"] -= 1
        path.write_text(json.dumps(record))
        assert store.get(run.id).status == "INTERRUPTED"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Expecting value"),
        ('{"schema": 1, "status": "FINI', "Unterminated"),
        ("[1, 2]", "not a JSON object"),
        ('{"schema": 99}', "schema version is 99, this workbench reads 1"),
        ('{"schema": 1}', "status"),
        ('{"schema": 1, "status": "DREAMING"}', "DREAMING"),
        ('{"schema": 1, "status": "RUNNING", "owner": 3}', "int"),
        (b"\xff\xfe\x00", "decode"),
    ],
)
def test_broken_records_are_listed_with_the_reason(store, content, reason):
    with store.start("measure", {}) as good:
        pass
    with store.start("measure", {}) as bad:
        pass
    data = content if isinstance(content, bytes) else content.encode()
    (bad.path / "run.json").write_bytes(data)
    records = {r.id: r for r in store.list()}
    assert records[good.id].status == "FINISHED"
    assert records[bad.id].status == "BROKEN" and reason in (records[bad.id].error or "")
    store.delete(bad.id)
    assert [r.id for r in store.list()] == [good.id]


def test_no_record_at_all_is_broken_too(store):
    (store.root / "20260101-000000-empty").mkdir(parents=True)
    assert [r.status for r in store.list()] == ["BROKEN"]


def test_listing_is_in_order_of_time(store):
    ids = []
    for kind in ("zeta", "alpha", "mid"):
        with store.start(kind, {}) as run:
            ids.append(run.id)
    assert [r.id for r in store.list()] == ids


def test_processes_write_at_the_same_time(store):
    code = (
        "from pathlib import Path; from workbench.store.store import RunStore\n"
        f"store = RunStore(Path({str(store.root)!r}))\n"
        "for i in range(20):\n"
        "    with store.start('edit', {'i': i}) as run: run.save_json('x', i)\n"
        "    assert all(r.status in ('RUNNING', 'FINISHED') for r in store.list())\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [child.wait() for child in children] == [0, 0]
    records = store.list()
    assert len(records) == 40 and {r.status for r in records} == {"FINISHED"}
    assert sorted(r.json("x") for r in records) == sorted([*range(20), *range(20)])


def test_mistakes(store, tmp_path):
    assert store.list() == []
    with pytest.raises(WorkbenchError, match="There is no run"):
        store.get("nothing")
    for bad in ("../etc", "", "a/b", ".hidden"):
        with pytest.raises(WorkbenchError, match="is not a name"):
            store.delete(bad)
    with (
        pytest.raises(WorkbenchError, match="plain JSON types"),
        store.start("edit", {"x": object()}),
    ):
        pass
    assert list(store.root.iterdir()) == []
    (tmp_path / "file").touch()
    with (
        pytest.raises(WorkbenchError, match="Cannot write"),
        RunStore(tmp_path / "file/runs").start("edit", {}),
    ):
        pass
    with store.start("edit", {}) as run:
        with pytest.raises(WorkbenchError, match="is not a name"):
            run.save_json("../x", 1)
        with pytest.raises(WorkbenchError, match="record's own"):
            run.save_json("run", 1)


def test_where_runs_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("WORKBENCH_RUNS", raising=False)
    assert default_root() == tmp_path / "runs"
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "mine"))
    assert RunStore.default().root == tmp_path / "mine"
