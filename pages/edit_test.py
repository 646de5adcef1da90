"""Edit & test: remove the facts at the chosen places, and see what changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import streamlit as st

from workbench.edit.registry import METHODS
from workbench.facts.prompts import without_template
from workbench.models.components import ComponentSet
from workbench.models.text import generate
from workbench.plans import EditPlan, run_edit
from workbench.plans.measure import measure_both
from workbench.progress import Progress
from workbench.store.timing import typical_seconds
from workbench.workspace import StackedEdit
from workbench.workspace.workspace import STRONGEST, delta_files

from parts import show
from parts.background import finished, start
from parts.compare import answers_table, sides
from parts.method_form import settings_form
from parts.stack import stack_panel
from parts.state import base, edited, keep, request, sites_needed, store, workspace
from parts.tests import measure_plan, scorecard, token_table, trace_again, weights


def main() -> None:
    """Draw the page."""
    st.title("Edit & test")
    plan = _plan()
    if plan is not None:
        _run(plan)
    made = finished("edit")
    if made is not None:
        keep(workspace().stacked(made))
        st.rerun()
    if not workspace().edits:
        show.empty("No edit yet. Choose where, press Edit, and the answers are compared here.")
        return
    st.divider()
    stack_panel()
    _strength()
    left, right = sides()
    names = ["Answers", "Next tokens", "Scorecard", "Weights", "Trace again"]
    tab = st.segmented_control("Test", names, default=names[0], key="tab", required=True)
    views: dict[str, Callable[[], None]] = {
        "Answers": lambda: answers_table(left, right),
        "Next tokens": lambda: token_table(left.model, right.model),
        "Scorecard": scorecard,
        "Weights": weights,
        "Trace again": trace_again,
    }
    views[str(tab)]()


def _plan() -> EditPlan | None:
    """Return the plan that the widgets say; None if nothing is chosen to edit."""
    here = workspace()
    columns = st.columns([2, 3])
    method = columns[0].selectbox(
        "Method",
        list(METHODS),
        format_func=lambda m: f"{m}: {METHODS[m].summary}",
        key="edit method",
    )
    ways = {"chosen": "the chosen components", "auto": "let causal tracing choose"}
    where = columns[1].radio(
        "Where",
        list(ways),
        index=0 if here.selection else 1,
        format_func=ways.__getitem__,
        horizontal=True,
        key=f"where {bool(here.selection)}",
    )
    settings = settings_form(method)
    if where == "chosen" and not here.selection:
        show.empty(
            "No component is chosen. Choose some on the page Localize, or let causal tracing.",
            "localize.py",
            "Localize",
        )
        return None
    chosen = {s: str(c) for s, c in here.selection.items()} if where == "chosen" else {}
    plan = EditPlan(
        here.model,
        request=here.request,
        subject=chosen.get("subject", ""),
        answer=chosen.get("answer", ""),
        auto=where == "auto",
        method=method,
        settings=settings,
        deltas=delta_files(here.active, store()),
    )
    _before_the_run(plan)
    return plan


def _before_the_run(plan: EditPlan) -> None:
    """Say what will be written, and how long it took before."""
    structure = base().structure
    usual = typical_seconds(store(), "edit", plan.model)
    time = f"about {max(usual, 1):.0f} s, as before" if usual else "no edit of this model yet"
    if plan.auto:
        sites = " and ".join(sites_needed())
        st.caption(f"Causal tracing chooses MLPs of the {sites} site. Time: {time}.")
        return
    chosen = [ComponentSet.parse(t) for t in (plan.subject, plan.answer) if t]
    every = ComponentSet(tuple(c for part in chosen for c in part))
    structure.check(every)
    with st.expander(
        f"Plan: {structure.n_parameters(every):,} parameters of {base().n_parameters:,}; "
        f"time: {time}"
    ):
        rows = []
        for component in every:
            parameter = structure.writer(component).parameter
            size = structure.n_parameters(ComponentSet((component,)))
            rows.append((str(component), parameter, size))
        st.dataframe(
            pd.DataFrame(rows, columns=["component", "matrix that is solved for", "parameters"]),
            hide_index=True,
            width="stretch",
        )


def _run(plan: EditPlan) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Edit", type="primary", icon=":material/edit:", key="edit"):
            plan.config()  # a wrong setting is told before the work begins
            start("edit", "Editing", _job(plan))
        show.copy_plan(plan, "copy edit")


def _job(plan: EditPlan) -> Callable[[Progress], StackedEdit]:
    """Return the work: edit, then measure what was not measured yet."""
    below, fork, wanted, runs = edited().fork(), base().fork(), request(), store()
    here, measuring = workspace(), measure_plan(())
    name = f"{plan.method} {len(here.edits) + 1}: {plan.subject or plan.answer or 'auto'}"

    def run(progress: Progress) -> StackedEdit:
        made = run_edit(plan, below, wanted, store=runs, progress=progress)
        edit = StackedEdit(made.run, name)
        files = delta_files((*here.active, edit), runs)
        full = replace(measuring, deltas=files)
        measure_both(full, fork, made.result.model, wanted, store=runs, progress=progress)
        return edit

    return run


@st.fragment
def _strength() -> None:
    """Turn one edit up and down, and watch one answer."""
    here = workspace()
    if not here.edits:
        return
    runs = [e.run for e in here.edits]
    which, slide, what = st.columns([2, 3, 3], vertical_alignment="bottom")
    run = which.selectbox(
        "Strength of", runs, len(runs) - 1, format_func=lambda r: here.edit(r).name, key="which"
    )
    value = slide.slider(
        "Strength",
        0.0,
        STRONGEST,
        here.edit(run).strength,
        0.05,
        key=f"strength {run}",
        help="0 is the base model, 1 the edit as it was made.",
    )
    if value != here.edit(run).strength:
        keep(here.changed(run, strength=value))
    asked = without_template(base(), [f.prompt for f in request().forget])
    prompt = what.selectbox("Watch", list(asked), format_func=asked.__getitem__, key="watch")
    before, after = (generate(m, [prompt], max_new_tokens=16)[0] for m in (base(), edited()))
    one, two = st.columns(2)
    with one.container(border=True):
        st.caption("Base")
        st.text(before or "(nothing)")
    with two.container(border=True, key="watched"):
        st.caption("Edited")
        show.answer_change(before, after)


main()
