"""One prompt to look at, the model that reads it, and what was read already."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import streamlit as st

from workbench.edit.buffer import Site
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact
from workbench.facts.prompts import tokenize
from workbench.figures.tokens import shown
from workbench.localize.logit_lens import LogitLens, logit_lens
from workbench.models.model import Model
from workbench.models.pictured import pictures_of
from workbench.recent import remember
from workbench.workspace.choosing import site_of

from parts import show
from parts.pictures import portraits, with_picture
from parts.state import base, edited, facts_to_trace, workspace

T = TypeVar("T")
_KEPT = 200  # readings of this session that stay at hand
_SOURCES = {"fact": "a fact to forget", "own": "a prompt of your own"}
_WHICH = {"base": "the base model", "edited": "the model with your edits"}


@dataclass(frozen=True)
class Question:
    """A prompt and its answer.

    Attributes:
        prompt: what the model continues.
        target: the answer.
        foil: a wrong answer to hold it against, if there is one.
        subject: whom it is about; empty if that was not said.
        relation: of the fact; empty for a prompt of one's own.
        own: whether the user wrote it.
    """

    prompt: str
    target: str
    foil: str | None = None
    subject: str = ""
    relation: str = ""
    own: bool = False

    @property
    def fact(self) -> Fact | None:
        """The question as a fact; None if its subject is not known."""
        if not self.subject:
            return None
        return Fact(self.subject, self.prompt, self.target, self.foil, self.relation)


@dataclass(frozen=True, eq=False)
class Look:
    """A question, read by a model.

    Attributes:
        question: what is looked at.
        model: who reads it.
        edits: the edits of that model, by run and strength.
        roles: each token's role; empty if the subject is not known.
    """

    question: Question
    model: Model
    edits: tuple[tuple[str, float], ...]
    roles: tuple[str, ...]

    @property
    def key(self) -> str:
        """A short name of the question, for the keys of widgets."""
        asked = self.question
        seen = (picture.digest for picture in pictures_of(asked.prompt))
        text = "\0".join((self.model.name, str(asked.prompt), asked.target, *seen))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def lens(self) -> LogitLens:
        """What every layer would say next."""
        asked = self.question
        return self.read("lens", lambda m: logit_lens(m, asked.prompt, target=asked.target))

    def site(self, position: int) -> Site:
        """Return the site that a token belongs to."""
        return site_of(self.roles[position] if self.roles else "last")

    def token(self, position: int) -> str:
        """Name a token by its position, text and role."""
        role = f" ({self.roles[position]})" if self.roles else ""
        return f"{position} {shown(self.lens.tokens[position])}{role}"

    def read(self, what: Any, make: Callable[[Model], T]) -> T:
        """Return a reading; each is made once and the latest stay at hand."""
        kept: dict[Any, Any] = st.session_state.setdefault("readings", {})
        key = (workspace().model, self.edits, self.question, what)
        return remember(kept, key, lambda: make(self.model), most=_KEPT)


def guarded(draw: Callable[..., None]) -> Callable[..., None]:
    """Show a user's mistake as its sentence: a fragment that runs alone has no page around it."""

    @wraps(draw)
    def drawn(*args: Any) -> None:
        try:
            draw(*args)
        except WorkbenchError as error:
            st.error(str(error), icon=":material/error:")

    return drawn


def look() -> Look | None:
    """Let the user choose a prompt; None while there is none."""
    row = st.container(horizontal=True, gap="large")
    kind = row.segmented_control(
        "Look at",
        list(_SOURCES),
        default=st.session_state.get("browse kept source", "fact"),
        format_func=_SOURCES.__getitem__,
        key="browse source",
        required=True,
    )
    with_edits = (
        bool(workspace().active)
        and row.segmented_control(
            "Read by",
            list(_WHICH),
            default="base",
            format_func=_WHICH.__getitem__,
            key="browse model",
            required=True,
        )
        == "edited"
    )
    st.session_state["browse kept source"] = kind
    asked = _own() if kind == "own" else _of_request()
    if asked is None:
        return None
    edits = tuple((e.run, e.strength) for e in workspace().active) if with_edits else ()
    fact = asked.fact
    roles = tokenize(base(), fact).roles if fact else ()
    return Look(asked, edited() if with_edits else base(), edits, roles)


def _of_request() -> Question:
    found = facts_to_trace()
    kept = st.session_state.get("browse kept fact", ("", ""))
    subject, prompt = st.columns([1, 2])
    subjects = list(found.subjects)
    at = subjects.index(kept[0]) if kept[0] in subjects else 0
    whom = subject.selectbox("Subject", subjects, at, key=f"browse subject {workspace().request}")
    about = list(found.about([whom]))
    prompts = [f.prompt for f in about]
    at = prompts.index(kept[1]) if kept[1] in prompts else 0
    number = prompt.selectbox(
        "Prompt and answer",
        list(range(len(about))),
        at,
        format_func=lambda i: f"{about[i].prompt} → {about[i].target.strip()}".replace("\n", " ⏎ "),
        key=f"browse prompt {workspace().request} {whom}",
    )
    fact = about[number]
    portraits([fact])
    st.session_state["browse kept fact"] = (fact.subject, fact.prompt)
    return Question(fact.prompt, fact.target, fact.foil, fact.subject, fact.relation)


def _own() -> Question | None:
    """Read a prompt of the user's own; what was written stays when the page is left."""
    first = facts_to_trace()[0]
    kept = st.session_state.setdefault(
        "browse kept own", {"prompt": str(first.prompt), "answer": "", "wrong": "", "subject": ""}
    )
    kept["prompt"] = st.text_area("Prompt", kept["prompt"], key="browse own prompt", height=80)
    columns = st.columns(3)
    helps = {
        "answer": ("Answer", "What is read off the model is held against this continuation."),
        "wrong": ("Wrong answer (optional)", "Without it the mean of all tokens is held against."),
        "subject": (
            "Subject (optional)",
            "As it stands in the prompt; it is needed to find a circuit.",
        ),
    }
    for column, (name, (label, about)) in zip(columns, helps.items(), strict=True):
        kept[name] = column.text_input(label, kept[name], key=f"browse own {name}", help=about)
    if not kept["prompt"].strip() or not kept["answer"].strip():
        show.empty("Write a prompt and the answer to look for in it.")
        return None
    prompt = with_picture(kept["prompt"], "browse")
    if prompt is None:
        return None
    answer, wrong = (_behind(prompt, kept[n]) for n in ("answer", "wrong"))
    return Question(prompt, answer, wrong or None, kept["subject"].strip(), own=True)


def _behind(prompt: str, text: str) -> str:
    """Part a continuation from its prompt by a space, unless something does already."""
    if not text.strip() or text[0].isspace() or prompt[-1].isspace():
        return text.rstrip() if text.strip() else ""
    return f" {text.rstrip()}"
