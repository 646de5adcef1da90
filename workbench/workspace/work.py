"""Long work in a thread of its own: watched, cancelled, and its result kept until it is fetched.

Cancelling frees the user at once; the thread itself ends at its next step of progress, and what it
made by then is dropped. The work must not share a hooked module tree with another thread: give it
`model.fork()`.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

from workbench.errors import WorkbenchError
from workbench.progress import Cancelled, Progress, seconds_left

T = TypeVar("T")
Status = Literal["running", "finished", "failed", "cancelled"]


class Work(Generic[T]):
    """One piece of work.

    Attributes:
        label: what it is, for the user.
        status: how it stands.
        result: what came out, once finished.
        error: one sentence, once failed.
        details: the traceback of a fault of the program, for a report; empty for a user's mistake.
    """

    def __init__(self, label: str, run: Callable[[Progress], T]) -> None:
        """Start at once."""
        self.label = label
        self.status: Status = "running"
        self.result: T | None = None
        self.error = ""
        self.details = ""
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._started = self._step_started = time.monotonic()
        self._ended = 0.0
        self._state = (0, 0, "starting")
        self._thread = threading.Thread(target=self._work, args=(run,), name=label, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether there is something to wait for."""
        return self.status == "running"

    @property
    def state(self) -> tuple[int, int, str]:
        """Steps done, their total, and what the steps are."""
        return self._state

    @property
    def seconds(self) -> float:
        """Time since the start, or until the end."""
        return (self._ended or time.monotonic()) - self._started

    @property
    def seconds_left(self) -> float | None:
        """Time left of the current steps; None while there is nothing to go by."""
        done, total, _ = self._state
        return seconds_left(done, total, time.monotonic() - self._step_started)

    def cancel(self) -> None:
        """Stop; what has finished stays."""
        self._stop.set()
        self._end("cancelled")

    def wait(self, timeout: float | None = None) -> Work[T]:
        """Wait for the thread's end, not only for the user's."""
        self._thread.join(timeout)
        return self

    def _work(self, run: Callable[[Progress], T]) -> None:
        try:
            made = run(Progress(self._report, self._stop.is_set))
        except Cancelled:
            self._end("cancelled")
        except WorkbenchError as error:
            self._end("failed", error=str(error))
        except Exception as error:  # the thread's last resort: shown, never swallowed
            sentence = f"The program failed ({type(error).__name__}: {error}); please report it."
            self._end("failed", error=sentence, details=traceback.format_exc())
        else:
            self._end("finished", result=made)

    def _report(self, done: int, total: int, label: str) -> None:
        if label != self._state[2]:
            self._step_started = time.monotonic()
        self._state = (done, total, label)

    def _end(
        self, status: Status, *, result: T | None = None, error: str = "", details: str = ""
    ) -> None:
        with self._lock:
            if self.status != "running":
                return
            self.result, self.error, self.details = result, error, details
            self._ended = time.monotonic()
            self.status = status
