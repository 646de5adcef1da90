"""What is left of a study, and how long it takes, by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.compare.small import plain_study, written
from workbench.compare.cell import CellName
from workbench.compare.estimate import Estimate, estimate

SEARCH = {"method": "stamp", "places": ["mlp.1", "random"], "search": {"weight": [1, 2, 3]}}
STUDY = plain_study(seeds=[0, 1], method=[SEARCH], attack=[{"attack": "pruning"}])


def took(kind: str, seconds: float, **more: Any) -> dict[str, Any]:
    return {"status": "done", "kind": kind, "seconds": seconds, **more}


def write(folder: Path, *results: Any) -> None:
    folder.mkdir(exist_ok=True)
    for i, result in enumerate(results):
        (folder / f"other-{i}.json").write_text(json.dumps(result), encoding="utf-8")


def nothing(*_: object) -> None:
    return None


def test_of_a_new_study_the_sizes_are_known_and_no_time(tmp_path: Path) -> None:
    found = estimate(STUDY, written(STUDY, tmp_path, nothing), tmp_path / "no folder yet")
    assert found == Estimate(cells=5, attacks=5, done=0, edits=12, seconds=0, unknown=10)
    assert found.left == 10
    assert found.words() == (
        "5 cells (12 edits to try) and 5 attacks on them; 0 are done. How long that takes is not "
        "known: nothing like it was ever run here."
    )


def test_time_is_the_median_of_what_its_like_took(tmp_path: Path) -> None:
    """Four edits of 30 s each; nothing is known of references and attacks."""
    times = tmp_path / "times"
    write(times, *(took("demo stamp", s) for s in (10, 30, 90)), took("demo ga", 999))
    tasks = written(STUDY, tmp_path, nothing)
    found = estimate(STUDY, tasks, times)
    assert (found.seconds, found.unknown) == (120, 6)
    assert estimate(STUDY, tasks, times, workers=2).seconds == 60
    assert found.to_json()["seconds"] == 120 and "About 2 min" in found.words()
    assert found.words().endswith("are left, and 6 tasks whose like was never run here.")


def test_what_is_done_needs_no_time(tmp_path: Path) -> None:
    def cell(name: CellName) -> dict[str, Any] | None:
        if name.label == "base":
            return took("demo reference", 5)
        if name.place == "random":
            return {"status": "failed", "error": "x", "kind": "demo stamp", "seconds": 1.0}
        return took("demo stamp", 60)

    def attack(name: CellName, of: str) -> dict[str, Any]:
        return took("demo attack pruning", 1)

    tasks = written(STUDY, tmp_path, cell, attack)
    found = estimate(STUDY, tasks, tmp_path)
    # Two failed cells are left, six edits in them; a failure tells nothing about time.
    assert found == Estimate(cells=5, attacks=5, done=8, edits=6, seconds=120, unknown=0)
    assert found.left == 2 and found.words().endswith("8 are done. About 2 min are left.")
    assert replace(found, done=10).words().endswith("10 are done. Nothing is left.")


def test_damaged_files_say_nothing_about_time(tmp_path: Path) -> None:
    times = tmp_path / "times"
    damaged: list[Any] = [[], {}, 3, {"status": "done"}, took("demo stamp", 10)]
    write(times, *damaged, {"status": "done", "kind": "demo stamp", "seconds": None})
    (times / "half.json").write_text('{"status": "do', encoding="utf-8")
    assert estimate(STUDY, written(STUDY, tmp_path, nothing), times).seconds == 40
