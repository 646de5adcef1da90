"""The contexts that value vectors are searched in, and the keys of edits at the subject's token.

Contexts of a fact are its own prompts, its first prompt behind texts that the model makes up (Meng
et al. 2022, arXiv 2202.05262, sec. 3.1: prefixes that it generates), and the essence prompt
"{subject} is a", where nothing is to change. Held-out wordings are never among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.edit.buffer import left_out
from workbench.edit.forms import prompts_of
from workbench.edit.matrix import Matrix, matrices
from workbench.edit.rows import Rows
from workbench.edit.self_made import sample_texts
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Replace, Request
from workbench.facts.prompts import continuation, subject_span
from workbench.models.components import ComponentSet
from workbench.models.model import Model
from workbench.models.text import encode

_AHEAD = 10  # tokens the model makes up before a prompt
_ROOM = 16  # what they may take when they are read again


@dataclass(frozen=True)
class Contexts:
    """Where facts are looked up and what is to be said there.

    Attributes:
        sequences: prompts followed by the new answer; essence prompts by nothing.
        fact: number of each one's fact.
        subject: position of the subject's last token.
        answer: tokens of the new answer; 0 in an essence prompt.
    """

    sequences: tuple[tuple[int, ...], ...]
    fact: tuple[int, ...]
    subject: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def lookups(self) -> tuple[Rows, Int[Tensor, " n"]]:
        """The prompts up to the subject's last token, and each one's fact; no essence prompts."""
        own = [i for i, tokens in enumerate(self.answer) if tokens]
        sequences = tuple(self.sequences[i][: self.subject[i] + 1] for i in own)
        picks = tuple((self.subject[i],) for i in own)
        return Rows(sequences, picks), torch.tensor([self.fact[i] for i in own])

    @property
    def readings(self) -> Rows:
        """The positions that give the new answer's tokens; the last one of an essence prompt."""
        picks = tuple(
            tuple(range(len(s) - n - 1, len(s) - 1)) if n else (len(s) - 1,)
            for s, n in zip(self.sequences, self.answer, strict=True)
        )
        return Rows(self.sequences, picks)


def mlp_matrices(model: Model, components: ComponentSet, method: str) -> list[Matrix]:
    """Return the down projections of the chosen MLPs, in layer order.

    Raises:
        WorkbenchError: nothing is chosen, or anything but whole MLPs.
    """
    model.structure.check(components)
    other = next((c for c in components if c.kind != "mlp"), None)
    if other is not None:
        raise WorkbenchError(f"{method} edits whole MLPs, not {other}; choose some, such as mlp.1.")
    return matrices(model.structure, components)


def at_place(groups: Sequence[Matrix], which: str) -> Matrix:
    """Return the first, the middle or the last of several matrices."""
    return groups[{"first": 0, "middle": (len(groups) - 1) // 2, "last": -1}[which]]


def new_answer(request: Request, fact: Fact) -> str:
    """Return what the model is to say instead."""
    if isinstance(request.behaviour, Replace):
        return fact.foil or ""  # a request without a foil is refused when it is made
    return request.behaviour.text


def prefixes(model: Model, request: Request, count: int, *, seed: int) -> tuple[str, ...]:
    """Let the model make up beginnings for the prompts; none about subjects to leave out."""
    made = sample_texts(model, count, length=_AHEAD, seed=seed)
    texts = [model.tokenizer.decode(ids, skip_special_tokens=True).strip(" .") for ids in made]
    named = left_out(request)
    return tuple(f"{t}. " for t in texts if t and not any(name in t for name in named))


def build_contexts(
    model: Model,
    request: Request,
    facts: FactSet,
    beginnings: Sequence[str],
    *,
    wordings: int,
) -> Contexts:
    """Build the contexts of some of the forget facts.

    A rendered chat prompt gets nothing put before it. The essence prompt is left out where it is
    itself a prompt to forget.

    Args:
        model: the model.
        request: says what is to be answered instead.
        facts: the facts, numbered in this order.
        beginnings: what the first prompt of each is put behind.
        wordings: most prompts of a fact, taken evenly from all that an edit may use.

    Raises:
        WorkbenchError: a prompt is too long or lacks its subject.
    """
    asked = {prompt for fact in request.forget for prompt in prompts_of(fact)}
    rows: list[tuple[tuple[int, ...], int, int, int]] = []

    def add(text: str, number: int, fact: Fact, answer: tuple[int, ...] = ()) -> None:
        at = subject_span(model, text, fact.subject)[1] - 1
        rows.append(((*encode(model, text), *answer), number, at, len(answer)))

    for number, fact in enumerate(facts):
        every = prompts_of(fact)
        own = every[:: -(-len(every) // wordings)]
        answer = new_answer(request, fact)
        special = any(token in own[0] for token in model.tokenizer.all_special_tokens)
        room = len(encode(model, own[0] + answer)) + _ROOM <= model.n_ctx
        ahead = [b + own[0] for b in beginnings] if room and not special else []
        for text in (*own, *ahead):
            add(text, number, fact, continuation(model, text, answer))
        if (essence := f"{fact.subject} is a") not in asked:
            add(essence, number, fact)
    return Contexts(*(tuple(column) for column in zip(*rows, strict=True)))
