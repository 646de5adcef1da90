"""The selection: components by site, their share of the parameters, and a way to write them."""

from __future__ import annotations

import streamlit as st

from workbench.edit.stamp import SITES
from workbench.models.components import ComponentSet

from parts import show
from parts.state import base, keep, workspace


def tray() -> None:
    """Show the selection: components, their share of the parameters, and a way to write it."""
    st.subheader("Chosen components")
    here = workspace()
    structure = base().structure
    whole = structure.n_parameters(structure.everything)
    for site, words in zip(
        SITES, ("at the subject's tokens", "where the answer is read out"), strict=True
    ):
        chosen = here.selection.get(site)
        text, share, clear = st.columns([4, 2, 1], vertical_alignment="bottom")
        written = text.text_input(
            f"{site.capitalize()} site: {words}",
            value=str(chosen or ""),
            key=f"tray {site} {chosen or ''}",
            placeholder='such as "mlp.1-3, head.4.0"',
        )
        if written != str(chosen or ""):
            new = ComponentSet.parse(written) if written.strip() else ComponentSet()
            structure.check(new)
            keep(here.selected(site, new))
            st.rerun()
        if chosen:
            n = structure.n_parameters(chosen)
            share.markdown(f"{n:,} parameters, {n / whole:.1%} of MLPs and attentions")
            if clear.button("Clear", key=f"clear {site}"):
                keep(here.selected(site, ComponentSet()))
                st.rerun()
    if here.selection:
        st.page_link("edit_test.py", label="Edit these", icon=":material/arrow_forward:")
    else:
        show.empty("Click cells above, or write components, to choose what to edit.")
