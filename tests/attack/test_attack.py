"""How much came back: the arithmetic by hand, and results that survive being saved."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.attack.world import REQUEST
from workbench.attack.attack import (
    EXAMPLES,
    MEASURES,
    AttackResult,
    Cell,
    Outcome,
    Plain,
    cell_row,
    example_rows,
    known,
    recovered,
)
from workbench.errors import WorkbenchError

ADA, CARL = REQUEST.forget


def cell(ada: float, carl: float, **more: object) -> Cell:
    setting = {"bits": 4, "group": "row"}
    outcomes = (Outcome(ADA, "ask ada", "a", ada), Outcome(CARL, "ask carl", "c", carl))
    return Cell(setting, outcomes, **more)  # type: ignore[arg-type]


def plain(ada: float, carl: float) -> Plain:
    return Plain({o.fact.key: o for o in cell(ada, carl).outcomes})


@pytest.mark.parametrize(
    ("value", "before", "base", "wanted"),
    [(0.5, 0.0, 1.0, 0.5), (0.25, 0.25, 0.75, 0.0), (0.75, 0.25, 0.75, 1.0), (0.1, 0.2, 0.7, -0.2)],
)
def test_recovered_is_the_share_of_what_was_removed(value, before, base, wanted) -> None:
    assert recovered(value, before, base) == pytest.approx(wanted)


def test_nothing_removed_is_no_number() -> None:
    assert math.isnan(recovered(0.5, 0.5, 0.5)) and math.isnan(recovered(0.5, 0.6, 0.5))


def test_guessing_is_taken_off() -> None:
    assert known(cell(0.25, 0.25, chance=0.25)) == 0
    assert known(cell(1.0, 0.25, chance=0.25)) == pytest.approx(0.5)
    assert known(cell(1.0, 1.0, chance=0.25)) == 1
    assert math.isnan(known(cell(1.0, 1.0, chance=1.0)))


def test_a_row_by_hand() -> None:
    """Value 1/2 with chance 1/4 is known 1/3; before 0, base 1; the oracle's own chance is 0."""
    mine, base, oracle = cell(1, 0, chance=0.25), cell(1, 1, chance=0.25), cell(0, 0.5)
    row = cell_row(mine, base, oracle, plain(0, 0), plain(1, 1), seed=0)
    assert list(row) == ["bits", "group", *MEASURES]
    assert (row["bits"], row["group"], row["n"], row["chance"]) == (4, "row", 2, 0.25)
    assert (row["value"], row["before"], row["base"]) == (0.5, 0, 1)
    assert (row["base_attacked"], row["oracle_attacked"]) == (1, 0.25)
    assert row["recovered"] == pytest.approx(1 / 3)
    assert row["oracle_recovered"] == pytest.approx(0.25)
    assert 0 <= row["low"] <= 0.5 <= row["high"] <= 1 and row["note"] == ""


def test_before_and_base_are_over_the_facts_that_the_cell_asks() -> None:
    asked_twice = Cell({}, (*cell(1, 0).outcomes, Outcome(ADA, "again", "a", 1.0)))
    row = cell_row(asked_twice, None, None, plain(0, 0), plain(1, 0), seed=0)
    assert row["base"] == pytest.approx(2 / 3) and row["value"] == pytest.approx(2 / 3)
    assert math.isnan(row["base_attacked"]) and math.isnan(row["oracle_recovered"])


def test_where_nothing_was_removed_a_sentence_says_so() -> None:
    row = cell_row(cell(1, 1, note="Short."), None, None, plain(1, 1), plain(1, 1), seed=0)
    assert math.isnan(row["recovered"])
    assert (
        row["note"].startswith("Short. Without an attack") and "nothing was removed" in row["note"]
    )


def test_a_cell_without_questions_is_no_zero() -> None:
    row = cell_row(Cell({}, (), note="Too long."), None, None, plain(0, 0), plain(1, 1), seed=0)
    assert row["n"] == 0 and row["note"] == "Too long."
    assert all(math.isnan(row[m]) for m in ("value", "low", "high", "before", "base", "recovered"))


def test_all_wrong_has_the_exact_bound_for_the_number_of_subjects() -> None:
    row = cell_row(cell(0, 0), None, None, plain(0, 0), plain(1, 1), seed=0)
    assert row["high"] == pytest.approx(1 - 0.025 ** (1 / 2))  # two subjects (Clopper & Pearson)


def test_examples_begin_with_what_came_back() -> None:
    rows = example_rows(cell(0, 1), plain(0, 0), 1)
    assert [tuple(r) for r in rows] == [("bits", "group", *EXAMPLES)]
    assert (rows[0]["subject"], rows[0]["target"], rows[0]["after"]) == ("Carl", " golf", "c")
    assert example_rows(cell(0, 1), plain(0, 1), 1)[0]["subject"] == "Ada"  # Carl never went away


def result(*recovered: float, **more: object) -> AttackResult:
    rows = [
        {"bits": 4 + i, "group": "row", **dict.fromkeys(MEASURES, 0.5), "recovered": r, "note": ""}
        for i, r in enumerate(recovered)
    ]
    cells = pd.DataFrame(rows, columns=["bits", "group", *MEASURES])
    examples = pd.DataFrame(example_rows(cell(0, 1), plain(0, 0), 2))
    return AttackResult("quantization", {"bits": [4]}, cells, examples, {"model": "m"}, 1.5, **more)  # type: ignore[arg-type]


def test_the_worst_cell_is_the_one_with_most_back() -> None:
    worst = result(0.1, math.nan, 0.4, -0.2).worst
    assert worst is not None and worst["bits"] == 6 and worst["recovered"] == 0.4
    assert result(math.nan).worst is None and result().worst is None
    assert result(0.1).settings == ("bits", "group")


def test_a_saved_result_is_the_same(tmp_path: Path) -> None:
    old = result(0.1, math.nan, diagnostic=True)
    old.save(tmp_path / "a.json")
    new = AttackResult.load(tmp_path / "a.json")
    pd.testing.assert_frame_equal(new.cells, old.cells)
    pd.testing.assert_frame_equal(new.examples, old.examples)
    same = ("attack", "config", "origin", "seconds", "failed", "diagnostic")
    assert all(getattr(new, name) == getattr(old, name) for name in same)
    assert "NaN" not in (tmp_path / "a.json").read_text()


def test_a_failed_result_is_saved_with_its_sentence(tmp_path: Path) -> None:
    result(failed="No choices.").save(tmp_path / "a.json")
    new = AttackResult.load(tmp_path / "a.json")
    assert new.failed == "No choices." and new.cells.empty and new.worst is None


@pytest.mark.parametrize(
    "change", [{"format": "other"}, {"cells": {}}, {"seconds": None, "cells": 3}]
)
def test_damaged_results_are_refused(change: dict) -> None:
    data = json.loads(json.dumps(result(0.1).to_json())) | change
    with pytest.raises(WorkbenchError, match="attack again"):
        AttackResult.from_json(data)


def test_values_are_plain_numbers_in_json() -> None:
    rows = result(np.float64(0.25)).to_json()["cells"]["rows"]
    assert json.loads(json.dumps(rows))[0][0] == 4
