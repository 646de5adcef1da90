"""Work off the script thread, and how a page shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st

from workbench.progress import Progress
from workbench.workspace.work import Work

T = TypeVar("T")


def works() -> dict[str, Work[Any]]:
    """Return this session's work, by key."""
    return st.session_state.setdefault("works", {})


def start(key: str, label: str, run: Callable[[Progress], Any]) -> None:
    """Start work; under one key there is one at a time."""
    old = works().get(key)
    if old is not None and old.running:
        return
    works()[key] = Work(label, run)


def finished(key: str) -> Any:
    """Take the result of finished work, once; None if there is none.

    What runs is shown with its progress, what failed as one sentence.
    """
    work = works().get(key)
    if work is None:
        return None
    if work.running:
        _watch(key)
        return None
    if work.status == "failed":
        st.error(work.error, icon=":material/error:")
        if work.details:
            st.download_button(
                "Details for a report", work.details, f"{key}.txt", key=f"details {key}"
            )
        return None
    works().pop(key)
    if work.status == "cancelled":
        st.info(f"{work.label}: stopped; nothing was changed.", icon=":material/stop_circle:")
        return None
    return work.result


def needed(key: str, label: str, run: Callable[[Progress], T]) -> T:
    """Return what a page cannot do without, and stop the page until it is there."""
    if key not in works():
        start(key, label, run)
        works()[key].wait(2.0)  # what is quick is not worth a progress bar
    result = finished(key)
    if result is None:
        work = works().get(key)
        over = work is not None and not work.running
        if over and st.button("Try again", key=f"again {key}"):
            works().pop(key)
            st.rerun()
        st.stop()
    return result


@st.fragment(run_every=0.7)
def _watch(key: str) -> None:
    """Show steps and time left; the whole page runs again when the work is over."""
    work = works().get(key)
    if work is None or not work.running:
        st.rerun()
        return
    done, total, label = work.state
    left = work.seconds_left
    words = f"{work.label}: {label}" + (f", {done} of {total}" if total > 1 else "")
    words += f", about {max(round(left), 1)} s left" if left is not None else ""
    bar, button = st.columns([5, 1], vertical_alignment="center")
    bar.progress(min(done / total, 1.0) if total else 0.0, text=words)
    if button.button("Stop", key=f"stop {key}", icon=":material/stop:", width="stretch"):
        work.cancel()
        st.rerun()
