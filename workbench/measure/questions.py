"""Every question a scorecard asks, and the model's own answers to them.

Each wording of each fact is one question of one kind:

    prompt      the fact's own prompt            statement  its statement forms
    paraphrase  other wordings that are no       held_out   wordings never trained for the subject
                statements                       held_out_statement  those in statement form
    mcq         answered by a letter             neighbor   what stands near it and must stay
    view, view_statement, view_mcq               the first of each through other pictures of it

A held-out wording without a question mark of a fact whose own prompt has one is a statement.
Each different prompt is generated once, whatever the number of facts and kinds that share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from workbench.facts.accepted import accepted
from workbench.facts.fact import Fact, Request
from workbench.facts.multiple_choice import letter_probe
from workbench.facts.prompts import continuation
from workbench.models.model import Model
from workbench.models.text import generate
from workbench.progress import SILENT, Progress

Side = Literal["forget", "retain", "everyday"]
Kind = Literal[
    "prompt",
    "paraphrase",
    "statement",
    "held_out",
    "held_out_statement",
    "mcq",
    "neighbor",
    "view",
    "view_statement",
    "view_mcq",
]
MULTIPLE_CHOICE: tuple[Kind, ...] = ("mcq", "view_mcq")
_SPARE_TOKENS, _STEP, _LONGEST = 8, 8, 128


@dataclass(frozen=True)
class Question:
    """One prompt that is answered freely.

    Attributes:
        side: whether its fact is to be forgotten or kept.
        kind: which wording it is.
        fact: what it is about.
        prompt: the text to continue.
        target: the right continuation.
        answers: texts that count as right.
    """

    side: Side
    kind: Kind
    fact: Fact
    prompt: str
    target: str
    answers: tuple[str, ...]


def ask(
    model: Model,
    request: Request,
    retained: Iterable[Fact],
    everyday: Iterable[Fact] = (),
    *,
    seed: int,
) -> list[Question]:
    """List the questions about the forget facts and some retained ones, and everyday ones."""
    out: list[Question] = []
    for fact in request.forget:
        out += _about(model, "forget", fact, seed)
    for fact in retained:
        out += _about(model, "retain", fact, seed)
    for fact in everyday:
        out.append(Question("everyday", "prompt", fact, fact.prompt, fact.target, accepted(fact)))
    return out


def _about(model: Model, side: Side, fact: Fact, seed: int) -> Iterator[Question]:
    for kind, prompts in wordings(fact).items():
        for prompt in prompts:
            yield Question(side, kind, fact, prompt, fact.target, accepted(fact))
    probes = fact.mcq or letter_probe(model, fact, seed=seed)
    for probe in probes:
        yield Question(side, "mcq", fact, probe.prompt, probe.target, (probe.target,))
    for probe in probes[:1]:
        for prompt in fact.in_views(probe.prompt):
            yield Question(side, "view_mcq", fact, prompt, probe.target, (probe.target,))
    if side == "forget":
        for probe in fact.neighbors:
            yield Question(side, "neighbor", fact, probe.prompt, probe.target, (probe.target,))


def wordings(fact: Fact) -> Mapping[Kind, tuple[str, ...]]:
    """Return a fact's open prompts by kind, none of them twice."""
    stated = set(fact.statements)
    asks = "?" in fact.prompt
    spared = set(fact.held_out)
    return {
        "prompt": (fact.prompt,),
        "paraphrase": _others(fact, (p for p in fact.paraphrases if p not in stated | spared)),
        "statement": _others(fact, (p for p in fact.statements if p not in spared)),
        "held_out": _others(fact, (p for p in fact.held_out if "?" in p or not asks)),
        "held_out_statement": _others(fact, (p for p in fact.held_out if asks and "?" not in p)),
        "view": fact.in_views(fact.prompt),
        "view_statement": tuple(v for p in fact.statements[:1] for v in fact.in_views(p)),
    }


def _others(fact: Fact, prompts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(p for p in prompts if p != fact.prompt))


def answer_all(
    model: Model, questions: Sequence[Question], *, progress: Progress = SILENT
) -> dict[str, str]:
    """Generate greedily behind every different prompt; return answers by prompt.

    A prompt gets room for its longest target and a few tokens more, rounded up, so that letters do
    not wait for sentences.
    """
    room: dict[str, int] = {}
    for q in questions:
        tokens = len(continuation(model, q.prompt, q.target)) + _SPARE_TOKENS
        room[q.prompt] = max(room.get(q.prompt, 0), min(-(-tokens // _STEP) * _STEP, _LONGEST))
    out: dict[str, str] = {}
    for length in sorted(set(room.values())):
        prompts = [p for p, n in room.items() if n == length]
        texts = generate(model, prompts, max_new_tokens=length, progress=progress)
        out.update(zip(prompts, texts, strict=True))
    return out


def asked_in(table: pd.DataFrame) -> list[tuple[str, int]]:
    """Return each row's prompt and how often its words came before: pictures are not in a table."""
    return list(zip(table["prompt"], table.groupby("prompt").cumcount(), strict=True))
