"""A plan before it is carried out, what a repair did, and the list of all repairs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import streamlit as st

from workbench.facts.prompts import without_template
from workbench.repair.ledger import Entry
from workbench.repair.plan import RepairPlan
from workbench.repair.service import Service
from workbench.repair.verify import AT_MOST

from parts import show
from parts.repair_talk import busy, leave, repair, take_back
from parts.state import workspace

_CHECKS = {
    "forgotten": "forgotten questions that are still answered, in any wording",
    "instead": "forgotten questions answered as wished",
    "beside": "what else it knows about the subject",
    "aside": "other questions about the subject answered much as before",
    "kept": "facts that were held back, as a share of the base's",
    "neighbors": "what stands near the forgotten facts, the same",
    "perplexity": "perplexity on neutral texts, as a share of the base's",
    "relearned": "what a short training on other facts brings back",
}
_ROWS = 4  # answers in the conversation; the others are behind a click


def plan_card(service: Service, plan: RepairPlan) -> None:
    """Show what a plan is about, where it edits, and what is kept."""
    st.markdown(f"**{show.plain(plan.what)}**")
    refusal = service.patient.catalog.refusal.text.strip()
    rows = []
    for fact, seen in zip(plan.forget, plan.evidence, strict=False):
        instead = (fact.foil or "").strip() if plan.action == "correct" else refusal
        agreed = f"{seen.agreed:.0%} of {seen.asked} wordings"
        rows.append((fact.relation, seen.answer, instead, agreed))
    show.table(("about", "it says", "it shall say", "said so in"), rows)
    places = "; ".join(f"{site}: {parts}" for site, parts in plan.sites.items())
    kept = ", ".join(f"{count} {what}" for what, count in plan.keep.items())
    show.table((), [("Where", f"{places}, by {plan.method}"), ("Facts kept", kept)])


def limits(plan: RepairPlan, *, expanded: bool) -> None:
    """Show what a repair must reach."""
    asked = plan.limits.model_dump()
    with st.expander("What must be reached, or else nothing is changed", expanded=expanded):
        show.table(
            ("check", "limit"),
            [(_CHECKS[c], _limit(c, asked[c])) for c in dict.fromkeys(plan.checks)],
        )


def offer_buttons(plan: RepairPlan, number: int, entries: Sequence[Entry]) -> None:
    """Draw what can be done with an offer, and how long it took the last time."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(
            "Repair",
            type="primary",
            icon=":material/healing:",
            key=f"repair {number}",
            disabled=busy(),
        ):
            repair(number)
            st.rerun()
        if st.button("Leave it", key=f"leave {number}", disabled=busy()):
            leave(number)
            st.rerun()
        _download(plan, f"plan-{number}", f"plan {number}")
        if entries:
            st.caption(f"About {max(entries[-1].seconds, 1):.0f} s, as the last repair took.")


def result(service: Service, entry: Entry, tried: int, *, in_force: bool) -> None:
    """Show what a repair did, in the conversation."""
    times = "once" if tried == 1 else f"{tried} times"
    st.text(f"Done in {entry.seconds:.0f} s, tried {times}: {entry.plan.what}.")
    _answers(service, entry.answers[:_ROWS])
    if entry.answers[_ROWS:]:
        with st.expander(f"{len(entry.answers) - _ROWS} more answers"):
            _answers(service, entry.answers[_ROWS:])
    met = sum(bool(found["met"]) for found in entry.found)
    with st.expander(f"{met} of {len(entry.found)} checks are met", expanded=True):
        _found(entry.found)
    if in_force:
        _undo_button(entry, "undo here")
    else:
        st.caption("It was taken back.")


def repairs_list(service: Service, entries: Sequence[Entry], active: Iterable[str]) -> None:
    """List every repair, the newest first."""
    names = set(active)
    label = f"Repairs: {len(names)} in force, {len(entries) - len(names)} taken back"
    with st.expander(label, key="repairs"):
        if not entries:
            st.write("No repair was made yet.")
        for entry in reversed(entries):
            _row(service, entry, in_force=entry.id in names)
        if names:
            st.caption("A file with the change of all in force, for Export:")
            command = ["workbench", "repair", "export", workspace().model]
            shown = shlex.join([*command, "--out", "repairs.safetensors"])
            st.code(shown, language="bash", wrap_lines=True)


def _row(service: Service, entry: Entry, *, in_force: bool) -> None:
    with st.container(border=True):
        what, buttons = st.columns([5, 2], vertical_alignment="center")
        with what:
            icon = ":material/check_circle:" if in_force else ":material/undo:"
            st.markdown(f"{icon} **{show.plain(entry.plan.what)}**")
            state = "in force" if in_force else "taken back"
            time = entry.time[:19].replace("T", " ")
            st.caption(show.plain(f"{state}; made {time} UTC by {entry.user}; {entry.id}"))
        with buttons.container(horizontal=True, horizontal_alignment="right"):
            _download(entry.plan, entry.id, f"plan {entry.id}")
            if in_force:
                _undo_button(entry, "undo")
        with st.expander("Explain", key=f"explain {entry.id}"):
            st.caption("What was said")
            st.text(entry.plan.said or "(a saved plan)")
            plan_card(service, entry.plan)
            st.caption("What was found")
            _found(entry.found)
            st.caption("Answers before any repair, and after this one")
            _answers(service, entry.answers)


def _undo_button(entry: Entry, key: str) -> None:
    if st.button(
        "Undo",
        icon=":material/undo:",
        key=f"{key} {entry.id}",
        disabled=busy(),
        help="Take this repair back; the others stay.",
    ):
        take_back(entry.id)
        st.rerun()


def _download(plan: RepairPlan, name: str, key: str) -> None:
    st.download_button(
        "Plan (JSON)",
        lambda: json.dumps(plan.to_json(), indent=2, ensure_ascii=False),
        f"{name}.json",
        "application/json",
        key=key,
        type="tertiary",
        icon=":material/download:",
        on_click="ignore",
        help="To read, to change, and to carry out with `workbench repair ask --plan`.",
    )


def _answers(service: Service, answers: Sequence[Mapping[str, Any]]) -> None:
    asked = without_template(service.patient.base, [str(a["prompt"]) for a in answers])
    rows = []
    for answer in answers:
        before, after = str(answer["base_answer"]).strip(), str(answer["answer"]).strip()
        rows.append((asked[str(answer["prompt"])], before, (before, after)))
    show.table(("question", "before any repair", "after"), rows)


def _found(found: Sequence[Mapping[str, Any]]) -> None:
    rows = []
    for one in found:
        value = "nothing to ask" if one["value"] is None else _percent(one["value"])
        met = "met" if one["met"] else "not met"
        rows.append((_CHECKS[one["check"]], value, _limit(one["check"], one["limit"]), met))
    show.table(("check", "found", "limit", ""), rows)


def _limit(check: str, limit: float) -> str:
    return f"at {'most' if check in AT_MOST else 'least'} {_percent(limit)}"


def _percent(value: float) -> str:
    return f"{100 * value:.3g}%"
