"""Localize: where the model recalls the facts, and which components to edit."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import streamlit as st

from workbench.edit.buffer import Site
from workbench.edit.stamp import SITES
from workbench.errors import WorkbenchError
from workbench.figures.cells import cell_panels, cells_of, head_cells
from workbench.figures.theme import LOST_BY, kind_label, method_label
from workbench.job_inputs import job_settings
from workbench.localize.agreement import agreement
from workbench.localize.controls import random_components
from workbench.localize.corruption import corruptions_for
from workbench.localize.localization import Localization
from workbench.localize.metrics import METRICS
from workbench.localize.registry import LOCALIZERS
from workbench.localize.sites import recall_sites
from workbench.models.components import Component, ComponentSet
from workbench.plans import LocalizePlan, plan_of, run_localize
from workbench.store.run import RunRecord
from workbench.workspace.choosing import by_site, with_cells

from parts import show
from parts.background import finished, start
from parts.pictures import scores_on_picture
from parts.state import base, keep, request, say, store, workspace
from parts.tray import tray

_DEFAULT = "automatic"
_HELP = {
    "causal_tracing": "Lose the subject, restore one place at a time: what brings the answer back?",
    "activation_patching": "The same with another subject in its place, heads included; exact.",
    "attribution_patching": "A gradient's estimate of activation patching; fast.",
    "fact_lookup": "Probes: from which layer on can the answer be read at the subject?",
    "logit_lens": "What each component writes towards the answer directly.",
}


@st.cache_data(show_spinner=False, max_entries=8)
def _load(run: str, root: str) -> Localization:
    return Localization.load(store().get(run).path)


def main() -> None:
    """Draw the page."""
    st.title("Localize")
    wanted = request()
    plan = _controls(wanted.forget.relations, wanted.forget.subjects)
    made = finished("localize")
    if made is not None:
        keep(replace(workspace(), trace=made))
        st.rerun()
    here = workspace()
    if not here.trace:
        show.empty(f"Nothing is localized yet. Press Localize: {plan.command()}")
    else:
        _result(here.trace)
    st.divider()
    tray()


def _controls(relations: tuple[str, ...], subjects: tuple[str, ...]) -> LocalizePlan:
    here = workspace()
    columns = [*st.columns(3), *st.columns(2)]
    method = columns[0].selectbox(
        "Method", list(LOCALIZERS), format_func=method_label, key="method", help=_help()
    )
    relation = columns[1].selectbox(
        "Relation",
        ["all", *relations],
        key="which relation",
        help="Which of the facts to forget are looked at.",
    )
    subject = columns[2].selectbox("Subject", ["all", *subjects], key="which subject")
    patching = method in ("causal_tracing", "activation_patching", "attribution_patching")
    corruption = columns[3].selectbox(
        "How the subject is lost",
        [*corruptions_for(base())],
        format_func=lambda c: LOST_BY.get(c, c),
        disabled=not patching,
        key="corruption",
    )
    metric = columns[4].selectbox(
        "Metric",
        [_DEFAULT, *METRICS],
        format_func=lambda m: m.replace("_", " "),
        disabled=not patching,
        key="metric",
        help="What is compared: the answer's probability, its logarithm, or its logit minus the "
        "wrong answer's.",
    )
    with st.expander("More settings"):
        more = st.columns(4)
        most = more[0].number_input("Most facts", 1, 400, 16, key="most")
        samples = more[1].number_input(
            "Corrupted samples", 1, 50, 3, disabled=not patching, key="samples"
        )
        window = more[2].number_input(
            "Layers restored together",
            1,
            15,
            job_settings(here.request).window,
            disabled=method != "causal_tracing",
            help="MLPs and attentions of this many layers in a row.",
            key=f"window {here.request}",
        )
        seed = more[3].number_input("Seed", 0, 10_000, 0, key="seed")
    plan = LocalizePlan(
        here.model,
        request=here.request,
        method=method,
        corruption=corruption if patching else None,
        samples=int(samples) if patching else None,
        metric=None if not patching or metric == _DEFAULT else metric,
        window=int(window) if method == "causal_tracing" and window > 1 else None,
        relation=None if relation == "all" else relation,
        subject=None if subject == "all" else subject,
        most=int(most),
        seed=int(seed),
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Localize", type="primary", icon=":material/my_location:", key="localize"):
            fork, wanted, runs = base().fork(), request(), store()
            start(
                "localize",
                method_label(method),
                lambda p: run_localize(plan, fork, wanted, store=runs, progress=p).run,
            )
        show.copy_plan(plan, "copy localize")
    return plan


def _help() -> str:
    return "\n\n".join(f"**{method_label(m)}**: {text}" for m, text in _HELP.items())


def _runs_of_model() -> list[RunRecord]:
    """Return the finished localizations of this model, newest first."""
    found = [r for r in store().newest() if r.kind == "localize" and r.status == "FINISHED"]
    return [r for r in found if r.config.get("model") == workspace().model]


def _run_words(record: RunRecord) -> str:
    config = record.config
    what = [config.get("subject"), config.get("relation"), config.get("corruption")]
    about = ", ".join(str(w) for w in what if w)
    method = method_label(str(config.get("method", "")))
    return f"{method}{', ' + about if about else ''} ({record.started[11:16]}, {record.id[-6:]})"


def _result(run: str) -> None:
    records = {r.id: r for r in _runs_of_model()}
    if run not in records:
        st.warning(f"The run {run} is gone or belongs to another model; localize again.")
        return
    left, right = st.columns(2)
    ids = list(records)
    shown = left.selectbox(
        "Shown",
        ids,
        index=ids.index(run),
        format_func=lambda i: _run_words(records[i]),
        key=f"shown {run}",
    )
    if shown != run:
        keep(replace(workspace(), trace=shown))
        st.rerun()
    other = right.selectbox(
        "Beside it",
        ["", *(i for i in ids if i != run)],
        format_func=lambda i: _run_words(records[i]) if i else "nothing",
        key="beside",
    )
    found = _load(run, str(store().root))
    _baselines(found)
    if other:
        second = _load(other, str(store().root))
        _side_by_side(found, second, records, run, other)
    else:
        _panels(found, f"trace {run}", method_label(found.method))
    scores_on_picture(found)
    _heads(found)
    _widgets(found)
    plan = plan_of("localize", records[run].config)
    show.copy_plan(plan, "copy shown")


def _baselines(found: Localization) -> None:
    columns = st.columns(4)
    columns[0].metric("Facts", found.n_facts, help="Facts the model knows, over which it is meant.")
    columns[1].metric("Clean", f"{found.clean:.3f}", help="The metric with the subject as it is.")
    columns[2].metric(
        "Corrupted", f"{found.corrupted:.3f}", help="The metric with the subject lost."
    )
    columns[3].metric("Left out", len(found.left_out), help="Facts that the model does not know.")
    st.caption(
        "Effect: 0 is the corrupted run, 1 brings the whole answer back. "
        "Click cells, or draw a box, to choose components."
    )


def _panels(found: Localization, key: str, title: str, limit: float | None = None) -> None:
    figure = cell_panels(found, title=title, limit=limit)
    event = show.chart(figure, key, found.table, select=True)
    cells = cells_of(event)
    if cells and st.session_state.get(f"taken {key}") != cells:
        st.session_state[f"taken {key}"] = cells
        new, left = with_cells(workspace(), cells)
        keep(new)
        if left:
            say("The residual stream is no component; its MLPs and attentions are.")
        st.rerun()


def _side_by_side(
    a: Localization, b: Localization, records: dict[str, RunRecord], run: str, other: str
) -> None:
    top = st.slider("Best cells to compare", 1, 30, 10, key="top k")
    rows = []
    for kind in (k for k in a.kinds if k in b.kinds):
        try:
            same = agreement(a, b, kind, top_k=top)
        except WorkbenchError:
            continue
        rows.append((kind_label(kind), same.spearman, same.overlap, same.n))
    _panels(a, f"trace {run}", _run_words(records[run]))
    _panels(b, f"trace {other}", _run_words(records[other]))
    if rows:
        st.dataframe(
            pd.DataFrame(rows, columns=["cells", "rank correlation", f"top-{top} overlap", "n"]),
            hide_index=True,
            width="stretch",
        )
        st.caption(
            "Rank correlation: Spearman's, over all cells both scored. Overlap: share of the best "
            "cells that both name."
        )
    else:
        st.info("The two have no cells in common: localize the same facts, or all of them.")


def _heads(found: Localization) -> None:
    if "head" not in found.kinds:
        return
    heads = found.table[found.table["kind"] == "head"]
    roles = list(dict.fromkeys(heads["role"]))
    best = str(heads.loc[heads["score"].abs().idxmax(), "role"])
    role = st.selectbox("Heads at the", roles, index=roles.index(best), key="head role")
    event = show.chart(head_cells(found, role), f"heads {role}", heads, select=True)
    cells = cells_of(event)
    if cells and st.session_state.get("taken heads") != cells:
        st.session_state["taken heads"] = cells
        keep(with_cells(workspace(), cells)[0])
        st.rerun()


def _widgets(found: Localization) -> None:
    """Offer what a click does, and ways to choose many at once."""
    kinds = [k for k in found.kinds if k != "resid"]
    one, many = st.columns(2, gap="large")
    with one, st.form("add cell", border=True):
        st.markdown("**Add one component**")
        columns = st.columns(2)
        kind = columns[0].selectbox("Kind", kinds or ["mlp"], key="add kind")
        site: Site = columns[1].selectbox("Site", SITES, key="add site")
        layer = columns[0].number_input("Layer", 0, base().n_layers - 1, 0, key="add layer")
        head = columns[1].number_input(
            "Head, if it is one", 0, base().structure.n_heads - 1, 0, key="add head"
        )
        if st.form_submit_button("Add"):
            chosen = Component(int(layer), kind, int(head) if kind == "head" else -1)
            keep(workspace().adding(site, [chosen]))
            st.rerun()
    with many, st.form("choose", border=True):
        st.markdown("**Choose by the scores**")
        columns = st.columns(2)
        how = columns[0].selectbox("By", list(_WAYS), key="choose by")
        value = columns[1].number_input(
            "Number, share of parameters, or least effect", 0.0, 1e9, 0.2, key="choose value"
        )
        if st.form_submit_button("Choose"):
            _choose(found, how, float(value))


_WAYS = ("recall sites", "parameter budget", "count", "threshold", "random of that budget")


def _sites(found: Localization, share: float) -> dict[Site, ComponentSet]:
    first = job_settings(workspace().request).first
    return recall_sites(found, share=max(share, 0.01), first=first)


def _choose(found: Localization, how: str, value: float) -> None:
    if how == "recall sites":
        keep(replace(workspace(), selection=_sites(found, value)))
    elif how == "random of that budget":
        chosen = random_components(base().structure, value, seed=int(found.config.get("seed", 0)))
        keep(replace(workspace(), selection={"subject": chosen}))
    else:
        options = {"parameter budget": "parameters", "count": "k", "threshold": "threshold"}
        number = int(value) if how == "count" else value
        ranked = found.choose(**{options[how]: number})
        keep(replace(workspace(), selection=by_site(found, ranked)))
    st.rerun()


main()
