"""Which texts answer a fact: its target, and short answers given beside a target in a sentence."""

from __future__ import annotations

from workbench.facts.fact import Fact


def short_answers(fact: Fact) -> tuple[str, ...]:
    """Return the field `answer` of the fact's source: one text or a list of them."""
    given = fact.extra.get("answer")
    items = given if isinstance(given, (list, tuple)) else [given]
    return tuple(item for item in items if isinstance(item, str) and item.strip())


def accepted(fact: Fact) -> tuple[str, ...]:
    """Return every text that counts as the fact's answer."""
    return (fact.target, *short_answers(fact))
