"""A fact with candidate answers as a question that is answered by a letter.

    Question: Which sport does Ada Brook play?
    A. golf
    B. tennis
    Answer:                                      -> " B"

The order of the choices is drawn from the seed and the fact, so it is the same for every model and
does not favour a letter. A chat model is asked in chat form if the fact says its `question`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from workbench.errors import WorkbenchError
from workbench.facts.accepted import short_answers
from workbench.facts.fact import Fact, Probe
from workbench.facts.prompts import chat
from workbench.models.model import Model
from workbench.models.pictured import MARKER, Pictured, pictures_of

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WRAPPED = re.compile(r"(?:Q|Question):\s*(.*?)\s*\n(?:A|Answer):\s*", re.DOTALL)


def question_of(fact: Fact) -> str:
    """Return the question a fact's prompt asks, in words; a statement is asked to be completed."""
    given = fact.extra.get("question")
    if isinstance(given, str) and given.strip():
        return given.strip()
    asked = str(fact.prompt)
    if pictures_of(fact.prompt):
        asked = asked.replace(MARKER, "").strip()
    wrapped = _WRAPPED.fullmatch(asked)
    text = wrapped[1] if wrapped else asked.strip()
    return text if "?" in text else f"Which completes this? {text} ..."


def options(fact: Fact, *, seed: int = 0) -> tuple[list[str], str]:
    """Return the choices in seeded order and the letter of the right one.

    Raises:
        WorkbenchError: the target is not among the choices, or there are too many of them.
    """
    choices = list(dict.fromkeys(fact.choices))
    right = [c for c in (*short_answers(fact), fact.target.strip()) if c in choices]
    if not right:
        raise WorkbenchError(
            f"The choices of {fact.prompt!r} do not hold its target {fact.target.strip()!r}; "
            "add it."
        )
    if len(choices) > len(LETTERS):
        raise WorkbenchError(
            f"{fact.prompt!r} has {len(choices)} choices; at most {len(LETTERS)} have letters."
        )
    random.Random(f"{seed}|{fact.prompt}").shuffle(choices)
    return choices, LETTERS[choices.index(right[0])]


def letter_prompt(question: str, choices: Sequence[str]) -> str:
    """Write a question and its choices, one a line, up to where the letter goes."""
    listed = "\n".join(f"{LETTERS[i]}. {choice}" for i, choice in enumerate(choices))
    return f"Question: {question}\n{listed}\nAnswer:"


def letter_probe(model: Model, fact: Fact, *, seed: int = 0) -> tuple[Probe, ...]:
    """Return the letter form of a fact with at least two choices, nothing otherwise.

    A fact's picture stands before it.

    Raises:
        WorkbenchError: the target is not among the choices.
    """
    if len(set(fact.choices)) < 2:
        return ()
    choices, letter = options(fact, seed=seed)
    question = question_of(fact)
    asked = fact.extra.get("question")
    can_chat = isinstance(asked, str) and bool(model.tokenizer.chat_template)
    if can_chat and chat(model, str(asked)) == fact.prompt:
        listed = "\n".join(f"{LETTERS[i]}. {choice}" for i, choice in enumerate(choices))
        text = f"{question}\n{listed}\nAnswer with the letter only."
        return (Probe(chat(model, text), letter),)
    text = letter_prompt(question, choices)
    if pictures := pictures_of(fact.prompt):
        text = Pictured(f"{MARKER}\n{text}", pictures[-1:])
    return (Probe(text, f" {letter}"),)
