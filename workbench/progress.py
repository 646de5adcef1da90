"""Progress of long work: steps done, their total, a label; and the way to cancel it.

Long functions take `progress: Progress = SILENT` and wrap their loops in `progress.track`.
A caller that wants to see or stop the work passes its own `Progress(report=..., cancelled=...)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


class Cancelled(Exception):
    """The user stopped the work; nothing was changed."""


def _ignore(done: int, total: int, label: str) -> None:
    """Report to nobody."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Progress:
    """Where long work reports its steps and asks whether to go on.

    Attributes:
        report: called with (steps done, total steps, label) after each step.
        cancelled: asked before each step; True stops the work by raising `Cancelled`.
    """

    report: Callable[[int, int, str], None] = _ignore
    cancelled: Callable[[], bool] = _never

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield `items`, reporting each one when it is done.

        Raises:
            Cancelled: `cancelled()` became true.
        """
        if total is None:
            items = list(items)
            total = len(items)
        self.step(0, total, label)
        for done, item in enumerate(items, start=1):
            yield item
            self.step(done, total, label)

    def step(self, done: int, total: int, label: str) -> None:
        """Report one state and stop if asked to.

        Raises:
            Cancelled: `cancelled()` is true.
        """
        if self.cancelled():
            raise Cancelled(f"{label}: cancelled after {done} of {total} steps.")
        self.report(done, total, label)


def seconds_left(done: int, total: int, seconds: float) -> float | None:
    """Return the time left, or None while there is too little to go by."""
    if not 0 < done < total or seconds < 0.5:
        return None
    return seconds / done * (total - done)


SILENT = Progress()
