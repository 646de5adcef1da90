"""The work of a study, faked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.compare.small import attacked, edited, scored, small_study
from workbench.compare.cell import CellName
from workbench.compare.runner import Task, run_study
from workbench.compare.study import Study
from workbench.errors import WorkbenchError
from workbench.progress import Progress
from workbench.store.store import RunStore

PLACES = ["mlp.0", "mlp.1", "mlp.2", "random"]
MANY = [{"method": "stamp", "places": PLACES}]


@dataclass(frozen=True)
class Bed:
    """Where a study of the tiny checkpoint is run: all that it writes is in one folder."""

    root: Path

    @property
    def folder(self) -> Path:
        """Where the cells are."""
        return self.root / "cells"

    def study(self, **more: Any) -> Study:
        return small_study(self.root, **more)

    def run(self, study: Study, **more: Any) -> list[Task]:
        return run_study(study, folder=self.folder, store=RunStore(self.root / "runs"), **more)


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


def statuses(tasks: list[Task]) -> dict[str, str]:
    out = {}
    for task in tasks:
        found = task.result()
        name = f"{task.attack} on {task.name}" if task.attack is not None else str(task.name)
        out[name] = "missing" if found is None else found["status"]
    return out
