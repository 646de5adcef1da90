"""The stack of edits: order, names, pins, undo."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from workbench.workspace import StackedEdit, Workspace

from parts.state import keep, workspace


def stack_panel() -> None:
    """Draw one row an edit."""
    edits = workspace().edits
    with st.expander(f"Stack: {len(edits)} edit{'s' if len(edits) != 1 else ''}"):
        st.caption("Edits add up, so their order says only how they were made.")
        for i, edit in enumerate(edits):
            _row(edit, i, len(edits))


def _row(edit: StackedEdit, place: int, count: int) -> None:
    name, pin, up, down, undo = st.columns([6, 1, 1, 1, 1], vertical_alignment="bottom")
    key = f"name {edit.run}"
    given = name.text_input("Name", edit.name, key=key, label_visibility="collapsed")
    if given.strip() and given != edit.name:
        _do(lambda here: here.changed(edit.run, name=given.strip()))
    icon = ":material/keep:" if edit.pinned else ":material/keep_off:"
    if pin.button("", icon=icon, key=f"pin {edit.run}", help="Pin: first in comparisons"):
        _do(lambda here: here.changed(edit.run, pinned=not edit.pinned))
    if up.button("", icon=":material/arrow_upward:", key=f"up {edit.run}", disabled=place == 0):
        _do(lambda here: here.moved(edit.run, -1))
    last = place == count - 1
    if down.button("", icon=":material/arrow_downward:", key=f"down {edit.run}", disabled=last):
        _do(lambda here: here.moved(edit.run, 1))
    if undo.button("", icon=":material/undo:", key=f"undo {edit.run}", help="Take it off"):
        _do(lambda here: here.without(edit.run))


def _do(change: Callable[[Workspace], Workspace]) -> None:
    keep(change(workspace()))
    st.rerun()
