"""How the pages show things: charts with their downloads, texts to copy, answers, definitions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

import pandas as pd
import streamlit as st
from plotly import graph_objects as go

from workbench.measure.word_diff import word_diff
from workbench.plans import Plan

_MARKS = {
    "same": "{}",
    "gone": '<del style="color:#d9771c">{}</del>',
    "new": '<ins style="color:#4a90c4;text-decoration:none;font-weight:600">{}</ins>',
}

_TABLE_STYLE = (
    "<style>.wb td,.wb th{text-align:left;vertical-align:top;padding:6px 14px 6px 0;"
    "border-bottom:1px solid rgba(127,127,127,.25);white-space:pre-wrap}.wb{width:100%;"
    "border-collapse:collapse;font-size:.92rem}.wb th{opacity:.65;font-weight:600}</style>"
)


def chart(
    figure: go.Figure, key: str, table: pd.DataFrame | None = None, *, select: bool = False
) -> dict[str, Any]:
    """Draw a figure with its downloads; return what is selected on it.

    The camera in its tool bar saves it as PNG.
    """
    config = {
        "displaylogo": False,
        "displayModeBar": True,
        "modeBarButtonsToRemove": ["autoScale2d"],
        "toImageButtonOptions": {"filename": key.replace(" ", "-"), "scale": 2},
    }
    options: dict[str, Any] = (
        {"on_select": "rerun", "selection_mode": ("points", "box")} if select else {}
    )
    event = st.plotly_chart(figure, key=key, theme=None, width="stretch", config=config, **options)
    with st.container(horizontal=True, horizontal_alignment="right", gap="small"):
        if table is not None:
            about = "The exact numbers of this picture."
            _download("csv", lambda: table.to_csv(index=False), key, about)
        _download(
            "html",
            lambda: figure.to_html(include_plotlyjs=True),
            key,
            "The picture as a page of its own. The camera on the picture saves a PNG.",
        )
    return event if select else {}  # type: ignore[return-value]


def _download(form: str, make: Callable[[], str], key: str, about: str) -> None:
    st.download_button(
        form.upper(),
        make,
        f"{key.replace(' ', '-')}.{form}",
        f"text/{form}",
        key=f"{form} {key}",
        type="tertiary",
        icon=":material/download:",
        on_click="ignore",
        help=about,
    )


def copy_plan(plan: Plan, key: str) -> None:
    """Offer the command line and the Python that do the same."""
    with st.popover("Copy as …", icon=":material/content_copy:", type="tertiary", key=key):
        st.caption("As command")
        st.code(plan.command(), language="bash", wrap_lines=True)
        st.caption("As Python")
        st.code(plan.python(), language="python", wrap_lines=True)


def answer_change(before: str, after: str) -> None:
    """Show an answer with the words that are gone and those that are new; nothing is rendered."""
    st.html(diff_html(before, after))


def diff_html(before: str, after: str) -> str:
    """Mark the changed words of an answer; every word is escaped."""
    pieces = (_MARKS[p.kind].format(escape(p.text)) for p in word_diff(before, after))
    return f'<span style="white-space:pre-wrap">{"".join(pieces) or "(nothing)"}</span>'


def table(headers: Sequence[str], rows: Iterable[Sequence[str | tuple[str, str]]]) -> None:
    """Draw a small table of texts; a pair, before and after, is drawn as its change."""
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    st.html(f'{_TABLE_STYLE}<table class="wb"><tr>{head}</tr>{lines}</table>')


def _cell(cell: str | tuple[str, str]) -> str:
    return f"<td>{escape(cell) if isinstance(cell, str) else diff_html(*cell)}</td>"


def empty(text: str, page: str | None = None, label: str = "") -> None:
    """Say what to do next where there is nothing to show yet."""
    with st.container(border=True):
        st.write(text)
        if page:
            st.page_link(page, label=label, icon=":material/arrow_forward:")


def plain(text: str) -> str:
    """Escape a text for a label, where Streamlit reads Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|:$~-])", r"\\\1", text)


def number(value: float | None, digits: int = 3) -> str:
    """Write a number for readers."""
    return "-" if value is None else f"{value:.{digits}f}"
