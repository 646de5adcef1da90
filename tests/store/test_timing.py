"""How long runs took, from their own records."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from workbench.store.run import RunRecord
from workbench.store.store import RunStore
from workbench.store.timing import seconds_of, typical_seconds

START = datetime(2026, 1, 1, tzinfo=UTC)


def record(**given: object) -> RunRecord:
    times = {"started": START.isoformat(), "finished": (START + timedelta(seconds=90)).isoformat()}
    return RunRecord("x", Path(), "FINISHED", **{**times, **given})  # type: ignore[arg-type]


def test_seconds_by_hand() -> None:
    assert seconds_of(record()) == 90.0
    assert seconds_of(record(finished="2026-01-01T02:00:30+02:00")) == 30.0


@pytest.mark.parametrize(
    "given",
    [
        {"finished": None},
        {"finished": "yesterday"},
        {"started": ""},
        {"finished": 17},
        {"finished": "2026-01-01T00:01:30"},  # a time of no known zone beside one of a known one
    ],
)
def test_times_that_cannot_be_read_are_none(given: dict[str, object]) -> None:
    assert seconds_of(record(**given)) is None


def ran(store: RunStore, seconds: object, kind: str = "edit", model: str = "demo") -> str:
    """Record a run and write how long it took into it."""
    with store.start(kind, {"model": model}) as run:
        pass
    path = run.path / "run.json"
    data = json.loads(path.read_text())
    end = START + timedelta(seconds=seconds) if isinstance(seconds, int) else seconds
    finished = end.isoformat() if isinstance(end, datetime) else end
    path.write_text(json.dumps({**data, "started": START.isoformat(), "finished": finished}))
    return run.id


def test_the_median_is_of_the_same_kind_and_model(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    assert typical_seconds(store, "edit", "demo") is None
    for seconds in (10, 90, 20):
        ran(store, seconds)
    ran(store, 1000, kind="measure")
    ran(store, 2000, model="smollm2")
    ran(store, "broken")
    ran(store, 17.5)  # no time at all
    with pytest.raises(ZeroDivisionError), store.start("edit", {"model": "demo"}):
        raise ZeroDivisionError
    assert typical_seconds(store, "edit", "demo") == 20.0
    assert typical_seconds(store, "measure", "demo") == 1000.0
    assert typical_seconds(store, "measure", "smollm2") is None
    ran(store, 30)
    assert typical_seconds(store, "edit", "demo") == 25.0


def test_only_the_last_ten_count(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    for _ in range(20):
        ran(store, 500)
    for seconds in (1, 2, 3, 4, 5, 7, 8, 9, 10, 11):
        ran(store, seconds)
    assert typical_seconds(store, "edit", "demo") == 6.0
