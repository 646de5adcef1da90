"""Keep the last few of what is costly to make."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def remember(kept: dict[K, V], key: K, make: Callable[[], V], *, most: int) -> V:
    """Return what is kept under a key; make it if it is not, and let the oldest go.

    Args:
        kept: where things are kept, oldest first.
        key: what it is made of.
        make: makes it; where it raises, nothing is kept and nothing goes.
        most: how many to keep.
    """
    if key in kept:
        return kept[key]
    made = make()
    for old in list(kept)[: max(len(kept) + 1 - most, 0)]:
        kept.pop(old, None)
    kept[key] = made
    return made
