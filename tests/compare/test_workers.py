"""A study's tasks in processes of their own: each ends alone, whatever kills it."""

from __future__ import annotations

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

from tests.compare.faked import MANY, PLACES, Bed, Faked, statuses
from tests.compare.small import METHOD, ROUNDING, STAMP, small_study
from workbench.compare import pools, runner
from workbench.compare.cell import CellName
from workbench.compare.runner import Task
from workbench.compare.study import Study
from workbench.compare.table import gather
from workbench.errors import WorkbenchError
from workbench.models.atomic import process_start
from workbench.progress import Cancelled, Progress
from workbench.store.store import RunStore

KILLED = "The worker was killed, perhaps for want of memory; use fewer workers."
pytestmark = pytest.mark.usefixtures("quick")


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
    bed: Bed, faked: Faked, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = Threads()
    monkeypatch.setattr(runner, "processes", lambda workers: threads)
    study = bed.study(method=MANY, attack=[ROUNDING, {"attack": "pruning"}])
    reports: list[tuple[int, int, str]] = []
    progress = Progress(report=lambda *state: reports.append(state))
    tasks = bed.run(study, workers=3, progress=progress)
    done = faked.again()
    assert set(statuses(tasks).values()) == {"done"} and sorted(done) == sorted(set(done))
    assert len(done) == 15
    for name in {str(t.name) for t in tasks}:
        first = done.index(name)
        assert all(done.index(f"{a} on {name}") > first for a in ("quantization", "pruning"))
    assert 1 < threads.most <= 3
    counts = [n for n, _, _ in reports]
    assert counts == sorted(counts) and reports[-1] == (15, 15, "study small")
    assert bed.run(study, workers=3) and faked.again() == []


def test_a_fault_of_a_worker_ends_its_task_alone(
    bed: Bed, faked: Faked, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = runner.do

    def broken(study: str, task: Task, store: str) -> None:
        if task.name.place == "mlp.1" and task.attack is None:
            raise RuntimeError("no pipe\nto the worker")
        own(study, task, store)

    monkeypatch.setattr(runner, "processes", lambda workers: Threads())
    monkeypatch.setattr(runner, "do", broken)
    study = bed.study(method=MANY)
    tasks = bed.run(study, workers=2)
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
    workers: int, bed: Bed, faked: Faked, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = bed.root / "log"
    always = {"mlp.0": 99, "mlp.2": 99}
    monkeypatch.setattr(runner, "run_cell", killing(faked, log, always))
    study = bed.study(method=MANY)
    tasks = bed.run(study, workers=workers)
    found = statuses(tasks)
    for place in PLACES:
        name = f"stamp at {place}, seed 0"
        wanted = "failed" if place in always else "done"
        assert (found[name], found[f"0 on {name}"]) == (wanted, wanted)
    assert found["base"] == found["0 on base"] == "done"
    errors = {(t.result() or {}).get("error") for t in tasks if t.name.place == "mlp.0"}
    assert errors == {KILLED, f"There is no edit to attack: {KILLED}"}
    begun = log.read_text().split("\n")
    # Each ran alone in the end; one that waited in the pool when the other killed it had not begun.
    times = [begun.count(f"stamp at {place}, seed 0") for place in always]
    assert min(times) >= 1 and max(times) == 2
    # The next run tries them again, and only them.
    monkeypatch.setattr(runner, "run_cell", killing(faked, log, {}))
    log.unlink()
    tasks = bed.run(study, workers=workers)
    assert set(statuses(tasks).values()) == {"done"}
    assert sorted(log.read_text().split("\n")[:-1]) == [
        *("stamp at mlp.0, seed 0", "stamp at mlp.2, seed 0")
    ]


@pytest.mark.usefixtures("forked")
def test_a_worker_that_was_killed_once_is_forgiven(
    bed: Bed, faked: Faked, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = bed.root / "log"
    monkeypatch.setattr(runner, "run_cell", killing(faked, log, {"mlp.1": 1}))
    study = bed.study(method=MANY)
    tasks = bed.run(study, workers=2)
    assert set(statuses(tasks).values()) == {"done"}
    assert log.read_text().split("\n").count("stamp at mlp.1, seed 0") == 2


@pytest.mark.usefixtures("forked")
def test_cancelling_ends_the_workers(
    bed: Bed, faked: Faked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other worker sleeps for an hour; the study stops at once, and its process is gone."""
    log = bed.root / "log"

    def cell(study: Study, name: CellName, store: RunStore, progress: Progress) -> dict:
        if name.place:
            log.write_text(str(os.getpid()))
            signal.pause()
        return faked.cell(study, name, store, progress)

    monkeypatch.setattr(runner, "run_cell", cell)
    study = bed.study(attack=[])
    (base, *_) = runner.tasks_of(study, bed.folder)
    stop = Progress(cancelled=lambda: log.is_file() and log.read_text() != "" and base.done)
    with pytest.raises(Cancelled):
        bed.run(study, workers=2, progress=stop)
    assert list(statuses(runner.tasks_of(study, bed.folder)).values()) == [
        "done",
        "missing",
        "missing",
    ]
    pid = int(log.read_text())
    for _ in range(200):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX":
            break
        time.sleep(0.02)
    else:
        raise AssertionError("the worker is still there")


def test_without_ray_a_sentence_says_so(
    bed: Bed, faked: Faked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkbenchError, match="Ray is not installed; install the extra"):
        bed.run(bed.study(), ray=True)
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
    bed: Bed, faked: Faked, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = Ray()
    monkeypatch.setitem(sys.modules, "ray", ray)
    faked.failing = ("stamp at mlp.2, seed 0",)
    study = bed.study(method=MANY)
    tasks = bed.run(study, ray=True)
    assert len(faked.again()) == 9  # five cells, and attacks on all but the one that failed
    failed = [t for t in tasks if not t.done]
    assert {str(t.name) for t in failed} == {"stamp at mlp.2, seed 0"} and len(failed) == 2
    names = [call if isinstance(call, str) else call[0] for call in ray.calls]
    assert names == ["init", "remote", "shutdown"]  # the work is sent to the cluster once
    assert ray.calls[1][1:] == (runner.do, {"num_cpus": 1, "max_retries": 0})


def test_the_cluster_is_left_after_a_fault(
    bed: Bed, faked: Faked, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = Ray()
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(Cancelled):
        bed.run(
            bed.study(),
            ray=True,
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
        tasks = Bed(tmp_path / f"{workers}").run(study, workers=workers)
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
