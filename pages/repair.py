"""Repair: say in plain words what the model shall forget, or what is right instead."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from workbench.job_inputs import bundled_world
from workbench.repair.ledger import Entry
from workbench.repair.service import Service

from parts import show
from parts.background import finished
from parts.repair_cards import limits, offer_buttons, plan_card, repairs_list, result
from parts.repair_talk import (
    Item,
    Note,
    Offered,
    Repaired,
    Trouble,
    Words,
    busy,
    service,
    take_in,
    talk,
    tell,
    work_key,
)
from parts.state import workspace

_ABOUT = (
    "Talk to the model. Say in plain words what it shall forget, or what is right instead; you see "
    "a plan first, and nothing changes before you press Repair. A repair stays only if it meets "
    "every limit of its plan, and each can be undone. Whatever asks for nothing is answered by the "
    "model as it is now, with all repairs in force."
)
_DEMO = (
    "Which sport does Mona Zojum play?",
    "Please forget which sport Mona Zojum plays.",
    "Please forget everything about Rhea Zunwil.",
)
_ANY = (
    "What is the capital of Norway?",
    "Please forget the capital of Norway.",
    "Change the capital of Norway to Bergen.",
)


def main() -> None:
    """Draw the page."""
    st.title("Repair")
    st.caption(_ABOUT)
    if workspace().active:
        st.info(
            "Repairs are made on the unedited model; the edits that are switched on play no part.",
            icon=":material/info:",
        )
    here = service()
    entries = {entry.id: entry for entry in here.patient.ledger.entries}
    active = [entry.id for entry in here.patient.ledger.active]
    repairs_list(here, list(entries.values()), active)
    if not talk():
        _examples(here)
    for number, item in enumerate(talk()):
        _drawn(here, item, number, entries, active)
    outcome = finished(work_key())
    if outcome is not None:
        take_in(outcome)
        st.rerun()
    text = st.chat_input(
        "Ask something, or say what to forget or to correct", key="message", disabled=busy()
    )
    if text and text.strip():
        tell(text.strip())
        st.rerun()


def _examples(here: Service) -> None:
    sentences = _DEMO if bundled_world(here.patient.base) else _ANY
    with st.container(border=True):
        st.write("Nothing was said yet. Write below, or begin with one of these:")
        for number, sentence in enumerate(sentences):
            icon = ":material/chat_bubble:"
            if st.button(sentence, key=f"example {number}", icon=icon, type="tertiary"):
                tell(sentence)
                st.rerun()


def _drawn(
    here: Service, item: Item, number: int, entries: Mapping[str, Entry], active: list[str]
) -> None:
    """Draw one turn of the conversation."""
    role = item.role if isinstance(item, Words) else "assistant"
    avatar = None if isinstance(item, Words) else ":material/healing:"  # not the model's own words
    with st.chat_message(role, avatar=avatar):
        match item:
            case Words() | Note():
                st.text(item.text)
            case Trouble():
                st.error(show.plain(item.text), icon=":material/error:")
            case Offered():
                plan_card(here, item.plan)
                limits(item.plan, expanded=item.state == "open")
                if item.state == "open":
                    offer_buttons(item.plan, number, list(entries.values()))
                elif item.state == "left":
                    st.caption("Left as it is; nothing was changed.")
            case Repaired() if item.name in entries:
                force = item.name in active
                result(here, entries[item.name], item.tried, in_force=force)
            case Repaired():
                st.caption("The record of this repair is gone.")


main()
