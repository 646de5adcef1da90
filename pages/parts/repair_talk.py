"""The conversation with a patient, and the work that its messages and buttons begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.progress import Progress
from workbench.recent import remember
from workbench.repair.intent import Turn
from workbench.repair.plan import RepairPlan
from workbench.repair.policy import current_user
from workbench.repair.service import Service

from parts.background import needed, start, works
from parts.state import base, workspace

_QUICK = 2.0  # seconds; what takes less is not worth a progress bar


@dataclass(frozen=True)
class Words:
    """What somebody said."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Note:
    """What was done, in a sentence."""

    text: str


@dataclass(frozen=True)
class Trouble:
    """Why something was not done."""

    text: str


@dataclass(frozen=True)
class Offered:
    """A plan, and what the user made of it."""

    plan: RepairPlan
    state: Literal["open", "left", "done"] = "open"


@dataclass(frozen=True)
class Repaired:
    """A repair that was made: its name in the ledger, and how many settings were tried."""

    name: str
    tried: int


Item = Words | Note | Trouble | Offered | Repaired


@dataclass(frozen=True)
class Outcome:
    """What work adds to the conversation, and which offer it settles."""

    items: tuple[Item, ...]
    settles: int | None = None


def talk() -> list[Item]:
    """Return this session's conversation with the model at hand."""
    talks: dict[str, list[Item]] = st.session_state.setdefault("repair talks", {})
    return talks.setdefault(workspace().model, [])


def service() -> Service:
    """Return the service of the base model; shows progress while it reads what is on file."""
    kept: dict[str, Service] = st.session_state.setdefault("repair service", {})
    name, fork = workspace().model, base().fork()

    def open_it() -> Service:
        return needed(
            f"repair open {name}",
            "Reading what is on file",
            lambda p: Service.open(fork, progress=p),
        )

    return remember(kept, name, open_it, most=1)


def work_key() -> str:
    """Return the key of this conversation's work; there is one at a time."""
    return f"repair {workspace().model}"


def busy() -> bool:
    """Return whether something is being done for this conversation."""
    work = works().get(work_key())
    return work is not None and work.running


def tell(text: str) -> None:
    """Add the user's message, and begin what it asks for."""
    talk().append(Words("user", text))
    _start("Reading the message", _answer(service(), dialogue(talk())))


def leave(number: int) -> None:
    """Put an offer aside."""
    _mark(number, "left")


def repair(number: int) -> None:
    """Begin the repair that was offered."""
    offer = talk()[number]
    assert isinstance(offer, Offered)
    _start("Repairing", _repair(service(), offer.plan, number))


def take_back(name: str) -> None:
    """Begin to undo a repair."""
    _start("Taking the repair back", _undo(service(), name))


def take_in(outcome: Outcome) -> None:
    """Add what work brought."""
    if outcome.settles is not None:
        _mark(outcome.settles, "done")
    talk().extend(outcome.items)


def dialogue(items: Sequence[Item]) -> list[Turn]:
    """Return what was said in words."""
    return [Turn(item.role, item.text) for item in items if isinstance(item, Words)]


def _mark(number: int, state: Literal["left", "done"]) -> None:
    offer = talk()[number]
    assert isinstance(offer, Offered)
    talk()[number] = replace(offer, state=state)


def _start(label: str, run: Callable[[Progress], Outcome]) -> None:
    def in_sentences(progress: Progress) -> Outcome:
        try:
            return run(progress)
        except WorkbenchError as error:
            return Outcome((Trouble(str(error)),))

    start(work_key(), label, in_sentences)
    works()[work_key()].wait(_QUICK)


def _answer(shared: Service, said: Sequence[Turn]) -> Callable[[Progress], Outcome]:
    user, own = current_user(), _own(shared)

    def run(progress: Progress) -> Outcome:
        found = own.hear(said, user=user, progress=progress)
        if found:
            return Outcome(tuple(Offered(proposal.plan) for proposal in found))
        return Outcome((Words("assistant", own.patient.say(said[-1].text) or "(nothing)"),))

    return run


def _repair(shared: Service, plan: RepairPlan, number: int) -> Callable[[Progress], Outcome]:
    user, own = current_user(), _own(shared)

    def run(progress: Progress) -> Outcome:
        made, entry = own.carry_out(plan, user=user, progress=progress)
        if progress.cancelled():  # too late to stop, and the user was told that nothing changed
            own.undo(entry.id, user=user)
        return Outcome((Repaired(entry.id, made.tried),), settles=number)

    return run


def _undo(shared: Service, name: str) -> Callable[[Progress], Outcome]:
    user, own = current_user(), _own(shared)

    def run(progress: Progress) -> Outcome:
        own.undo(name, user=user, progress=progress)
        what = own.patient.ledger.entry(name).plan.what
        return Outcome((Note(f"Taken back: {what}."),))

    return run


def _own(shared: Service) -> Service:
    """Return the service with module trees of its own: work that was stopped may still run."""
    fork = shared.patient.base.fork()
    return replace(
        shared,
        surgeon=replace(shared.surgeon, base=fork),
        patient=replace(shared.patient, base=fork),
    )
