"""Edit & test: remove the facts at the chosen places, and see what changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pandas as pd
import streamlit as st

from workbench.edit.registry import METHODS, make_config, settings_help
from workbench.edit.targets import needed_sites
from workbench.errors import WorkbenchError
from workbench.figures.cells import cell_panels
from workbench.figures.grids import common_limit, grids_of
from workbench.figures.scorecards import scorecard_bars
from workbench.figures.theme import measure_label
from workbench.localize.difference import difference
from workbench.localize.localization import Localization
from workbench.measure.definitions import definition
from workbench.measure.next_tokens import next_tokens
from workbench.measure.scorecard import Scorecard
from workbench.models.components import ComponentSet
from workbench.models.text import generate
from workbench.plans import EditPlan, LocalizePlan, MeasurePlan, plan_of, run_edit, run_measure
from workbench.plans.edit import suggested_settings
from workbench.plans.trace_again import run_trace_again
from workbench.progress import Progress
from workbench.store.timing import typical_seconds
from workbench.workspace import StackedEdit
from workbench.workspace.workspace import STRONGEST, delta_files

from parts import show
from parts.background import finished, start
from parts.compare import answers_table, sides
from parts.stack import stack_panel
from parts.state import base, edited, keep, request, store, workspace

_FIRST = ("target", "solve", "strength", "rank", "weight", "tokens")
_LIMIT = 40  # kept facts asked about in a scorecard, so that it takes seconds


def main() -> None:
    """Draw the page."""
    st.title("Edit & test")
    plan = _plan()
    if plan is not None:
        _run(plan)
    made = finished("edit")
    if made is not None:
        edit, measured = made
        keep(workspace().stacked(edit))
        st.session_state.setdefault("cards", {}).update(measured)
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
        "Next tokens": lambda: _tokens(left.model, right.model),
        "Scorecard": _scorecard,
        "Weights": _weights,
        "Trace again": _trace_again,
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
    settings = _settings(method)
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


def _settings(method: str) -> dict[str, Any]:
    """Draw one widget a setting of the method; return those that differ from its defaults."""
    config = METHODS[method].config
    default, helps = config(), settings_help(method)
    suggested = suggested_settings(workspace().request)
    hints = get_type_hints(config)
    names = [f.name for f in fields(config) if f.name not in ("seed", "at")]
    first = [n for n in _FIRST if n in names]
    values: dict[str, Any] = {}
    for name, column in zip(first, st.columns(len(first)), strict=True):
        with column:
            values[name] = _setting(method, name, hints[name], default, suggested, helps)
    with st.expander("All settings"):
        rest = [n for n in names if n not in first]
        columns = st.columns(4)
        for i, name in enumerate(rest):
            with columns[i % 4]:
                values[name] = _setting(method, name, hints[name], default, suggested, helps)
    out = {n: v for n, v in values.items() if v != getattr(default, n)}
    sites = {k: v for k, v in suggested.items() if "." in k}
    if sites:
        words = ", ".join(f"{k} = {v}" for k, v in sites.items())
        st.caption(f"Suggested for this request at one site only: {words}")
    return out | sites


def _setting(
    method: str,
    name: str,
    hint: Any,
    default: Any,
    suggested: dict[str, Any],
    helps: dict[str, str],
) -> Any:
    value = suggested.get(name, getattr(default, name))
    label, key = name.replace("_", " "), f"{method} {name} {workspace().request}"
    options = _words(hint)
    if options:
        return st.selectbox(label, options, options.index(value), key=key, help=helps.get(name))
    if isinstance(value, bool):
        return st.checkbox(label, value, key=key, help=helps.get(name))
    if isinstance(value, float):
        step = 0.1 if value < 10 else 1.0
        small = 0 < value < 0.01
        return st.number_input(
            label,
            min_value=0.0,
            value=value,
            step=value if small else step,
            format="%.1e" if small else "%.2f",
            key=key,
            help=helps.get(name),
        )
    whole = st.number_input(
        label, min_value=0, value=value or 0, step=1, key=key, help=helps.get(name)
    )
    return None if value is None and whole == 0 else int(whole)


def _words(hint: Any) -> list[str]:
    """Return the words that a setting can be; empty if it is a number."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [w for part in get_args(hint) for w in _words(part)]


def _before_the_run(plan: EditPlan) -> None:
    """Say what will be written, and how long it took before."""
    structure = base().structure
    usual = typical_seconds(store(), "edit", plan.model)
    time = f"about {max(usual, 1):.0f} s, as before" if usual else "no edit of this model yet"
    if plan.auto:
        sites = " and ".join(needed_sites(base(), request()))
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
            make_config(plan.method, {})
            start("edit", "Editing", _job(plan))
        show.copy_plan(plan, "copy edit")


def _job(plan: EditPlan) -> Callable[[Progress], tuple[StackedEdit, dict[Any, Scorecard]]]:
    """Return the work: edit, then measure the base, if it was not yet, and the edited model."""
    below, fork, wanted, runs = edited().fork(), base().fork(), request(), store()
    cards: dict[Any, Scorecard] = st.session_state.get("cards", {})
    here = workspace()
    known = cards.get(_card_key(here.model, (), wanted.fingerprint))
    name = f"{plan.method} {len(here.edits) + 1}: {plan.subject or plan.answer or 'auto'}"

    def run(progress: Progress) -> tuple[StackedEdit, dict[Any, Scorecard]]:
        made = run_edit(plan, below, wanted, store=runs, progress=progress)
        edit = StackedEdit(made.run, name)
        active = (*here.active, edit)
        files = delta_files(active, runs)
        before = known
        if before is None:
            bare = MeasurePlan(plan.model, request=plan.request, limit=_LIMIT)
            before = run_measure(bare, fork, fork, wanted, store=runs, progress=progress).result
        after = run_measure(
            MeasurePlan(plan.model, request=plan.request, deltas=files, limit=_LIMIT),
            fork,
            made.result.model,
            wanted,
            base_card=before,
            store=runs,
            progress=progress,
        ).result
        return edit, {
            _card_key(plan.model, (), wanted.fingerprint): before,
            _card_key(plan.model, active, wanted.fingerprint): after,
        }

    return run


def _card_key(model: str, edits: tuple[StackedEdit, ...], request_fingerprint: str) -> Any:
    return (model, request_fingerprint, tuple(sorted((e.run, e.strength) for e in edits)))


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
    prompts = list(dict.fromkeys(f.prompt for f in request().forget))
    prompt = what.selectbox("Watch", prompts, key="watch")
    before, after = (generate(m, [prompt], max_new_tokens=16)[0] for m in (base(), edited()))
    one, two = st.columns(2)
    with one.container(border=True):
        st.caption("Base")
        st.text(before or "(nothing)")
    with two.container(border=True):
        st.caption("Edited")
        show.answer_change(before, after)


def _tokens(left: Any, right: Any) -> None:
    prompts = list(dict.fromkeys(f.prompt for f in (*request().forget, *request().evaluate)))
    prompt = st.selectbox("Prompt", prompts[:400], key="token prompt")
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


def _scorecard() -> None:
    wanted, here = request(), workspace()
    cards: dict[Any, Scorecard] = st.session_state.get("cards", {})
    before = cards.get(_card_key(here.model, (), wanted.fingerprint))
    after = cards.get(_card_key(here.model, here.active, wanted.fingerprint))
    plan = MeasurePlan(
        here.model, request=here.request, deltas=delta_files(here.active, store()), limit=_LIMIT
    )
    made = finished("measure")
    if made is not None:
        st.session_state.setdefault("cards", {}).update(made)
        st.rerun()
    if before is None or after is None:
        st.write("The stack as it stands now was not measured yet.")
        if st.button("Measure", key="measure", type="primary"):
            start("measure", "Measuring", _measuring(plan, before))
            st.rerun()
        return
    show.chart(scorecard_bars(before, after), "scorecard", after.to_frame())
    rows = [
        (
            measure_label(m),
            old.value if old else None,
            new.value,
            new.low,
            new.high,
            new.n,
            definition(m),
        )
        for m, new in after.scores.items()
        if new
        for old in [before.scores.get(m)]
    ]
    columns = ["measure", "before", "after", "low", "high", "n", "what it is"]
    st.dataframe(
        pd.DataFrame(rows, columns=columns),
        hide_index=True,
        width="stretch",
        column_config={c: st.column_config.NumberColumn(format="%.3f") for c in columns[1:5]},
    )
    st.caption("Low and high: 95 % interval.")
    show.copy_plan(plan, "copy measure")


def _measuring(
    plan: MeasurePlan, known: Scorecard | None
) -> Callable[[Progress], dict[Any, Scorecard]]:
    fork, now, wanted, runs = base().fork(), edited().fork(), request(), store()
    edits = ((), workspace().active)
    keys = [_card_key(plan.model, e, wanted.fingerprint) for e in edits]

    def run(progress: Progress) -> dict[Any, Scorecard]:
        bare = replace(plan, deltas=())
        before = (
            known or run_measure(bare, fork, fork, wanted, store=runs, progress=progress).result
        )
        after = run_measure(
            plan, fork, now, wanted, base_card=before, store=runs, progress=progress
        ).result
        return dict(zip(keys, (before, after), strict=True))

    return run


def _weights() -> None:
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


def _tracing(
    plan: LocalizePlan, before: Localization, key: str
) -> Callable[[Progress], tuple[str, str]]:
    fork, now, wanted, runs = base().fork(), edited().fork(), request(), store()

    def run(progress: Progress) -> tuple[str, str]:
        made = run_trace_again(plan, before, fork, now, wanted, store=runs, progress=progress)
        return key, made.run

    return run


def _trace_again() -> None:
    here = workspace()
    if not here.trace:
        show.empty("Trace the base first.", "localize.py", "Localize")
        return
    record = store().get(here.trace)
    plan = plan_of("localize", record.config)
    before = Localization.load(record.path)
    key = f"again {here.trace} {[(e.run, e.strength) for e in here.active]}"
    known: dict[str, str] = st.session_state.setdefault("traced again", {})
    made = finished("trace again")
    if made is not None:
        known[made[0]] = made[1]
        st.rerun()
    if key not in known:
        st.write("The same trace of the edited model, in units of the base's effect.")
        if st.button("Trace again", key="trace again", type="primary"):
            if not isinstance(plan, LocalizePlan):
                raise WorkbenchError("This run is no localization.")
            start("trace again", "Tracing the edited model", _tracing(plan, before, key))
            st.rerun()
        return
    after = Localization.load(store().get(known[key]).path)
    change = difference(after, before)
    limit = common_limit([g for t in (before, after) for g in grids_of(t)])
    for title, found, name in (
        ("Base", before, "trace base"),
        ("Edited, in units of the base's effect", after, "trace edited"),
        ("Difference: blue is recall that is gone", change, "trace difference"),
    ):
        show.chart(cell_panels(found, title=title, limit=limit), name, found.table)
    st.caption(
        f"The right answer's probability was {before.clean:.2f} and is {after.clean:.2f}. "
        "Orange in the difference would be recall that moved there."
    )


main()
