"""What an edit did: next tokens, scorecard, weights, and the trace again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from workbench.errors import WorkbenchError
from workbench.facts.prompts import without_template
from workbench.figures.cells import cell_panels
from workbench.figures.grids import common_limit, grids_of
from workbench.figures.scorecards import scorecard_bars
from workbench.figures.theme import measure_label
from workbench.localize.difference import difference
from workbench.localize.localization import Localization
from workbench.measure.definitions import definition
from workbench.measure.next_tokens import next_tokens
from workbench.measure.scorecard import Scorecard
from workbench.models.model import Model
from workbench.plans import LocalizePlan, MeasurePlan, plan_of
from workbench.plans.measure import measure_both, measured
from workbench.plans.trace_again import run_trace_again, traced_again
from workbench.progress import Progress
from workbench.workspace import StackedEdit
from workbench.workspace.workspace import delta_files

from parts import show
from parts.background import finished, start
from parts.state import base, edited, request, store, workspace

_LIMIT = 40  # kept facts asked about in a scorecard, so that it takes seconds


def measure_plan(edits: tuple[StackedEdit, ...]) -> MeasurePlan:
    """Return the plan to measure some edits together."""
    here = workspace()
    files = delta_files(edits, store())
    return MeasurePlan(here.model, request=here.request, deltas=files, limit=_LIMIT)


def token_table(left: Model, right: Model) -> None:
    """Compare the likeliest next tokens of two models."""
    every = dict.fromkeys(f.prompt for f in (*request().forget, *request().evaluate))
    prompts = list(every)[:400]
    asked = without_template(base(), prompts)
    prompt = st.selectbox("Prompt", prompts, format_func=asked.__getitem__, key="token prompt")
    own = st.text_input("or one of your own", key="own prompt text")
    table = next_tokens(left, right, own or prompt, k=10)
    table["moved"] = [f"↑ {r}" if r > 0 else f"↓ {-r}" if r < 0 else "=" for r in table["rise"]]
    st.dataframe(
        table,
        column_config={
            "token": "next token",
            "p_before": st.column_config.ProgressColumn(
                "left", min_value=0.0, max_value=1.0, format="%.3f"
            ),
            "p_after": st.column_config.ProgressColumn(
                "right", min_value=0.0, max_value=1.0, format="%.3f"
            ),
            "rank_before": "rank left",
            "rank_after": "rank right",
            "moved": st.column_config.TextColumn("moved", help="Ranks it rose or fell by."),
        },
        column_order=["token", "p_before", "p_after", "rank_before", "rank_after", "moved"],
        hide_index=True,
        width="stretch",
    )


def scorecard() -> None:
    """Show every measure of the stack beside the base's."""
    wanted, runs = request(), store()
    plan = measure_plan(workspace().active)
    if finished("measure") is not None:
        st.rerun()
    before = measured(measure_plan(()), base(), wanted, runs)
    after = measured(plan, base(), wanted, runs)
    if before is None or after is None:
        st.write("The stack as it stands now was not measured yet.")
        if st.button("Measure", key="measure", type="primary"):
            fork, now = base().fork(), edited().fork()
            start(
                "measure",
                "Measuring",
                lambda p: measure_both(plan, fork, now, wanted, store=runs, progress=p),
            )
            st.rerun()
        return
    show.chart(scorecard_bars(before, after), "scorecard", after.to_frame())
    _table(before, after)
    st.caption("Low and high: 95 % interval.")
    show.copy_plan(plan, "copy measure")


def _table(before: Scorecard, after: Scorecard) -> None:
    columns = ["measure", "before", "after", "low", "high", "n", "what it is"]
    rows = [
        (measure_label(m), before.value(m), new.value, new.low, new.high, new.n, definition(m))
        for m, new in after.scores.items()
        if new
    ]
    st.dataframe(
        pd.DataFrame(rows, columns=columns),
        hide_index=True,
        width="stretch",
        column_config={c: st.column_config.NumberColumn(format="%.3f") for c in columns[1:5]},
    )


def weights() -> None:
    """Show what each edit changed, matrix by matrix, and that nothing else did."""
    for edit in workspace().edits:
        record = store().get(edit.run)
        summary = record.json("edit")
        st.markdown(f"**{show.plain(edit.name)}**")
        if summary.get("failed"):
            st.warning(str(summary["failed"]))
        same = (
            "every value outside the components is byte-equal to the base"
            if summary["unchanged_outside"]
            else "values outside the components changed"
        )
        st.caption(
            f"{summary['parameters_touched']:,} parameters lie in {summary['components']}; {same}. "
            f"{summary['seconds']:.1f} s."
        )
        steps = record.table("steps")
        st.dataframe(steps, hide_index=True, width="stretch")
    st.caption(
        "residual: share of the asked change that was not reached. retain_change: relative change "
        "of the outputs that were to stay. relative_norm: size of the change against the matrix's."
    )


def trace_again() -> None:
    """Trace the edited model as the base was traced: has recall gone, or moved?"""
    here = workspace()
    if not here.trace:
        show.empty("Trace the base first.", "localize.py", "Localize")
        return
    record = store().get(here.trace)
    plan = plan_of("localize", record.config)
    if not isinstance(plan, LocalizePlan):
        raise WorkbenchError("The run that is looked at is no localization; choose another.")
    before = Localization.load(record.path)
    if finished("trace again") is not None:
        st.rerun()
    after = traced_again(plan, edited(), store())
    if after is None:
        st.write("The same trace of the edited model, in units of the base's effect.")
        if st.button("Trace again", key="trace again", type="primary"):
            start("trace again", "Tracing the edited model", _tracing(plan, before))
            st.rerun()
        return
    limit = common_limit([g for t in (before, after) for g in grids_of(t)])
    for title, found, name in (
        ("Base", before, "trace base"),
        ("Edited, in units of the base's effect", after, "trace edited"),
        ("Difference: blue is recall that is gone", difference(after, before), "difference"),
    ):
        show.chart(cell_panels(found, title=title, limit=limit), name, found.table)
    st.caption(
        f"The right answer's probability was {before.clean:.2f} and is {after.clean:.2f}. "
        "Orange in the difference would be recall that moved there."
    )


def _tracing(plan: LocalizePlan, before: Localization) -> Callable[[Progress], Any]:
    fork, now, wanted, runs = base().fork(), edited().fork(), request(), store()
    return lambda p: run_trace_again(plan, before, fork, now, wanted, store=runs, progress=p)
