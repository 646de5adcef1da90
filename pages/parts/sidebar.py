"""The sidebar: what is at hand - model, request, chosen components, the stack of edits."""

from __future__ import annotations

import streamlit as st

from workbench.workspace import StackedEdit

from parts.background import works
from parts.show import plain
from parts.state import keep, workspace


def sidebar() -> None:
    """Draw it."""
    here = workspace()
    with st.sidebar:
        st.markdown("##### Workspace")
        st.caption("Model")
        st.text(here.model)
        st.caption("Request")
        st.text(here.request.rsplit("/", 1)[-1].removesuffix(".json"))
        st.caption("Chosen components")
        if here.selection:
            for site, chosen in here.selection.items():
                st.text(f"{site}: {chosen}")
        else:
            st.text("none yet")
        st.caption("Edits")
        if not here.edits:
            st.text("none yet")
        for edit in here.edits:
            _edit(edit)
        for key, work in list(works().items()):
            if work.running:
                st.caption(f":material/progress_activity: {work.label}")
            elif work.status == "finished" and not key.startswith(("load", "request")):
                st.caption(f":material/check: {work.label}: done")


def _edit(edit: StackedEdit) -> None:
    def switch() -> None:
        keep(workspace().changed(edit.run, on=st.session_state[f"on {edit.run}"]))

    st.session_state[f"on {edit.run}"] = edit.on
    st.toggle(
        f"{plain(edit.name)} at {edit.strength:g}",
        key=f"on {edit.run}",
        on_change=switch,
        help="Switch this edit on or off; the base model never changes.",
    )
