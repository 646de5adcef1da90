"""Browse circuits: how the model recalls one answer, from tokens and layers to single neurons."""

from __future__ import annotations

import streamlit as st

from parts.cell_panel import lens_section
from parts.circuit_view import circuit_section
from parts.looking import look


def main() -> None:
    """Draw the page."""
    st.title("Browse circuits")
    chosen = look()
    if chosen is None:
        return
    lens_section(chosen)
    st.divider()
    circuit_section(chosen)


main()
