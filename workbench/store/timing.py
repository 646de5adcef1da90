"""How long runs took, to say how long the next one will."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from statistics import median

from workbench.store.run import RunRecord
from workbench.store.store import RunStore


def seconds_of(record: RunRecord) -> float | None:
    """Return how long a run took; None if it has not ended or its times cannot be read."""
    if not record.finished:
        return None
    try:
        ended, started = (datetime.fromisoformat(t) for t in (record.finished, record.started))
        return (ended - started).total_seconds()
    except (TypeError, ValueError):
        return None


def typical_seconds(store: RunStore, kind: str, model: str) -> float | None:
    """Return the median time of the last ten finished runs of a kind on a model; None if none."""
    found = (
        seconds
        for record in store.newest()
        if record.kind == kind and record.status == "FINISHED"
        if record.config.get("model") == model and (seconds := seconds_of(record)) is not None
    )
    last = list(islice(found, 10))
    return median(last) if last else None
