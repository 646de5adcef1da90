"""Two models side by side: which two, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from workbench.facts.fact import Fact
from workbench.facts.prompts import without_template
from workbench.models.model import Model
from workbench.models.text import generate
from workbench.recent import remember

from parts import show
from parts.pictures import with_picture
from parts.state import request, stack, workspace

_KINDS = {
    "facts to forget": "prompt",
    "in other words": "paraphrases",
    "as statements": "statements",
    "multiple choice": "mcq",
    "facts to keep": "retain",
    "a prompt of your own": "own",
}
_ROWS = 12
_TABLES = 8  # of answers that stay at hand


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two models."""

    name: str
    key: tuple[tuple[str, float], ...]
    model: Model


def sides() -> tuple[Side, Side]:
    """Let the user choose two of: base, the stack, each edit alone; pinned ones first."""
    here = workspace()
    choices: dict[str, tuple[tuple[str, float], ...]] = {
        "base": (),
        "the stack": tuple((e.run, e.strength) for e in here.active),
    }
    for edit in sorted(here.edits, key=lambda e: not e.pinned):
        choices[f"only {edit.name}"] = ((edit.run, edit.strength),)
    left, right = st.columns(2)
    names = list(choices)
    chosen = [
        left.selectbox("Left", names, 0, key="left side"),
        right.selectbox("Right", names, 1, key="right side"),
    ]
    a, b = (Side(n, choices[n], stack(choices[n])) for n in chosen)
    return a, b


def answers_table(left: Side, right: Side) -> None:
    """Show both models' greedy answers with the words that changed."""
    kind = st.segmented_control(
        "Questions", list(_KINDS), default=next(iter(_KINDS)), key="questions", required=True
    )
    asked = _asked(_KINDS[str(kind)])
    if not asked:
        st.info("There are no such questions in this request.")
        return
    answers = [_answers(side, tuple(p for p, _ in asked)) for side in (left, right)]
    shown = without_template(left.model, [p for p, _ in asked])
    rows = [
        (shown[prompt], target, a, (a, b))
        for (prompt, target), a, b in zip(asked, *answers, strict=True)
    ]
    show.table(("prompt", "answer taught", left.name, right.name), rows)
    st.caption(f"Free greedy answers; at most {_ROWS} are shown, the scorecard counts all.")


def _asked(kind: str) -> list[tuple[str, str]]:
    wanted = request()
    if kind == "own":
        text = st.text_area("Prompt", key="free prompt", height=80)
        asked = with_picture(text, "free") if text.strip() else None
        return [] if asked is None else [(asked, "")]
    facts = wanted.evaluate or wanted.retain if kind == "retain" else wanted.forget
    found = [pair for fact in facts for pair in _pairs(fact, kind)]
    step = max(len(found) // _ROWS, 1)
    return found[::step][:_ROWS]


def _pairs(fact: Fact, kind: str) -> list[tuple[str, str]]:
    if kind in ("prompt", "retain"):
        return [(fact.prompt, fact.target)]
    if kind == "mcq":
        return [(p.prompt, p.target) for p in fact.mcq[:1]]
    return [(p, fact.target) for p in getattr(fact, kind)[:1]]


def _answers(side: Side, prompts: tuple[str, ...]) -> list[str]:
    """Ask once, and keep the last few tables of this session."""
    kept: dict[object, list[str]] = st.session_state.setdefault("answers", {})
    key = (workspace().model, side.key, prompts)
    return remember(
        kept, key, lambda: generate(side.model, prompts, max_new_tokens=20), most=_TABLES
    )
