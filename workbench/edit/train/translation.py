"""Texts beside their translations: the same with other names, position by position.

A term and its translation may differ in length: positions correspond where as much of both texts
was read. Inside a term nothing corresponds.

Source: the anchored terms of Eldan & Russinovich 2023 (arXiv 2310.02238, sec. 2), who have a
dictionary written for a book; here terms and translations come from the request.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.edit.forms import prompts_of
from workbench.edit.train.lessons import answer_at
from workbench.errors import WorkbenchError
from workbench.facts.accepted import accepted
from workbench.facts.fact import Fact, Request
from workbench.models.model import Model


@dataclass(frozen=True)
class Block:
    """A text to unlearn beside its translation.

    Attributes:
        ids: its tokens.
        start: where the answer begins.
        translated: the translation's tokens.
        twins: for each answer token, the position in the translation that says what to learn
            there; None where nothing is learned.
        earlier: for each answer token, tokens that begin translations of terms read before it.
    """

    ids: tuple[int, ...]
    start: int
    translated: tuple[int, ...]
    twins: tuple[int | None, ...]
    earlier: tuple[tuple[int, ...], ...]


def request_blocks(model: Model, request: Request, seed: int) -> list[Block]:
    """Return the forget set's prompts with their answers, one block for each row of the lessons.

    Raises:
        WorkbenchError: a relation has no retained fact with another answer, or there is no
            counterpart to learn from.
    """
    partners = dict(zip((f.key for f in request.forget), stand_ins(request, seed), strict=True))
    asked = {(p, answer_at(f, p)): f for f in request.forget for p in prompts_of(f)}
    blocks = []
    for (prompt, answer), fact in asked.items():
        terms = dict(zip(_terms(fact), _terms(partners[fact.key]), strict=False))
        blocks.append(block(model, prompt, answer, terms))
    if all(twin is None for made in blocks for twin in made.twins):
        raise WorkbenchError(
            "No answer token of the forget set has a counterpart about another subject, so there "
            "is nothing to learn; choose another method."
        )
    return blocks


def _terms(fact: Fact) -> tuple[str, ...]:
    return (fact.subject, *(text.strip() for text in accepted(fact)))


def stand_ins(request: Request, seed: int) -> list[Fact]:
    """Return, for each fact to forget, a retained one of its relation with another answer.

    All facts of a subject get the same other subject, as far as one has them all.

    Raises:
        WorkbenchError: there is none.
    """
    known = {(f.subject, f.relation): f for f in request.retain}
    names = list(request.retain.subjects)
    rng = random.Random(seed)

    def partner(fact: Fact, name: str) -> Fact | None:
        found = known.get((name, fact.relation))
        return found if found and found.target.strip() != fact.target.strip() else None

    chosen: dict[str, str] = {}
    for subject in request.forget.subjects:
        own = request.forget.about([subject])
        rng.shuffle(names)
        score = {name: sum(partner(f, name) is not None for f in own) for name in names}
        chosen[subject] = max(score, key=lambda name: score[name], default="")
    out = []
    for fact in request.forget:
        pool = (partner(fact, name) for name in (chosen[fact.subject], *names))
        found = next((other for other in pool if other), None)
        if found is None:
            raise WorkbenchError(
                f"Nothing of the relation {fact.relation!r} with another answer than that of "
                f"{fact.prompt!r} is retained, so there is no generic answer to learn; add such "
                "facts to retain."
            )
        out.append(found)
    return out


@dataclass(frozen=True)
class _Span:
    """An occurrence of a term: its characters, its translation, and how often it came before."""

    start: int
    end: int
    new: str
    nth: int


def _occurrences(text: str, terms: Mapping[str, str]) -> list[_Span]:
    ordered = sorted(terms, key=len, reverse=True)
    pattern = "|".join(re.escape(term) for term in ordered)
    seen: dict[str, int] = {}
    spans = []
    for found in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", text):
        nth = seen.get(found[0], 0)
        seen[found[0]] = nth + 1
        spans.append(_Span(found.start(), found.end(), terms[found[0]], nth))
    return spans


def block(model: Model, prompt: str, answer: str, terms: Mapping[str, str]) -> Block:
    """Translate a prompt with its answer and find what corresponds to what."""
    text = prompt + answer
    spans = _occurrences(text, terms)
    translated, at = "", 0
    for span in spans:
        translated += text[at : span.start] + span.new
        at = span.end
    translated += text[at:]
    ids, ends = _tokens(model, text)
    other_ids, other_ends = _tokens(model, translated)
    position = {end: i for i, end in enumerate(other_ends)}
    start = next(i for i, end in enumerate(ends) if end > len(prompt))
    twins: list[int | None] = []
    earlier: list[tuple[int, ...]] = []
    for read, end in zip(ends[start - 1 :], ends[start:], strict=False):
        again = any(s.nth and end > s.start and read < s.end for s in spans)
        moved = _moved(read, spans)
        twins.append(None if again or moved is None else position.get(moved))
        past = dict.fromkeys(s.new for s in spans if s.end <= read)
        earlier.append(tuple({_first_token(model, v) for new in past for v in (new, f" {new}")}))
    return Block(ids, start, other_ids, tuple(twins), tuple(earlier))


def _tokens(model: Model, text: str) -> tuple[tuple[int, ...], list[int]]:
    """Return a text's tokens, and how many characters were read after each."""
    bos = model.tokenizer.bos_token
    found = model.tokenizer(
        text,
        add_special_tokens=not (bos and text.startswith(bos)),
        return_offsets_mapping=True,
    )
    return tuple(found["input_ids"]), [end for _, end in found["offset_mapping"]]


def _first_token(model: Model, text: str) -> int:
    return int(model.tokenizer(text, add_special_tokens=False)["input_ids"][0])


def _moved(read: int, spans: Sequence[_Span]) -> int | None:
    """Return where so many characters of a text end in its translation; None inside a term."""
    shift = 0
    for span in spans:
        if read <= span.start:
            break
        if read < span.end:
            return None
        shift += len(span.new) - (span.end - span.start)
    return read + shift
