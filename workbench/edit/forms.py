"""The wordings that an edit may use, with a slot for what stands for the subject.

A subject is named in a prompt, or shown in its picture; what stands for one may be exchanged for
another of its kind.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.edit.self_made import SLOT
from workbench.facts.fact import Fact, FactSet
from workbench.models.pictured import MARKER, Pictured, carrying, pictures_of


@dataclass(frozen=True)
class Kind:
    """What can stand in for one another: subjects of a relation that are named, or are shown."""

    relation: str
    shown: bool = False


@dataclass(frozen=True)
class Form:
    """A wording of a relation: a prompt with a slot for what stands for the subject."""

    relation: str
    text: str
    shown: bool = False

    @property
    def kind(self) -> Kind:
        """Whose subjects fit."""
        return Kind(self.relation, self.shown)

    def about(self, mention: str) -> str:
        """Fill the slot with a name, or with a picture (`mention`)."""
        return carrying(str(self.text).replace(SLOT, str(mention)), self.text, mention)

    @property
    def around(self) -> tuple[str, str]:
        """What stands before the slot, and what behind it."""
        before, _, behind = self.text.partition(SLOT)
        return before, behind


def prompts_of(fact: Fact) -> tuple[str, ...]:
    """Return the prompts an edit may use: all but the held-out wordings and multiple choice."""
    return tuple(dict.fromkeys((fact.prompt, *fact.paraphrases, *fact.statements)))


def mention(fact: Fact, prompt: str) -> str:
    """Return what stands for the subject in a fact's prompt: its name, or the picture it is in."""
    pictures = pictures_of(prompt)
    named = not pictures or fact.subject in prompt
    return fact.subject if named else Pictured(MARKER, pictures[-1:])


def form_of(fact: Fact, prompt: str) -> Form:
    """Return the wording of a fact's prompt."""
    stands = mention(fact, prompt)
    if pictures_of(stands):
        return Form(fact.relation, str(prompt).replace(MARKER, SLOT), shown=True)
    return Form(fact.relation, prompt.replace(stands, SLOT))


def forms_of(facts: FactSet) -> tuple[Form, ...]:
    """Return every wording of a set of facts, each once, in order."""
    return tuple(dict.fromkeys(form_of(f, p) for f in facts for p in prompts_of(f)))


def mentions_by_kind(facts: FactSet) -> dict[Kind, tuple[str, ...]]:
    """Return what stands for the subjects of each kind, each once, in order."""
    out: dict[Kind, dict[str, None]] = {}
    for fact in facts:
        for prompt in prompts_of(fact):
            stands = mention(fact, prompt)
            out.setdefault(Kind(fact.relation, bool(pictures_of(stands))), {})[stands] = None
    return {kind: tuple(mentions) for kind, mentions in out.items()}


def shared_beginnings(subjects: Sequence[str], others: Sequence[str]) -> dict[str, int]:
    """Return how many characters of each subject some other begins with too.

    What stands there cannot tell a causal model whom the prompt is about.
    """
    ordered = sorted({*others} - {*subjects})
    shared = {}
    for name in subjects:
        at = bisect(ordered, name)  # the longest common beginnings are beside it
        shared[name] = max((_common(name, o) for o in ordered[max(at - 1, 0) : at + 1]), default=0)
    return shared


def _common(a: str, b: str) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
