"""What a study would run, and how long: from what its like took before on this machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from workbench.compare.runner import Task, kind_of
from workbench.compare.study import Study
from workbench.errors import WorkbenchError
from workbench.facts.readers import parse_json, read_text


@dataclass(frozen=True)
class Estimate:
    """What is left to do.

    Attributes:
        cells: models, edits and references alike.
        attacks: attacks on them.
        done: of both, what is there already.
        edits: edits to be made while searching.
        seconds: time for what is left whose like was done before.
        unknown: tasks whose like was never done here, not in `seconds`.
    """

    cells: int
    attacks: int
    done: int
    edits: int
    seconds: float
    unknown: int

    @property
    def left(self) -> int:
        """How many tasks are left."""
        return self.cells + self.attacks - self.done

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    def words(self) -> str:
        """Say it in a sentence."""
        sizes = f"{self.cells} cells ({self.edits} edits to try) and {self.attacks} attacks on them"
        return f"{sizes}; {self.done} are done. {self._time()}"

    def _time(self) -> str:
        known = f"About {math.ceil(self.seconds / 60)} min are left"
        if not self.left:
            return "Nothing is left."
        if not self.unknown:
            return f"{known}."
        if self.unknown == self.left:
            return "How long that takes is not known: nothing like it was ever run here."
        return f"{known}, and {self.unknown} tasks whose like was never run here."


def estimate(study: Study, tasks: Sequence[Task], folder: Path, workers: int = 1) -> Estimate:
    """Estimate what is left of a study.

    Args:
        study: what is to run.
        tasks: its tasks.
        folder: where the results of this and other studies are kept.
        workers: how many run side by side.
    """
    took = _times(folder)
    left = [task for task in tasks if not task.done]
    known = [median(took[kind]) for task in left if (kind := kind_of(study, task)) in took]
    tries = {entry.label: len(entry.candidates) for entry in study.method}
    return Estimate(
        cells=sum(t.attack is None for t in tasks),
        attacks=sum(t.attack is not None for t in tasks),
        done=len(tasks) - len(left),
        edits=sum(tries.get(t.name.label, 0) for t in left if t.attack is None),
        seconds=sum(known) / workers,
        unknown=len(left) - len(known),
    )


def _times(folder: Path) -> dict[str, list[float]]:
    out: dict[str, list[float]] = {}
    for file in folder.glob("*.json"):
        try:
            found = parse_json(read_text(file), str(file))
            if found["status"] == "done":
                out.setdefault(found["kind"], []).append(float(found["seconds"]))
        except (WorkbenchError, KeyError, TypeError, ValueError):
            continue  # a damaged file says nothing about time
    return out
