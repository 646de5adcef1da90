"""Run a study: in this process, in several, or on a Ray cluster; resumable, cell by cell.

Every cell and every attack on it is one task, whose result is one file named by its content. A task
that is done is never done again; one that failed is tried again the next time. If a worker is
killed, nobody knows which task it was killed for: those that were running are tried once more, each
alone, and one that kills its worker again counts as failed, with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.compare.bench import bench_of
from workbench.compare.cell import (
    CellName,
    attack_key,
    cells_of,
    edit_key,
    failed_cell,
    run_attack,
    run_cell,
)
from workbench.compare.pools import Pool, processes, ray_cluster
from workbench.compare.study import IN_CONTEXT, Study, make_study
from workbench.errors import WorkbenchError
from workbench.facts.readers import parse_json, read_text
from workbench.models.atomic import unwritable, write_json
from workbench.models.paths import cache_dir
from workbench.progress import SILENT, Cancelled, Progress
from workbench.store.store import RunStore

_KILLED = "The worker was killed, perhaps for want of memory; use fewer workers."
_WAIT = 0.5  # seconds between two looks at whether to stop


@dataclass(frozen=True)
class Task:
    """One thing to do: make and measure a cell, or attack it.

    Attributes:
        name: the cell.
        attack: number of the attack; None for the cell itself.
        file: where the result is written.
        parent: file of the cell that is attacked.
    """

    name: CellName
    attack: int | None
    file: Path
    parent: Path | None = None

    def result(self) -> dict[str, Any] | None:
        """Return what is there already, None if nothing."""
        return parse_json(read_text(self.file), str(self.file)) if self.file.is_file() else None

    @property
    def done(self) -> bool:
        """Whether it need not be done again."""
        found = self.result()
        return found is not None and found["status"] == "done"


def cells_dir() -> Path:
    """Return the folder of all cells' results."""
    return cache_dir() / "cells"


def tasks_of(study: Study, folder: Path) -> list[Task]:
    """Return every task of a study: its cells, each followed by its attacks."""
    bench = bench_of(study)
    out = []
    for name in cells_of(study):
        key = edit_key(study, name, bench)
        cell = Task(name, None, folder / f"{key}.json")
        out.append(cell)
        if name.label == IN_CONTEXT:
            continue  # no weights to attack
        for i in range(len(study.attack)):
            file = folder / f"{attack_key(study, key, i, bench)}.json"
            out.append(Task(name, i, file, cell.file))
    return out


def kind_of(study: Study, task: Task) -> str:
    """Return what makes two tasks take alike: the model, and the method or attack."""
    if task.attack is not None:
        return f"{study.model} attack {study.attack[task.attack].attack}"
    methods = {entry.label: entry.method for entry in study.method}
    return f"{study.model} {methods.get(task.name.label, 'reference')}"


def run_study(
    study: Study,
    *,
    workers: int = 1,
    ray: bool = False,
    store: RunStore | None = None,
    folder: Path | None = None,
    progress: Progress = SILENT,
) -> list[Task]:
    """Do what is not done yet.

    Args:
        study: what to run.
        workers: processes; 1 for this one.
        ray: run on the Ray cluster that this machine belongs to instead; all its machines must see
            `folder` and the store under the same paths.
        store: where the edits are recorded; the user's own by default.
        folder: where the results are kept; the user's own by default.
        progress: where to report; what is done when it stops the work is kept.

    Returns:
        Every task of the study, done or failed.

    Raises:
        WorkbenchError: fewer than one worker, Ray is asked for and not installed, or the results
            cannot be written.
        Cancelled: the progress asked to stop.
    """
    if workers < 1:
        raise WorkbenchError(f"A study needs at least one worker, not {workers}.")
    store, folder = store or RunStore.default(), folder or cells_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    tasks = tasks_of(study, folder)
    todo = _left(tasks, store)
    if workers == 1 and not ray:
        stop = Progress(cancelled=progress.cancelled)
        for task in progress.track(todo, f"study {study.name}"):
            do(study.model_dump_json(), task, str(store.root), stop)
    elif ray:
        _in_parallel(study, todo, store, ray_cluster(), len(todo), progress)
    else:
        _in_parallel(study, todo, store, processes(workers), workers, progress)
    return tasks


def _left(tasks: Sequence[Task], store: RunStore) -> list[Task]:
    """Return what is to be done, every file once; an edit to attack whose run is gone, again."""
    left = {task.file for task in tasks if not task.done}
    attacked = {task.parent for task in tasks if task.file in left}
    for task in tasks:
        run = (task.result() or {}).get("run") if task.file in attacked else None
        if run and not (store.root / run).is_dir():
            left.add(task.file)
    return list({task.file: task for task in tasks if task.file in left}.values())


def do(study: str, task: Task, store: str, progress: Progress = SILENT) -> None:
    """Do one task in this process and write its result; a fault is a result too.

    Raises:
        WorkbenchError: the result cannot be written.
        Cancelled: the progress asked to stop; nothing is written then.
    """
    started = time.perf_counter()
    checked = make_study(parse_json(study, "study"))
    runs = RunStore(Path(store))
    try:
        if task.attack is None:
            result = run_cell(checked, task.name, runs, progress)
        else:
            result = _attack(checked, task, runs, progress)
    except Cancelled:
        raise
    except Exception as error:  # whatever goes wrong in one cell must not end the others
        result = failed_cell(error)
    result["kind"] = kind_of(checked, task)
    result["seconds"] = time.perf_counter() - started
    _write(task, result)


def _write(task: Task, result: dict[str, Any]) -> None:
    try:
        write_json(task.file, result)
    except OSError as error:
        raise unwritable(task.file, error) from error


def _attack(study: Study, task: Task, store: RunStore, progress: Progress) -> dict[str, Any]:
    assert task.parent is not None and task.attack is not None
    cell = parse_json(read_text(task.parent), str(task.parent))
    if cell["status"] != "done":
        raise WorkbenchError(f"There is no edit to attack: {cell['error']}")
    return run_attack(study, task.name, task.attack, cell.get("run", ""), store, progress)


def _in_parallel(
    study: Study,
    todo: list[Task],
    store: RunStore,
    pool: Pool,
    most: int,
    progress: Progress,
) -> None:
    """Run tasks side by side, `most` at a time; an attack waits for its cell."""
    label, total = f"study {study.name}", len(todo)
    text, root = study.model_dump_json(), str(store.root)
    unfinished = {task.file for task in todo if task.attack is None}
    waiting = list(todo)
    running: dict[Future[Any], Task] = {}
    killed: set[Path] = set()  # were running when a worker was killed
    with pool as start:
        submit = start()
        while waiting or running:
            progress.step(total - len(waiting) - len(running), total, label)
            broken = False
            try:
                for task in _next(waiting, running, unfinished, killed, most):
                    running[submit(do, text, task, root)] = task
                    waiting.remove(task)
            except BrokenProcessPool:
                broken = True
            finished, _ = wait(running, timeout=_WAIT, return_when=FIRST_COMPLETED)
            if broken or any(isinstance(f.exception(), BrokenProcessPool) for f in finished):
                finished, _ = wait(running)  # all of them end with the pool
                submit = start()
            again = []
            for future in finished:
                task, error = running.pop(future), future.exception()
                if isinstance(error, BrokenProcessPool):
                    if task.file not in killed:
                        again.append(task)
                        continue
                    error = WorkbenchError(_KILLED)
                if error is not None:  # the worker itself failed, not the cell
                    _write(task, failed_cell(error))
                unfinished.discard(task.file)
            killed |= {task.file for task in again}
            waiting = [*again, *waiting]
        progress.step(total, total, label)


def _next(
    waiting: Sequence[Task],
    running: Mapping[Future[Any], Task],
    unfinished: Collection[Path],
    killed: Collection[Path],
    most: int,
) -> list[Task]:
    """Return what to begin now; what may have killed a worker runs alone."""
    ready = [task for task in waiting if task.parent not in unfinished]
    alone = [task for task in ready if task.file in killed]
    if alone or any(task.file in killed for task in running.values()):
        return [] if running else alone[:1]
    return ready[: most - len(running)]
