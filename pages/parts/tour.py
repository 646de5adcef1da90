"""The guided tour: four steps, shown until it is dismissed."""

from __future__ import annotations

import streamlit as st

_STEPS = (
    ("Choose", "Pick a model and what it is to forget. Everything is ready for the bundled one."),
    ("Localize", "Trace where the model recalls it, and click the cells that matter."),
    ("Edit & test", "Remove it there, and watch the answers change. Nothing is overwritten."),
    ("Export", "Write a checkpoint that plain transformers loads, verified in a clean process."),
)


def tour() -> None:
    """Show the steps on first use."""
    if st.session_state.get("tour done"):
        return
    with st.container(border=True, key="tour"):
        st.markdown("**Where does a model recall a fact, can it be removed there, does it stay?**")
        for column, (number, (title, text)) in zip(
            st.columns(len(_STEPS)), enumerate(_STEPS, start=1), strict=True
        ):
            column.markdown(f"**{number}. {title}**")
            column.caption(text)
        with st.container(horizontal=True):
            st.page_link("localize.py", label="Begin", icon=":material/arrow_forward:")
            if st.button("Hide this", key="hide tour", type="tertiary"):
                st.session_state["tour done"] = True
                st.rerun()
