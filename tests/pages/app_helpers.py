"""Drive the app without a browser: open it, wait for its work, read what it says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

PAGES = Path(__file__).resolve().parents[2] / "pages"


def open_app(**query: str) -> AppTest:
    """Open the app as a new browser session."""
    at = AppTest.from_file(str(PAGES / "app.py"), default_timeout=120)
    for key, value in query.items():
        at.query_params[key] = value
    return settle(at.run())


def go(at: AppTest, page: str) -> AppTest:
    """Turn to a page."""
    return settle(at.switch_page(str(PAGES / f"{page}.py")).run())


def settle(at: AppTest, seconds: float = 180) -> AppTest:
    """Wait until no work is running, and fail on anything that was not meant."""
    end = time.monotonic() + seconds
    while any(w.running for w in _works(at).values()):
        assert time.monotonic() < end, "the work does not end"
        time.sleep(0.1)
    if _works(at):
        at.run()
    assert not at.exception, [e.value for e in at.exception]
    return at


def _works(at: AppTest) -> dict[str, Any]:
    return at.session_state["works"] if "works" in at.session_state else {}  # noqa: SIM401


def press(at: AppTest, key: str) -> AppTest:
    """Press a button."""
    return settle(at.button(key=key).click().run())


def select_points(at: AppTest, key: str, *points: list[Any]) -> AppTest:
    """Select marks of a chart, as a click or a box would."""
    at.session_state[key] = {"selection": {"points": [{"customdata": list(p)} for p in points]}}
    return settle(at.run())


def texts(at: AppTest) -> str:
    """Return everything that is written on the page."""
    kinds = (at.title, at.header, at.subheader, at.markdown, at.caption, at.text, at.code)
    boxes = (at.error, at.warning, at.info, at.success)
    return "\n".join(str(e.value) for kind in (*kinds, *boxes) for e in kind)
