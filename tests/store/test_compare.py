"""Two runs against each other: the rows are what differs, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.store.compare import differences, headline, numbers
from workbench.store.run import RunRecord
from workbench.store.store import RunStore

EDIT = {
    "method": "stamp",
    "config": {"weight": 30.0, "rank": None, "spread": False},
    "seconds": 2.5,
    "parameters_touched": 12345,
    "unchanged_outside": True,
    "target_log_probability": [-0.1, -9.0],
    "failed": None,
}
WHERE = {"clean": 0.9, "corrupted": 0.125, "n_facts": 7, "method": "causal_tracing"}


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path)


def ran(
    store: RunStore,
    config: dict[str, Any],
    kind: str = "measure",
    scores: dict[str, float] | None = None,
    **objects: Any,
) -> RunRecord:
    with store.start(kind, config) as run:
        if scores is not None:
            table = pd.DataFrame({"measure": scores.keys(), "value": scores.values()})
            run.save_table("scores", table)
        for name, value in objects.items():
            run.save_json(name, value)
    return store.get(run.id)


def test_numbers_by_hand(store: RunStore) -> None:
    assert numbers(ran(store, {}, scores={"acc_f": 0.5, "kl_r": 1 / 3})) == {
        "acc_f": 0.5,
        "kl_r": 1 / 3,
    }
    # Numbers only: a switch, a word, a list and nothing are none.
    expected = {"config.weight": 30.0, "seconds": 2.5, "parameters_touched": 12345.0}
    assert numbers(ran(store, {}, "edit", edit=EDIT)) == expected
    expected = {"clean": 0.9, "corrupted": 0.125, "n_facts": 7.0}
    assert numbers(ran(store, {}, "localize", localization=WHERE)) == expected
    assert numbers(ran(store, {})) == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scores.csv", "measure,value\nacc_f,high\n"),
        ("scores.csv", ""),
        ("scores.csv", "a,b\n1,2\n"),
        ("edit.json", "{"),
        ("edit.json", "[1, 2]"),
        ("localization.json", "[1, 2]"),
        ("localization.json", "{}"),
        ("localization.json", '{"clean": null, "corrupted": 0, "n_facts": 1}'),
    ],
)
def test_what_cannot_be_read_has_no_numbers(store: RunStore, name: str, content: str) -> None:
    record = ran(store, {})
    (record.path / name).write_text(content)
    assert numbers(record) == {} and headline(record) == ""


def test_a_run_that_is_gone_has_no_numbers(store: RunStore) -> None:
    record = ran(store, {}, scores={"acc_f": 0.5})
    store.delete(record.id)
    assert numbers(record) == {}


def test_headlines_by_hand(store: RunStore) -> None:
    scores = {"perplexity": 9.0, "acc_r": 0.956, "acc_f": 0.0}
    assert headline(ran(store, {}, scores=scores)) == "acc_f 0.00, acc_r 0.96"
    assert headline(ran(store, {}, "localize", localization=WHERE)) == "7 facts, clean 0.90"
    assert headline(ran(store, {}, "edit", edit=EDIT)) == "12,345 parameters"
    assert headline(ran(store, {})) == ""


def test_differences_by_hand(store: RunStore) -> None:
    first = ran(
        store,
        {"model": "demo", "seed": 0, "settings": {"weight": 30.0}, "deltas": []},
        scores={"acc_f": 1.0, "acc_r": 0.5},
    )
    second = ran(
        store,
        {"model": "demo", "seed": 3, "settings": {"weight": 5.0, "rank": 4}, "deltas": ["a"]},
        scores={"acc_f": 1 / 3, "acc_r": 0.5, "mcq_f": 0.25},
    )
    found = {row.what: (row.first, row.second) for row in differences(first, second).itertuples()}
    assert found == {
        "setting seed": ("0", "3"),
        "setting settings.weight": ("30", "5"),
        "setting settings.rank": ("", "4"),
        "setting deltas": ("[]", "['a']"),
        "acc_f": ("1", "0.333333"),
        "mcq_f": ("", "0.25"),
    }


def test_runs_of_two_kinds_differ_in_their_kind(store: RunStore) -> None:
    found = differences(ran(store, {}, "edit"), ran(store, {}, "measure"))
    assert found.to_dict("records") == [{"what": "kind", "first": "edit", "second": "measure"}]


values = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4)
names = st.text(max_size=4)
configs = st.dictionaries(names, values | st.dictionaries(names, values, max_size=3), max_size=4)


@settings(max_examples=80)
@given(a=configs, b=configs)
def test_a_run_does_not_differ_from_itself_and_turning_swaps_the_sides(
    a: dict[str, Any], b: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    first, second = (RunRecord("x", folder / "none", "FINISHED", config=c) for c in (a, b))
    assert differences(first, first).empty
    forward, back = differences(first, second), differences(second, first)
    assert set(forward.itertuples(index=False, name=None)) == {
        (what, right, left) for what, left, right in back.itertuples(index=False, name=None)
    }
