"""Compare: studies of several methods, one table, and any of their edits loaded."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from workbench.compare.estimate import estimate
from workbench.compare.runner import cells_dir, run_study, tasks_of
from workbench.compare.study import Study, read_study
from workbench.compare.table import StudyResult, gather
from workbench.errors import WorkbenchError
from workbench.figures.studies import pareto
from workbench.models.bundled import BUNDLES
from workbench.study_report import headers, html, read_results, rows
from workbench.workspace import StackedEdit

from parts import show
from parts.background import finished, start
from parts.state import keep, store, workspace


def main() -> None:
    """Draw the page."""
    st.title("Compare")
    chosen = _study()
    if chosen is None:
        return
    study, shipped = chosen
    try:
        with st.spinner("Reading the study …"):
            tasks = tasks_of(study, cells_dir())
            left = estimate(study, tasks, cells_dir())
    except WorkbenchError as error:  # its model may not be here, what was published is
        if not shipped.is_dir():
            raise
        st.warning(show.plain(str(error)), icon=":material/warning:")
        _published(shipped)
        return
    st.caption(left.words())
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Run what is left", type="primary", key="run study", disabled=left.left == 0):
            runs = store()
            start(
                "study", f"Study {study.name}", lambda p: run_study(study, store=runs, progress=p)
            )
    finished("study")
    if left.done:
        _shown(gather(study, tasks))
    elif shipped.is_dir():
        _published(shipped)
    else:
        show.empty("Nothing of this study was run yet.")


def _published(folder: Path) -> None:
    st.caption("Its results as they were published; the edits themselves are made by running.")
    _shown(read_results(folder))


def _study() -> tuple[Study, Path] | None:
    """Return the chosen study, and the folder beside it where its results may be."""
    found = (path for b in BUNDLES for path in sorted((b.folder / "studies").glob("*.toml")))
    names = {path.stem: path for path in found}
    ways = [*names, "a file"]
    which = st.selectbox("Study", ways, key="study")
    if which != "a file":
        path = names[str(which)]
        return read_study(path), path.with_suffix("")
    written = st.text_input("Path of a study file (TOML)", key="study file").strip()
    if not written:
        show.empty("Give the path of a study: what to compare, at which places, with which seeds.")
        return None
    path = Path(written).expanduser()
    return read_study(path), path.with_suffix("")


def _shown(result: StudyResult) -> None:
    show.chart(pareto(result.table), "forgotten against kept", result.table)
    asked = f", of {result.study.limit} kept facts at most" if result.study.limit else ""
    st.caption(f"Methods and places; means with 95 % intervals over seeds{asked}.")
    names = headers(result)
    st.dataframe(
        [dict(zip(names, row, strict=True)) for row in rows(result)],
        hide_index=True,
        width="stretch",
        column_config=dict.fromkeys(names[:2], st.column_config.Column(width="medium")),
    )
    st.download_button(
        "Report (HTML)",
        lambda: html(result),
        f"{result.study.name}.html",
        "text/html",
        key="study report",
        on_click="ignore",
        icon=":material/download:",
    )
    st.caption("Cells. Tick one to load its edit.")
    cells = result.cells
    event = st.dataframe(
        cells,
        hide_index=True,
        width="stretch",
        on_select="rerun",
        selection_mode="single-row",
        key="study cells",
    )
    ticked = [i for i in event["selection"]["rows"] if i < len(cells)]
    if ticked:
        _load(result, dict(cells.iloc[ticked[0]]))


def _load(result: StudyResult, cell: dict) -> None:
    if cell["status"] == "failed":
        st.warning(show.plain(str(cell["error"])), icon=":material/warning:")
    run = cell["run"]
    if not isinstance(run, str) or not run:
        return
    if run not in {r.id for r in store().list()}:
        st.caption("This edit's run is not on this machine; run the study to make it.")
        return
    name = f"{cell['method']} at {cell['place']}, seed {cell['seed']}"
    if st.button(f"Load this edit: {show.plain(name)}", key="load edit"):
        here = workspace()
        study = result.study
        if (here.model, here.request) != (study.model, study.request):
            here = type(here)(study.model, study.request)
        keep(here.stacked(StackedEdit(run, name)))
        st.switch_page("edit_test.py")


main()
