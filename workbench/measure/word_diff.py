"""Which words of an answer changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

_PIECES = re.compile(r"\s+|[^\s]+")


@dataclass(frozen=True)
class Piece:
    """A run of words that both texts have, or only one of them.

    Attributes:
        kind: same, gone (only before) or new (only after).
        text: the words with the white space between them.
    """

    kind: Literal["same", "gone", "new"]
    text: str


def word_diff(before: str, after: str) -> tuple[Piece, ...]:
    """Align two texts word by word.

    Joining the pieces that are not new gives `before`, those that are not gone gives `after`.
    """
    old, new = _PIECES.findall(before), _PIECES.findall(after)
    out: list[Piece] = []
    for op, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if op == "equal":
            out.append(Piece("same", "".join(old[a:b])))
            continue
        if b > a:
            out.append(Piece("gone", "".join(old[a:b])))
        if d > c:
            out.append(Piece("new", "".join(new[c:d])))
    return tuple(out)
