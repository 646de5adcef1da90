"""The small search that every method gets, and what it goes by.

Settings are chosen on what the edit may know: the forget prompts it was made from and retained
facts of the request. What the study then reports is measured on the held-back ones. Of the settings
that lose no more retained accuracy than allowed, the one that forgets most is taken; if all lose
more, the one that loses least, and the table says so.

Source of the protocol: Guo et al. 2024 (arXiv 2410.12949) and RepSelect's matched disruption; the
order of the criteria is this project's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from workbench.edit.cost import Cost
from workbench.edit.forms import prompts_of
from workbench.facts.accepted import accepted
from workbench.facts.fact import Fact, Request
from workbench.measure.answers import is_right
from workbench.models.model import Model
from workbench.models.text import generate

_RETAINED = 60  # retained facts asked about while searching


@dataclass(frozen=True)
class Quick:
    """What a candidate is judged by.

    Attributes:
        forget: share of the forget set's prompts that are still answered.
        retain: share of the base's right answers about retained facts that are still right.
    """

    forget: float
    retain: float


@dataclass(frozen=True)
class Candidate:
    """One tried combination of settings.

    Attributes:
        settings: what was tried.
        quick: how it did; None if it could not be made.
        cost: what making it took; see `Cost`.
        error: why it could not be made.
    """

    settings: dict[str, Any]
    quick: Quick | None
    cost: Cost = field(default_factory=Cost)
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def retained(base: Model, request: Request, *, seed: int = 0) -> tuple[Fact, ...]:
    """Return the retained facts to ask an edited model about: those that the base answers.

    Args:
        base: the model before the edit.
        request: what to keep.
        seed: of the draw, where there are many.
    """
    facts = list(request.retain)
    if len(facts) > _RETAINED:
        facts = random.Random(seed).sample(facts, _RETAINED)
    right = _right(base, request, [(f, f.prompt) for f in facts])
    return tuple(f for f, known in zip(facts, right, strict=True) if known)


def quick(model: Model, request: Request, kept: Sequence[Fact]) -> Quick:
    """Ask an edited model the forget prompts, and retained facts.

    Args:
        model: the edited model.
        request: what to forget.
        kept: what `retained` returned.
    """
    forget = [(f, p) for f in request.forget for p in prompts_of(f)]
    right = _right(model, request, forget + [(f, f.prompt) for f in kept])
    gone, stayed = right[: len(forget)], right[len(forget) :]
    return Quick(sum(gone) / len(gone), sum(stayed) / len(stayed) if stayed else 1.0)


def _right(model: Model, request: Request, asked: Sequence[tuple[Fact, str]]) -> list[bool]:
    said = generate(model, [p for _, p in asked], max_new_tokens=16) if asked else []
    return [
        is_right(answer, accepted(fact), request.behaviour)
        for (fact, _), answer in zip(asked, said, strict=True)
    ]


def best(candidates: Sequence[Candidate], allowed_drop: float) -> tuple[int, bool] | None:
    """Return which candidate to take, and whether it keeps what it must.

    None if none could be made. Ties go to the one that keeps more, then to the first: time would
    not be the same again.
    """
    made = [(i, c.quick) for i, c in enumerate(candidates) if c.quick is not None]
    if not made:
        return None
    within = [m for m in made if m[1].retain >= 1 - allowed_drop - 1e-9]
    if within:
        i, _ = min(within, key=lambda m: (m[1].forget, -m[1].retain))
        return i, True
    i, _ = min(made, key=lambda m: (-m[1].retain, m[1].forget))
    return i, False
