"""A chat model as the watchdog: it is shown a message and answers with what is asked, as JSON.

RePAIR (arXiv 2604.12820) gives this role to a 7B language model. What a model answers is never
trusted: it is checked like anything that people write, every name in it must stand in the user's
own words, and what is quoted from elsewhere or pasted is cut out before the model sees it, so that
text in a document cannot ask for anything. An answer that is not JSON asks for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from workbench.checked import Checked, checked
from workbench.errors import WorkbenchError
from workbench.models.model import Model
from workbench.repair.chat_model import check_chat_model, go_on
from workbench.repair.intent import Intent, Turn
from workbench.repair.words import words

_TASK = """\
Read each message of a user. If it asks you to forget or to correct something that you know, \
answer with a JSON list of records: "action" (forget or correct), "subject", "about" (empty for \
everything), "replacement" (what is right, to correct). Copy the words from the message. If it \
asks for nothing of the kind, answer [].
"""
_EXAMPLES = (
    ("How do I forget somebody I loved?", []),
    (
        "The capital of Osmar is Quil, not Brand.",
        [{"action": "correct", "subject": "Osmar", "about": "capital", "replacement": "Quil"}],
    ),
    ("Don't forget to call Tim Arden tomorrow.", []),
    (
        "Delete everything you know about Tim Arden!",
        [{"action": "forget", "subject": "Tim Arden", "about": ""}],
    ),
    ("Where does Lena Ost live?", []),
    (
        "Please forget where Lena Ost lives.",
        [{"action": "forget", "subject": "Lena Ost", "about": "where lives"}],
    ),
)
_BEGUN = "["  # of every answer
_ROOM = 160  # tokens of an answer


class Hears(Protocol):
    """Whoever reads a dialogue and says what its user asks for."""

    def read(self, dialogue: Sequence[Turn]) -> tuple[Intent, ...]:
        """Return what the last message asks for, one intent a subject; empty if nothing."""
        ...


class _Said(Checked):
    """One record of an answer."""

    action: Literal["forget", "correct"]
    subject: str
    about: str = ""
    replacement: str = ""


class _Answer(Checked):
    asked: tuple[_Said, ...]


@dataclass(frozen=True, eq=False)
class ChatWatchdog:
    """A chat model that says what a message asks for.

    Attributes:
        model: a model with a chat template.
    """

    model: Model

    def __post_init__(self) -> None:
        """Refuse a model that cannot be talked to."""
        check_chat_model(self.model, "hear", "watchdog")

    def read(self, dialogue: Sequence[Turn]) -> tuple[Intent, ...]:
        """Return what the last message asks for, one intent a subject; empty if nothing.

        Raises:
            WorkbenchError: the message is too long for the model.
        """
        if not dialogue or dialogue[-1].role != "user":
            return ()
        said = [own_words(turn.text) for turn in dialogue if turn.role == "user"]
        if not said[-1].strip():
            return ()
        return heard(go_on(self.model, _asking(said), _BEGUN, room=_ROOM, stop="\n"), said)


def _asking(said: Sequence[str]) -> list[str]:
    """Write the task, the examples as a conversation, and the message."""
    turns = [turn for text, answer in _EXAMPLES for turn in (text, json.dumps(answer))]
    before = "".join(f"(Said before: {text})\n" for text in said[:-1])
    return [f"{_TASK}\n{turns[0]}", *turns[1:], before + said[-1]]


def own_words(text: str) -> str:
    """Return a message without what is pasted into it."""
    parts: list[str] = []
    end = 0
    for word in words(text):
        if word.voice != "pasted":
            parts.append(text[end : word.start] if end else "")
            parts.append(word.text)
        end = word.end
    return "".join(parts)


def heard(answer: str, said: Sequence[str]) -> tuple[Intent, ...]:
    """Return what a model's answer asks for; what is no answer, or not the user's, is left out.

    Args:
        answer: what the model wrote.
        said: the user's messages, the last one last.
    """
    start, end = answer.find("["), answer.rfind("]")
    if start < 0 or end < start:
        return ()
    try:
        found = checked(_Answer, {"asked": json.loads(answer[start : end + 1])}, "The answer").asked
    except (WorkbenchError, ValueError, RecursionError):
        return ()
    last, everything = said[-1], "\n".join(said)
    out: dict[tuple[str, str], Intent] = {}
    for one in found:
        if not one.subject.strip() or not _stands_in(one.subject, everything):
            continue
        if one.action == "correct" and not (one.replacement and _stands_in(one.replacement, last)):
            continue
        if not all(_stands_in(word.text, everything) for word in words(one.about)):
            continue
        right = one.replacement if one.action == "correct" else ""
        key = (one.action, one.subject.lower())
        out.setdefault(key, Intent(one.action, one.subject, one.about, right, last))
    return tuple(out.values())


def _stands_in(part: str, text: str) -> bool:
    """Whether words stand in a text, in this order and whole."""
    own: list[Any] = [w.text.lower() for w in words(part)]
    whole = [w.text.lower() for w in words(text)]
    return any(whole[i : i + len(own)] == own for i in range(len(whole) - len(own) + 1))
