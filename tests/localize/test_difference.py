"""One localization minus another, cell by cell."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from workbench.errors import WorkbenchError
from workbench.localize.difference import difference
from workbench.localize.localization import COLUMNS, Localization

Rows = dict[tuple[str, int, int, str, int], tuple[float, float]]


def found(rows: Rows, **given: object) -> Localization:
    table = [(*cell, "", score, error, 3) for cell, (score, error) in rows.items()]
    fields = {"method": "x", "clean": 0.9, "corrupted": 0.1, "n_facts": 3, **given}
    return Localization(table=pd.DataFrame(table, columns=list(COLUMNS)), **fields)  # type: ignore[arg-type]


MLP, HEAD, LAST = ("mlp", 0, -1, "last", -1), ("head", 1, 2, "last", -1), ("mlp", 1, -1, "last", -1)
BEFORE = found({MLP: (0.5, 0.3), HEAD: (-0.25, 0.0), LAST: (1.0, 0.1)}, config={"seed": 1})
AFTER = found(
    {HEAD: (0.5, 0.2), ("mlp", 2, -1, "last", -1): (9.0, 0.0), MLP: (0.125, 0.4)},
    clean=0.2,
    corrupted=0.15,
    n_facts=2,
    left_out=("a",),
    sizes={"mlp.0": 4},
    config={"scale": "base"},
)


def cells(where: Localization) -> Rows:
    rows = where.table.itertuples(index=False, name=None)
    return {r[:5]: (r[6], r[7]) for r in rows}  # type: ignore[misc]


def test_by_hand() -> None:
    gone = difference(AFTER, BEFORE)
    assert cells(gone) == {
        HEAD: (pytest.approx(0.75), pytest.approx(0.2)),
        MLP: (pytest.approx(-0.375), pytest.approx(0.5)),  # sqrt(0.4^2 + 0.3^2)
    }
    assert tuple(gone.table.columns) == COLUMNS
    assert (gone.clean, gone.corrupted, gone.n_facts) == (0.2, 0.15, 2)
    assert (gone.left_out, gone.sizes) == (("a",), {"mlp.0": 4})
    assert gone.config == {"after": {"scale": "base"}, "before": {"seed": 1}}


def test_nothing_is_changed_and_the_sign_turns_with_the_sides() -> None:
    before, after = BEFORE.table.copy(), AFTER.table.copy()
    forward, back = difference(AFTER, BEFORE), difference(BEFORE, AFTER)
    pd.testing.assert_frame_equal(BEFORE.table, before)
    pd.testing.assert_frame_equal(AFTER.table, after)
    expected = {c: (-s, e) for c, (s, e) in cells(back).items()}
    assert cells(forward) == expected
    assert set(difference(BEFORE, BEFORE).table["score"]) == {0.0}


def test_positions_of_one_fact_are_cells_of_their_own() -> None:
    """The same role may stand at two positions."""
    at = [("mlp", 0, -1, "middle subject", i) for i in (1, 2)]
    gone = difference(found({at[0]: (3, 0), at[1]: (5, 0)}), found({at[0]: (1, 0), at[1]: (1, 0)}))
    assert cells(gone) == {at[0]: (2, 0), at[1]: (4, 0)}


def test_it_is_saved_and_read_back(tmp_path: Path) -> None:
    gone = difference(AFTER, BEFORE)
    gone.save(tmp_path)
    again = Localization.load(tmp_path)
    pd.testing.assert_frame_equal(again.table, gone.table)
    assert again.config == gone.config
    # A localization that was read back can be compared with one at hand.
    assert set(difference(again, gone).table["score"]) == {0.0}


def test_nothing_in_common_is_a_sentence() -> None:
    with pytest.raises(WorkbenchError, match="no cell in common"):
        difference(found({MLP: (1, 0)}), found({LAST: (1, 0)}))
