"""A seeded order that stays the same for the rest when an item is left out or put in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from workbench.models.pictured import with_digests

T = TypeVar("T")


def shuffled(items: Iterable[T], name: Callable[[T], Any], *, seed: int) -> list[T]:
    """Return items in an order that only the seed and each one's own name decide.

    Args:
        items: what to put in order.
        name: of an item, in JSON types or prompts with pictures.
        seed: of the order.
    """
    return sorted(items, key=lambda item: number(name(item), seed=seed))


def number(name: Any, *, seed: int) -> int:
    """Return a number that looks drawn, of 64 bits, for a name."""
    text = json.dumps([seed, with_digests(name)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
