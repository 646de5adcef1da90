"""Work in a thread: watched, ended by the user or by itself, and never a traceback at the user."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from workbench.errors import WorkbenchError
from workbench.progress import Cancelled, Progress
from workbench.workspace import Work, work

SOON = 20.0


class Gate:
    """Work that stops at its gates until the test lets it through."""

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self.go.wait(SOON)


def test_what_came_out_is_kept() -> None:
    found = Work("adding", lambda progress: 2 + 3).wait(SOON)
    assert (found.status, found.running, found.result) == ("finished", False, 5)
    assert (found.label, found.error, found.details) == ("adding", "", "")
    assert found.seconds == found.seconds >= 0
    found.cancel()
    assert (found.status, found.result) == ("finished", 5)


def test_progress_is_reported_while_it_runs() -> None:
    gate = Gate()

    def run(progress: Progress) -> str:
        for i in progress.track(range(4), "counting"):
            if i == 2:
                gate.pass_through()
        return "done"

    found = Work("count", run)
    assert gate.reached.wait(SOON)
    assert found.running and found.result is None
    assert found.state == (2, 4, "counting")
    gate.go.set()
    found.wait(SOON)
    assert found.state == (4, 4, "counting") and found.result == "done"


def test_before_the_first_step_there_is_nothing_to_go_by() -> None:
    gate = Gate()
    found = Work("slow", lambda progress: gate.pass_through())
    assert gate.reached.wait(SOON)
    assert found.state == (0, 0, "starting") and found.seconds_left is None
    gate.go.set()
    assert found.wait(SOON).seconds_left is None


def test_cancelling_frees_at_once_and_drops_what_comes_late() -> None:
    gate = Gate()

    def run(progress: Progress) -> str:
        gate.pass_through()  # no step of progress any more: it runs to its end
        return "late"

    found = Work("slow", run)
    assert gate.reached.wait(SOON)
    found.cancel()
    assert (found.status, found.running, found.result) == ("cancelled", False, None)
    seconds = found.seconds
    gate.go.set()
    found.wait(SOON)
    assert (found.status, found.result, found.error) == ("cancelled", None, "")
    assert found.seconds == seconds


def test_cancelling_ends_the_thread_at_its_next_step() -> None:
    gate, after = Gate(), threading.Event()
    ended: list[BaseException] = []

    def run(progress: Progress) -> None:
        try:
            for _ in progress.track(range(2), "steps"):
                gate.pass_through()
        except Cancelled as stop:
            ended.append(stop)
            raise
        after.set()

    found = Work("slow", run)
    assert gate.reached.wait(SOON)
    found.cancel()
    gate.go.set()
    found.wait(SOON)
    assert ended and not after.is_set() and found.status == "cancelled"
    assert found.state == (0, 2, "steps")


def test_a_failure_after_the_cancel_is_not_shown() -> None:
    gate = Gate()

    def run(progress: Progress) -> None:
        gate.pass_through()
        raise ValueError("late")

    found = Work("slow", run)
    found.cancel()
    gate.go.set()
    found.wait(SOON)
    assert (found.status, found.error, found.details) == ("cancelled", "", "")


def failing(error: Exception) -> Callable[[Progress], None]:
    def run(progress: Progress) -> None:
        raise error

    return run


def test_a_users_mistake_becomes_its_sentence() -> None:
    found = Work("edit", failing(WorkbenchError("Choose a component."))).wait(SOON)
    assert (found.status, found.error, found.details) == ("failed", "Choose a component.", "")
    assert found.result is None


def test_a_fault_of_the_program_becomes_a_sentence_with_details() -> None:
    found = Work("edit", failing(ZeroDivisionError("by zero"))).wait(SOON)
    assert found.status == "failed"
    assert found.error == "The program failed (ZeroDivisionError: by zero); please report it."
    assert "Traceback" in found.details and "raise error" in found.details
    assert "Traceback" not in found.error


def test_work_that_stops_itself_counts_as_cancelled() -> None:
    found = Work("edit", failing(Cancelled("enough"))).wait(SOON)
    assert (found.status, found.error) == ("cancelled", "")


def test_the_time_left_goes_by_the_current_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(work, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    gates = [Gate(), Gate()]

    def run(progress: Progress) -> None:
        clock[0] += 50  # a first part whose time says nothing of the second
        progress.step(0, 8, "second")
        clock[0] += 4
        progress.step(2, 8, "second")
        gates[0].pass_through()
        progress.step(8, 8, "second")
        gates[1].pass_through()

    found = Work("two parts", run)
    assert gates[0].reached.wait(SOON)
    assert found.seconds_left == pytest.approx(12.0)  # 4 s for 2 steps, 6 to go
    assert found.seconds == pytest.approx(54.0)
    gates[0].go.set()
    assert gates[1].reached.wait(SOON)
    assert found.seconds_left is None
    gates[1].go.set()
    found.wait(SOON)
    clock[0] += 1000
    assert found.seconds == pytest.approx(54.0)
