"""A study is run once, cell by cell: what is done stays, what failed is tried again."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from tests.compare.small import METHOD, ROUNDING, STAMP, attacked, edited, load, scored, small_study
from workbench.compare import bench, pools, runner
from workbench.compare.cell import CellName
from workbench.compare.runner import Task, run_study
from workbench.compare.study import Study
from workbench.compare.table import gather
from workbench.errors import WorkbenchError
from workbench.models.atomic import process_start
from workbench.progress import Cancelled, Progress
from workbench.store.store import RunStore

PLACES = ["mlp.0", "mlp.1", "mlp.2", "random"]
MANY = [{"method": "stamp", "places": PLACES}]
KILLED = "The worker was killed, perhaps for want of memory; use fewer workers."


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "load", load)
    monkeypatch.setattr(bench, "neutral_texts", lambda model, request: ("One text.",))


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cells"


class Faked:
    """Stands for the work of a study; keeps what was done, and fails where it is told to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failing: tuple[str, ...] = ()

    def cell(self, study: Study, name: CellName, store: RunStore, progress: Progress) -> dict:
        progress.step(0, 1, "in a cell")
        self.done.append(str(name))
        if str(name) in self.failing:
            raise WorkbenchError(f"No luck with {name}.")
        if not name.place:
            return scored(acc_f=1.0)
        with store.start("edit", {}) as run:
            return edited(run.id, acc_f=0.1)

    def attack(
        self,
        study: Study,
        name: CellName,
        attack: int,
        run: str,
        store: RunStore,
        progress: Progress,
    ) -> dict:
        progress.step(0, 1, "in an attack")
        if run:
            store.get(run)
        self.done.append(f"{study.attack[attack].attack} on {name}")
        return attacked([{"bits": 8}], study.attack[attack].attack)

    def again(self) -> list[str]:
        """Return what was done since the last call."""
        done, self.done = self.done, []
        return done


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Faked:
    made = Faked()
    monkeypatch.setattr(runner, "run_cell", made.cell)
    monkeypatch.setattr(runner, "run_attack", made.attack)
    return made


def statuses(tasks: list[Task]) -> dict[str, str]:
    out = {}
    for task in tasks:
        found = task.result()
        name = f"{task.attack} on {task.name}" if task.attack is not None else str(task.name)
        out[name] = "missing" if found is None else found["status"]
    return out


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


class Threads:
    """A pool of threads that keeps how many tasks are with it at a time."""

    def __init__(self) -> None:
        self.most = self.now = 0

    def __enter__(self) -> Callable[[], Any]:
        self.pool = ThreadPoolExecutor(8)
        return lambda: self.submit

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def submit(self, run: Callable[..., None], *given: Any) -> Future[None]:
        self.now += 1
        self.most = max(self.most, self.now)
        future = self.pool.submit(run, *given)
        future.add_done_callback(lambda _: setattr(self, "now", self.now - 1))
        return future


def test_attacks_wait_for_their_cells(
    tmp_path: Path,
    folder: Path,
    store: RunStore,
    faked: Faked,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = Threads()
    monkeypatch.setattr(runner, "processes", lambda workers: threads)
    study = small_study(tmp_path, method=MANY, attack=[ROUNDING, {"attack": "pruning"}])
    reports: list[tuple[int, int, str]] = []
    progress = Progress(report=lambda *state: reports.append(state))
    tasks = run_study(study, workers=3, folder=folder, store=store, progress=progress)
    done = faked.again()
    assert set(statuses(tasks).values()) == {"done"} and sorted(done) == sorted(set(done))
    assert len(done) == 15
    for name in {str(t.name) for t in tasks}:
        first = done.index(name)
        assert all(done.index(f"{a} on {name}") > first for a in ("quantization", "pruning"))
    assert 1 < threads.most <= 3
    counts = [n for n, _, _ in reports]
    assert counts == sorted(counts) and reports[-1] == (15, 15, "study small")
    assert run_study(study, workers=3, folder=folder, store=store) and faked.again() == []


def test_a_fault_of_a_worker_ends_its_task_alone(
    tmp_path: Path, folder: Path, store: RunStore, faked: Faked, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = runner.do

    def broken(study: str, task: Task, store: str) -> None:
        if task.name.place == "mlp.1" and task.attack is None:
            raise RuntimeError("no pipe\nto the worker")
        own(study, task, store)

    monkeypatch.setattr(runner, "processes", lambda workers: Threads())
    monkeypatch.setattr(runner, "do", broken)
    study = small_study(tmp_path, method=MANY)
    tasks = run_study(study, workers=2, folder=folder, store=store)
    failed = {str(t.name) for t in tasks if not t.done}
    assert failed == {"stamp at mlp.1, seed 0"}
    errors = {(t.result() or {}).get("error") for t in tasks if not t.done}
    assert errors == {
        "RuntimeError: no pipe",
        "There is no edit to attack: RuntimeError: no pipe",
    }


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let workers be copies of this process, with what a test has put into it."""
    monkeypatch.setattr(pools, "get_context", lambda _: get_context("fork"))
    monkeypatch.setattr(pools, "_begin", int)  # torch is not to be touched in a copy
    yield


def killing(faked: Faked, log: Path, times: dict[str, int]) -> Callable[..., dict]:
    """Return work that kills its worker the first few times."""

    def cell(study: Study, name: CellName, store: RunStore, progress: Progress) -> dict:
        with log.open("a") as file:
            file.write(f"{name}\n")
        if log.read_text().split("\n").count(str(name)) <= times.get(name.place, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        return faked.cell(study, name, store, progress)

    return cell


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("workers", [2, 4])
def test_a_cell_that_kills_its_worker_fails_with_a_sentence_and_the_others_finish(
    workers: int,
    tmp_path: Path,
    folder: Path,
    store: RunStore,
    faked: Faked,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = tmp_path / "log"
    always = {"mlp.0": 99, "mlp.2": 99}
    monkeypatch.setattr(runner, "run_cell", killing(faked, log, always))
    study = small_study(tmp_path, method=MANY)
    tasks = run_study(study, workers=workers, folder=folder, store=store)
    found = statuses(tasks)
    for place in PLACES:
        name = f"stamp at {place}, seed 0"
        wanted = "failed" if place in always else "done"
        assert (found[name], found[f"0 on {name}"]) == (wanted, wanted)
    assert found["base"] == found["0 on base"] == "done"
    errors = {(t.result() or {}).get("error") for t in tasks if t.name.place == "mlp.0"}
    assert errors == {KILLED, f"There is no edit to attack: {KILLED}"}
    begun = log.read_text().split("\n")
    assert [begun.count(f"stamp at {place}, seed 0") for place in always] == [2, 2]
    # The next run tries them again, and only them.
    monkeypatch.setattr(runner, "run_cell", killing(faked, log, {}))
    log.unlink()
    tasks = run_study(study, workers=workers, folder=folder, store=store)
    assert set(statuses(tasks).values()) == {"done"}
    assert sorted(log.read_text().split("\n")[:-1]) == [
        *("stamp at mlp.0, seed 0", "stamp at mlp.2, seed 0")
    ]


@pytest.mark.usefixtures("forked")
def test_a_worker_that_was_killed_once_is_forgiven(
    tmp_path: Path,
    folder: Path,
    store: RunStore,
    faked: Faked,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = tmp_path / "log"
    monkeypatch.setattr(runner, "run_cell", killing(faked, log, {"mlp.1": 1}))
    study = small_study(tmp_path, method=MANY)
    tasks = run_study(study, workers=2, folder=folder, store=store)
    assert set(statuses(tasks).values()) == {"done"}
    assert log.read_text().split("\n").count("stamp at mlp.1, seed 0") == 2


@pytest.mark.usefixtures("forked")
def test_cancelling_ends_the_workers(
    tmp_path: Path,
    folder: Path,
    store: RunStore,
    faked: Faked,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other worker sleeps for an hour; the study stops at once, and its process is gone."""
    log = tmp_path / "log"

    def cell(study: Study, name: CellName, store: RunStore, progress: Progress) -> dict:
        if name.place:
            log.write_text(str(os.getpid()))
            signal.pause()
        return faked.cell(study, name, store, progress)

    monkeypatch.setattr(runner, "run_cell", cell)
    study = small_study(tmp_path, attack=[])
    (base, *_) = runner.tasks_of(study, folder)
    stop = Progress(cancelled=lambda: log.is_file() and log.read_text() != "" and base.done)
    with pytest.raises(Cancelled):
        run_study(study, workers=2, folder=folder, store=store, progress=stop)
    assert list(statuses(runner.tasks_of(study, folder)).values()) == ["done", "missing", "missing"]
    pid = int(log.read_text())
    for _ in range(200):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX":
            break
        time.sleep(0.02)
    else:
        raise AssertionError("the worker is still there")


def test_without_ray_a_sentence_says_so(
    tmp_path: Path,
    folder: Path,
    store: RunStore,
    faked: Faked,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkbenchError, match="Ray is not installed; install the extra"):
        run_study(small_study(tmp_path), ray=True, folder=folder, store=store)
    assert faked.again() == []


class Ray(ModuleType):
    """What a study uses of Ray, on threads."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.calls: list[Any] = []
        self.pool = ThreadPoolExecutor(4)

    def init(self, **given: Any) -> None:
        self.calls.append(("init", given))

    def shutdown(self) -> None:
        self.calls.append("shutdown")

    def remote(self, **given: Any) -> Callable[[Callable[..., Any]], Any]:
        def wrapped(run: Callable[..., Any]) -> Any:
            self.calls.append(("remote", run, given))
            return RemoteFunction(self.pool, run)

        return wrapped


class RemoteFunction:
    def __init__(self, pool: ThreadPoolExecutor, run: Callable[..., Any]) -> None:
        self.pool, self.run = pool, run

    def remote(self, *given: Any) -> Any:
        """Return what has a `future`, as Ray's object references do."""
        made = self.pool.submit(self.run, *given)
        return type("ObjectRef", (), {"future": lambda _: made})()


def test_a_ray_cluster_does_every_task(
    tmp_path: Path,
    folder: Path,
    store: RunStore,
    faked: Faked,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = Ray()
    monkeypatch.setitem(sys.modules, "ray", ray)
    faked.failing = ("stamp at mlp.2, seed 0",)
    study = small_study(tmp_path, method=MANY)
    tasks = run_study(study, ray=True, folder=folder, store=store)
    assert len(faked.again()) == 9  # five cells, and attacks on all but the one that failed
    failed = [t for t in tasks if not t.done]
    assert {str(t.name) for t in failed} == {"stamp at mlp.2, seed 0"} and len(failed) == 2
    names = [call if isinstance(call, str) else call[0] for call in ray.calls]
    assert names == ["init", "remote", "shutdown"]  # the work is sent to the cluster once
    assert ray.calls[1][1:] == (runner.do, {"num_cpus": 1, "max_retries": 0})


def test_the_cluster_is_left_after_a_fault(
    tmp_path: Path, folder: Path, store: RunStore, faked: Faked, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = Ray()
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(Cancelled):
        run_study(
            small_study(tmp_path),
            ray=True,
            folder=folder,
            store=store,
            progress=Progress(cancelled=lambda: True),
        )
    assert ray.calls[-1] == "shutdown"


def test_two_workers_give_the_tables_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In processes of their own, which take their models and facts from disk."""
    monkeypatch.undo()
    places = [{**METHOD, "places": ["mlp.0", "random"], "settings": {**STAMP, "rank": 2}}]
    study = small_study(tmp_path, method=places)
    results = []
    for workers in (1, 2):
        store, folder = RunStore(tmp_path / f"runs{workers}"), tmp_path / f"cells{workers}"
        tasks = run_study(study, workers=workers, folder=folder, store=store)
        assert set(statuses(tasks).values()) == {"done"}
        results.append(gather(study, tasks))
    one, two = results
    own = ["run", "cpu_seconds"]
    pd.testing.assert_frame_equal(one.cells.drop(columns=own), two.cells.drop(columns=own))
    pd.testing.assert_frame_equal(one.attacks, two.attacks)
    pd.testing.assert_frame_equal(one.differences, two.differences)


_LONG = """
import os, time
from workbench.compare.pools import processes

if __name__ == "__main__":
    with processes(1) as start:
        submit = start()
        print(submit(os.getpid).result(), flush=True)
        submit(time.sleep, 600).result()
"""


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "long.py"
    script.write_text(_LONG)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    assert process_start(worker) is not None
    parent.kill()
    parent.wait()
    end = time.monotonic() + 20
    while process_start(worker) is not None and time.monotonic() < end:
        time.sleep(0.05)
    assert process_start(worker) is None
