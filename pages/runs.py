"""Runs: everything that was done, to look at, restore, compare or delete."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from workbench.errors import WorkbenchError
from workbench.plans import plan_of
from workbench.store.compare import differences, headline
from workbench.store.run import RunRecord
from workbench.store.timing import seconds_of
from workbench.workspace import StackedEdit

from parts import show
from parts.state import choose_model, keep, say, store, workspace

_ICONS = {
    "FINISHED": "finished",
    "RUNNING": "running",
    "FAILED": "failed",
    "INTERRUPTED": "interrupted",
    "BROKEN": "cannot be read",
}


def main() -> None:
    """Draw the page."""
    st.title("Runs")
    records = list(store().newest())
    if not records:
        show.empty("Nothing was run yet.", "localize.py", "Localize some facts")
        return
    found = _filtered(records)
    table = pd.DataFrame(
        [
            (
                r.started[:19].replace("T", " "),
                r.kind,
                _ICONS[r.status],
                headline(r),
                seconds_of(r),
                r.name.rsplit("/", 1)[-1].removesuffix(".json"),
                str(r.config.get("model", "")),
                r.id,
            )
            for r in found
        ],
        columns=["started (UTC)", "kind", "status", "numbers", "seconds", "request", "model", "id"],
    )
    event = st.dataframe(
        table,
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        key="runs",
        column_config={"seconds": st.column_config.NumberColumn(format="%.1f")},
    )
    rows = [i for i in event["selection"]["rows"] if i < len(found)]
    if not rows:
        st.caption("Tick one run to open it, two to compare them.")
    elif len(rows) == 1:
        _one(found[rows[0]])
    else:
        _two(found[rows[0]], found[rows[1]])


def _filtered(records: list[RunRecord]) -> list[RunRecord]:
    text, kind, status = st.columns([3, 1, 1])
    needle = text.text_input("Search", key="run search").casefold()
    kinds = sorted({r.kind for r in records if r.kind})
    one = kind.selectbox("Kind", ["all", *kinds], key="run kind")
    how = status.selectbox("Status", ["all", *_ICONS], format_func=_status, key="run status")
    return [
        r
        for r in records
        if one in ("all", r.kind)
        and how in ("all", r.status)
        and needle in f"{r.id} {r.name} {json.dumps(dict(r.config), default=str)}".casefold()
    ]


def _status(status: str) -> str:
    return _ICONS.get(status, status)


def _one(record: RunRecord) -> None:
    if record.error:
        st.warning(record.error, icon=":material/warning:")
    with st.container(horizontal=True, vertical_alignment="center"):
        if record.kind in ("localize", "edit") and st.button(
            "Restore into the workspace", type="primary", key="restore"
        ):
            _restore(record)
        with suppress(WorkbenchError):  # runs of other kinds are not repeated from here
            show.copy_plan(plan_of(record.kind, record.config), "copy run")
        with st.popover("Delete", icon=":material/delete:", type="tertiary"):
            st.write("The run and all that it wrote will be gone.")
            if st.button("Delete it", type="primary", key="delete run"):
                store().delete(record.id)
                keep(_forgotten(record.id))
                say("The run is deleted.")
                st.rerun()
    settings, files = st.columns([3, 2])
    settings.json(json.loads(json.dumps(dict(record.config), default=str)), expanded=True)
    artefacts = record.artefacts if record.status != "BROKEN" else ()
    files.caption("Files")
    files.text("\n".join(artefacts) or "none")
    for name in (a.removesuffix(".csv") for a in artefacts if a.endswith(".csv")):
        with st.expander(f"{name}.csv"):
            st.dataframe(record.table(name), hide_index=True, width="stretch")


def _forgotten(run: str) -> Any:
    here = workspace()
    left = here.without(run) if any(e.run == run for e in here.edits) else here
    return replace(left, trace="" if left.trace == run else left.trace)


def _restore(record: RunRecord) -> None:
    plan = plan_of(record.kind, record.config)
    choose_model(plan.model)
    here = replace(workspace(), request=getattr(plan, "request", "") or workspace().request)
    if record.kind == "localize":
        here = replace(here, trace=record.id)
    else:
        record.delta()  # a run without its edit is told at once
        here = here.stacked(StackedEdit(record.id, f"{record.name} {record.id[-6:]}"))
    keep(here)
    say("Restored.")
    st.rerun()


def _two(a: RunRecord, b: RunRecord) -> None:
    st.subheader("Difference of two runs")
    rows = differences(a, b)
    if rows.empty:
        st.info("They have the same settings and the same numbers.")
        return
    st.dataframe(
        rows.rename(columns={"first": a.id[-6:], "second": b.id[-6:]}),
        hide_index=True,
        width="stretch",
    )


main()
