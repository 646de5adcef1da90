"""Make one request of another: choose what to forget, what to keep, add facts of one's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Request


def forgetting(request: Request, chosen: Iterable[Fact]) -> Request:
    """Forget these facts and no others; what was to be forgotten before is kept.

    Raises:
        WorkbenchError: nothing is chosen.
    """
    forget = _unique(chosen)
    if not forget:
        raise WorkbenchError("Nothing is chosen; choose at least one fact to forget.")
    released = _without(request.forget, forget)
    return replace(
        request,
        forget=forget,
        retain=_without(_unique((*request.retain, *released)), forget),
        evaluate=_without(request.evaluate, forget),
        name=_own(request.name),
    )


def keeping(request: Request, chosen: Iterable[Fact]) -> Request:
    """Keep these facts, also those that were to be forgotten.

    Raises:
        WorkbenchError: nothing would be left to forget.
    """
    kept = _unique(chosen)
    forget = _without(request.forget, kept)
    if not forget:
        raise WorkbenchError("Nothing would be left to forget; choose what to forget first.")
    held_back = {f.key for f in request.evaluate}
    new = FactSet(tuple(f for f in kept if f.key not in held_back))
    retain = _unique((*request.retain, *new))
    return replace(request, forget=forget, retain=retain, name=_own(request.name))


def _unique(facts: Iterable[Fact]) -> FactSet:
    return FactSet(tuple({f.key: f for f in facts}.values()))


def _without(facts: FactSet, others: FactSet) -> FactSet:
    gone = {f.key for f in others}
    return facts.where(lambda fact: fact.key not in gone)


def _own(name: str) -> str:
    return name if name.startswith("my-") else f"my-{name or 'request'}"
