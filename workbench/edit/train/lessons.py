"""What a request teaches: answers to forget, what to say instead, and what to keep.

Every method learns from the same material as STAMP, which makes them comparable: the forget set's
prompts without its held-out wordings, the request's retained facts, and texts the model makes up
itself. What is kept are the model's own answers, right or wrong: unlearning is to change nothing
else.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.edit.buffer import left_out
from workbench.edit.forms import prompts_of
from workbench.edit.self_made import sample, sample_chats, sample_texts
from workbench.edit.train.examples import Examples, examples, texts
from workbench.errors import WorkbenchError
from workbench.facts.accepted import short_answers
from workbench.facts.fact import Fact, Refuse, Request
from workbench.models.model import Model
from workbench.models.text import decode, encode
from workbench.progress import SILENT, Progress
from workbench.recent import remember


@dataclass(frozen=True)
class Lessons:
    """Examples of one request.

    Attributes:
        forget: prompts with the answers to forget.
        instead: the same prompts, in the same order, with the refusal or the foil.
        retain: prompts to keep, with the model's own answers.
        neutral: texts the model made up, learned whole.
    """

    forget: Examples
    instead: Examples
    retain: Examples
    neutral: Examples


KEPT: dict[tuple[Any, ...], Lessons] = {}  # the last ones, by everything they are made of
_MOST_KEPT = 4


def lessons(
    model: Model,
    request: Request,
    *,
    most: int = 512,
    neutral: int = 64,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Lessons:
    """Gather what a request teaches; the last ones are kept.

    A request is often tried with several methods and settings, and to make its lessons the model
    has to talk for as long as a short training takes.

    Args:
        model: the model, before the edit.
        request: what to forget and keep.
        most: most retained prompts, drawn by the seed.
        neutral: texts, and for a chat model conversations, that the model makes up.
        seed: of the draws.
        progress: where to report.

    Raises:
        WorkbenchError: there is nothing to retain.
    """

    def make() -> Lessons:
        progress.step(0, 3, "gathering lessons")
        forget, instead = to_forget(model, request)
        kept = list(dict.fromkeys(p for fact in request.retain for p in prompts_of(fact)))
        if not kept:
            raise WorkbenchError("There is nothing to keep; give the request facts to retain.")
        random.Random(seed).shuffle(kept)
        progress.step(1, 3, "gathering lessons")
        retain = own_answers(model, kept[:most])
        progress.step(2, 3, "gathering lessons")
        made = _neutral(model, request, neutral, seed)
        progress.step(3, 3, "gathering lessons")
        return Lessons(forget, instead, retain, made)

    chat = model.tokenizer.chat_template
    key = (model.fingerprint, chat, request.fingerprint, most, neutral, seed)
    return remember(KEPT, key, make, most=_MOST_KEPT)


def to_forget(model: Model, request: Request) -> tuple[Examples, Examples]:
    """Return forget prompts with the answers to forget, and with what to say instead."""
    asked = {(p, answer_at(f, p)): f for f in request.forget for p in prompts_of(f)}
    instead = [(p, answer_instead(request, f)) for (p, _), f in asked.items()]
    return examples(model, asked), examples(model, instead, end=end_of_answer(model))


def own_answers(model: Model, prompts: Sequence[str], *, length: int = 12) -> Examples:
    """Return prompts with the model's own greedy answers, their end included."""
    starts = [tuple(encode(model, p, room=length)) for p in prompts]
    new = sample(model, starts, length=length)
    sequences = tuple((*start, *answer) for start, answer in zip(starts, new, strict=True))
    return Examples(sequences, tuple(len(start) for start in starts))


def answer_at(fact: Fact, prompt: str) -> str:
    """Return the answer to forget at one of the fact's prompts.

    Where the target is a whole sentence, as in chat form, a statement is completed by the short
    answer.
    """
    short = short_answers(fact)
    return f" {short[0]}" if short and prompt in fact.statements else fact.target


def answer_instead(request: Request, fact: Fact) -> str:
    """Return what is to be said of a forgotten fact: the refusal, or its foil."""
    behaviour = request.behaviour
    return behaviour.text if isinstance(behaviour, Refuse) else fact.foil or ""


def end_of_answer(model: Model) -> tuple[int, ...]:
    """Return the token with which a chat model ends an answer; others just go on."""
    end = model.tokenizer.eos_token_id
    return (end,) if model.tokenizer.chat_template and isinstance(end, int) else ()


def _neutral(model: Model, request: Request, count: int, seed: int) -> Examples:
    gone = left_out(request)
    made = sample_texts(model, count, seed=seed)
    told = texts(ids for ids in made if not any(s in decode(model, ids) for s in gone))
    spoken = {p + a: p for p, a in sample_chats(model, count, seed=seed)}
    chats = [
        (tuple(encode(model, whole)), len(encode(model, prompt)))
        for whole, prompt in spoken.items()
        if not any(s in whole for s in gone)
    ]
    said = [(ids, start) for ids, start in chats if len(ids) > start]  # some answers are empty
    return told + Examples(tuple(ids for ids, _ in said), tuple(start for _, start in said))
