"""The workbench in the browser: router, sidebar, and the address that can be shared."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from workbench.errors import WorkbenchError  # noqa: E402

from parts.sidebar import sidebar  # noqa: E402 - the pages' own parts lie beside this file
from parts.state import workspace  # noqa: E402

st.set_page_config(page_title="Edit workbench", page_icon=":material/healing:", layout="wide")
pages = {
    "model": st.Page(
        "model_facts.py", title="Model & facts", icon=":material/database:", default=True
    ),
    "browse": st.Page("browse.py", title="Browse circuits", icon=":material/account_tree:"),
    "localize": st.Page("localize.py", title="Localize", icon=":material/my_location:"),
    "edit": st.Page("edit_test.py", title="Edit & test", icon=":material/edit:"),
    "repair": st.Page("repair.py", title="Repair", icon=":material/healing:"),
    "attack": st.Page("attack.py", title="Attack", icon=":material/swords:"),
    "compare": st.Page("compare.py", title="Compare", icon=":material/leaderboard:"),
    "export": st.Page("export.py", title="Export", icon=":material/save:"),
    "runs": st.Page("runs.py", title="Runs", icon=":material/history:"),
}
page = st.navigation(list(pages.values()))
try:
    workspace()  # what is wrong with the address is a notice
    if notice := st.session_state.pop("notice", None):
        st.toast(notice)
    sidebar()
    page.run()
except WorkbenchError as error:
    st.error(str(error), icon=":material/error:")
st.query_params.from_dict(workspace().to_query())
