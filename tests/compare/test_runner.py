"""A study is run once, cell by cell: what is done stays, what failed is tried again."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
import pytest

from tests.compare.faked import Faked, statuses
from tests.compare.small import METHOD, ROUNDING, small_study
from workbench.compare import runner
from workbench.compare.cell import CellName
from workbench.compare.runner import Task, run_study
from workbench.compare.study import Study
from workbench.compare.table import gather
from workbench.errors import WorkbenchError
from workbench.progress import Cancelled, Progress
from workbench.store.store import RunStore

pytestmark = pytest.mark.usefixtures("quick")


def test_a_study_runs_and_is_not_run_again(
    tmp_path: Path, folder: Path, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study(tmp_path)
    reports: list[tuple[int, int, str]] = []
    progress = Progress(report=lambda *state: reports.append(state))
    tasks = run_study(study, folder=folder, store=store, progress=progress)
    assert set(statuses(tasks).values()) == {"done"} and len(tasks) == 6
    assert reports[0] == (0, 6, "study small") and reports[-1] == (6, 6, "study small")
    assert len(store.list()) == 2  # each edit is a run
    for task in tasks:
        found = task.result()
        assert found is not None and found["seconds"] > 0 and found["kind"].startswith(study.model)
    result = gather(study, tasks)
    base = result.cells[result.cells["method"] == "base"].iloc[0]
    assert base["acc_f"] == 1.0
    edits = result.cells[result.cells["method"] == "stamp"]
    assert (edits["acc_f"] < 1).all() and edits["recovered"].notna().all()
    files = {p: p.stat().st_mtime_ns for p in folder.iterdir()}

    def no(*_: object) -> None:
        raise AssertionError("done twice")

    monkeypatch.setattr(runner, "run_cell", no)
    monkeypatch.setattr(runner, "run_attack", no)
    again = run_study(study, folder=folder, store=store)
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == files
    pd.testing.assert_frame_equal(gather(study, again).cells, result.cells)


def test_a_failed_cell_is_tried_again(
    tmp_path: Path, folder: Path, store: RunStore, faked: Faked
) -> None:
    study = small_study(tmp_path)
    faked.failing = ("stamp at mlp.0, seed 0",)
    tasks = run_study(study, folder=folder, store=store)
    assert statuses(tasks) == {
        "base": "done",
        "0 on base": "done",
        "stamp at mlp.0, seed 0": "failed",
        "0 on stamp at mlp.0, seed 0": "failed",
        "stamp at random, seed 0": "done",
        "0 on stamp at random, seed 0": "done",
    }
    errors = [(task.result() or {}).get("error") for task in tasks[2:4]]
    assert errors == [
        "No luck with stamp at mlp.0, seed 0.",
        "There is no edit to attack: No luck with stamp at mlp.0, seed 0.",
    ]
    faked.again()
    faked.failing = ()
    tasks = run_study(study, folder=folder, store=store)
    assert set(statuses(tasks).values()) == {"done"}
    assert faked.again() == ["stamp at mlp.0, seed 0", "quantization on stamp at mlp.0, seed 0"]


def test_a_fault_of_the_program_ends_its_cell_alone(
    tmp_path: Path, folder: Path, store: RunStore, faked: Faked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(study: Study, name: CellName, store: RunStore, progress: Progress) -> dict:
        if name.place == "mlp.0":
            raise KeyError("a fault")
        return faked.cell(study, name, store, progress)

    monkeypatch.setattr(runner, "run_cell", broken)
    tasks = run_study(small_study(tmp_path), folder=folder, store=store)
    assert list(statuses(tasks).values()).count("failed") == 2
    assert (tasks[2].result() or {})["error"] == "KeyError: 'a fault'"


def test_another_attack_leaves_the_edits_as_they_are(
    tmp_path: Path, folder: Path, store: RunStore, faked: Faked
) -> None:
    run_study(small_study(tmp_path), folder=folder, store=store)
    faked.again()
    more = small_study(tmp_path, attack=[{"attack": "pruning"}, ROUNDING])
    run_study(more, folder=folder, store=store)
    edits = ("stamp at mlp.0, seed 0", "stamp at random, seed 0")
    assert faked.again() == [f"pruning on {name}" for name in ("base", *edits)]


def test_two_studies_share_their_equal_cells(
    tmp_path: Path, folder: Path, store: RunStore, faked: Faked
) -> None:
    first = run_study(small_study(tmp_path), folder=folder, store=store)
    faked.again()
    places = [{**METHOD, "name": "ours", "places": ["mlp.1", "mlp.0"]}]
    second = run_study(
        small_study(tmp_path, name="another", method=places), folder=folder, store=store
    )
    assert faked.again() == ["ours at mlp.1, seed 0", "quantization on ours at mlp.1, seed 0"]
    shared = {t.file for t in first} & {t.file for t in second}
    assert len(shared) == 4 and len(list(folder.iterdir())) == 8


def test_one_edit_under_two_names_is_made_once(
    tmp_path: Path, folder: Path, store: RunStore, faked: Faked
) -> None:
    twice = [{"method": "stamp", "name": name, "places": ["mlp.0"]} for name in ("a", "b")]
    study = small_study(tmp_path, method=twice)
    tasks = run_study(study, folder=folder, store=store)
    assert set(statuses(tasks).values()) == {"done"}
    assert len(faked.again()) == 4
    assert gather(study, tasks).cells["acc_f"].tolist() == [1.0, 0.1, 0.1]


def test_an_edit_whose_run_was_deleted_is_made_again_to_be_attacked(
    tmp_path: Path, folder: Path, store: RunStore, faked: Faked
) -> None:
    study = small_study(tmp_path)
    tasks = run_study(study, folder=folder, store=store)
    store.delete((tasks[2].result() or {})["run"])
    faked.again()
    run_study(study, folder=folder, store=store)
    assert faked.again() == []  # all numbers are there; nobody needs the edit
    more = small_study(tmp_path, attack=[ROUNDING, {"attack": "pruning"}])
    tasks = run_study(more, folder=folder, store=store)
    assert set(statuses(tasks).values()) == {"done"}
    edit = "stamp at mlp.0, seed 0"
    assert faked.again() == [
        *("pruning on base", edit, f"pruning on {edit}", "pruning on stamp at random, seed 0")
    ]


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_cancelled_study_keeps_what_is_finished(
    at: int, within: bool, tmp_path: Path, folder: Path, store: RunStore, faked: Faked
) -> None:
    """It stops between two tasks or within one, which then is missing and did not fail."""
    study = small_study(tmp_path)
    asked = itertools.count()  # once between two tasks, once within each
    stop = Progress(cancelled=lambda: next(asked) >= 2 * at + within)
    with pytest.raises(Cancelled):
        run_study(study, folder=folder, store=store, progress=stop)
    found = statuses(runner.tasks_of(study, folder))
    assert list(found.values()) == ["done"] * at + ["missing"] * (6 - at)
    run_study(study, folder=folder, store=store)
    assert len(faked.done) == len(set(faked.done)) == 6


@pytest.mark.parametrize("workers", [0, -1])
def test_no_worker_is_a_sentence(tmp_path: Path, workers: int) -> None:
    with pytest.raises(WorkbenchError, match="at least one worker"):
        run_study(small_study(tmp_path), workers=workers)


def test_a_folder_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, folder: Path, store: RunStore, faked: Faked
) -> None:
    study = small_study(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorkbenchError, match="Cannot write"):
        run_study(study, folder=tmp_path / "file" / "cells", store=store)
    folder.mkdir()
    (task, *_) = runner.tasks_of(study, folder)
    gone = Task(task.name, None, tmp_path / "file" / "x.json")
    with pytest.raises(WorkbenchError, match="Cannot write"):
        runner.do(study.model_dump_json(), gone, str(store.root))
