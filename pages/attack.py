"""Attack: does what was removed come back?"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from workbench.attack.registry import ATTACKS, attacks_for
from workbench.attack.robustness import Robustness
from workbench.figures.attacks import recovered_bars
from workbench.models.load import oracle_for
from workbench.plans.attack import AttackPlan, attack_missing, attacked
from workbench.workspace.workspace import delta_files

from parts import show
from parts.background import finished, start
from parts.state import base, edited, request, store, workspace

_QUICK = ("rephrased", "pictures", "multiple_choice", "answer_prefix", "quantization")
_COLUMNS = {
    "attack": "attack",
    "setting": "worst setting",
    "value": "attacked",
    "before": "without",
    "base": "base",
    "recovered": "brought back",
    "oracle_recovered": "oracle",
    "n": "n",
    "note": "note",
}


def main() -> None:
    """Draw the page."""
    st.title("Attack")
    if not workspace().active:
        show.empty("No edit is switched on. Make one first.", "edit_test.py", "Edit & test")
        return
    plan = _plan()
    finished("attack")  # its progress; the result is read from its run
    known = attacked(plan, store())
    if not known:
        show.empty("No attack was tried on this edit yet. Choose some and press Attack.")
        return
    _shown(Robustness(tuple(known.values())))


def _plan() -> AttackPlan:
    there = attacks_for(request())
    names = st.multiselect(
        "Attacks",
        there,
        default=[name for name in _QUICK if name in there],
        format_func=lambda name: f"{name}: {ATTACKS[name].summary}",
        key="attacks",
    )
    here = workspace()
    plan = AttackPlan(
        here.model,
        request=here.request,
        deltas=delta_files(here.active, store()),
        oracle=oracle_for(here.model),
        attacks=tuple(names) or tuple(name for name in _QUICK if name in there),
    )
    if plan.oracle:
        st.caption(
            f"The same attacks go through the base and through {plan.oracle}, which never knew."
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Attack", type="primary", icon=":material/swords:", key="attack"):
            fork, victim, wanted, runs = base().fork(), edited().fork(), request(), store()
            start(
                "attack",
                "Attacking",
                lambda p: attack_missing(plan, fork, victim, wanted, store=runs, progress=p),
            )
        show.copy_plan(plan, "copy attack")
    return plan


def _shown(found: Robustness) -> None:
    worst = found.headline
    allowed = st.slider(
        "Share that may come back",
        0.0,
        1.0,
        0.1,
        0.01,
        help="0: nothing that was removed comes back. 1: everything does.",
        key="allowed",
    )
    if worst is None:
        st.warning("No attack could be measured.", icon=":material/warning:")
    else:
        words = (
            f"The worst attack is {worst['attack']} ({worst['setting']}): it brings back "
            f"{max(worst['recovered'], 0):.0%} of what was removed."
        )
        held = worst["recovered"] <= allowed
        (st.success if held else st.error)(
            show.plain(words), icon=":material/shield:" if held else ":material/gpp_bad:"
        )
    table = found.table
    show.chart(recovered_bars(table, allowed=allowed), "recovered", table)
    st.dataframe(table[list(_COLUMNS)].rename(columns=_COLUMNS), hide_index=True, width="stretch")
    _one(found)


def _one(found: Robustness) -> None:
    """Show one attack's settings and what the model said."""
    measured = [r for r in found.results if not r.failed]
    if not measured:
        return
    names = [r.attack for r in measured]
    name = st.segmented_control("One attack", names, default=names[0], key="one", required=True)
    result = measured[names.index(str(name))]
    st.dataframe(result.cells, hide_index=True, width="stretch")
    st.caption("Some of the answers: right ones first.")
    answers = result.examples.sort_values("value", ascending=False)
    st.dataframe(pd.DataFrame(answers), hide_index=True, width="stretch")


main()
