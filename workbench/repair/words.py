"""A message as tokens: words, where they stand, and who speaks in them.

What a user quotes or pastes is not what the user asks for. Every token therefore knows whether it
stands in the user's own words, in quotation marks, or in something pasted: a fenced block, a line
behind ">", a text between rules or tags, what follows a line that ends with a colon.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

Voice = Literal["own", "quoted", "pasted"]
VOICES: tuple[Voice, ...] = ("own", "quoted", "pasted")

_TOKEN = re.compile(
    r"['\u2019]s\b"
    r"|\w[\w.+-]{0,63}@[\w-]+(?:\.[\w-]+)+"  # an e-mail address
    r"|[$\u20ac\u00a3]?\d+(?:[.,:]\d+)+|[$\u20ac\u00a3]\d+"  # an amount, a date, a time
    r"|(?<!\w)@\w+|[^\W_]+(?:_[^\W_]+)+"  # a name on the net
    r"|[^\W_]+(?:[-&][^\W_]+)*|[^\w\s]|_"
)
_QUOTED = re.compile(
    r'"[^"]*"|“[^”]*”|«[^»]*»|„[^“”]*[“”]|(?<![^\s(:])[\'\u2018]'
    r"(?:[^'\u2019\n]|['\u2019](?=[^\W_])){1,2000}['\u2019](?![^\W_])"
)
_PASTED = re.compile(
    r"```.*?(?:```|\Z)"  # a fenced block
    r"|(?:^|(?<=\n))[ \t]*>[^\n]*"  # a quoted line
    r"|(?<=\n)-{3,}[ \t]*\n.*?(?:\n-{3,}[ \t]*(?=\n|\Z)|\Z)"  # between two rules
    r"|(?<=:)[ \t]*\n.*\Z"  # behind a line that ends with a colon
    r"|<(?P<tag>[a-zA-Z][\w-]*)[^<>\n]*>.*?</(?P=tag)>",  # between two tags
    re.DOTALL,
)


@dataclass(frozen=True)
class Word:
    """One token of a message.

    Attributes:
        text: the token.
        start: its first character in the message.
        voice: in whose words it stands.
    """

    text: str
    start: int
    voice: Voice

    @property
    def end(self) -> int:
        """The first character behind it."""
        return self.start + len(self.text)


def words(text: str) -> tuple[Word, ...]:
    """Split a message into its tokens."""
    quoted, pasted = ([m.span() for m in pattern.finditer(text)] for pattern in (_QUOTED, _PASTED))
    return tuple(
        Word(m[0], m.start(), _voice(m.start(), quoted, pasted)) for m in _TOKEN.finditer(text)
    )


def _voice(at: int, quoted: list[tuple[int, int]], pasted: list[tuple[int, int]]) -> Voice:
    if _inside(at, pasted):
        return "pasted"
    return "quoted" if _inside(at, quoted) else "own"


def _inside(at: int, spans: list[tuple[int, int]]) -> bool:
    i = bisect_right(spans, (at, 1 << 60)) - 1
    return i >= 0 and at < spans[i][1]


def shape(word: str) -> str:
    """Return what a word looks like: "Xx", "xx", "XX", "00", "punctuation", "other script", ..."""
    if not any(c.isalnum() for c in word):
        return word if word in _MARKS else "punctuation"
    if any(c.isdigit() for c in word):
        return "00" if word.isdigit() else "x0"
    if not any(c.isascii() or "À" <= c <= "ɏ" for c in word):
        return "other script"
    if word.isupper():
        return "X" if len(word) == 1 else "XX"
    return "Xx" if word[0].isupper() else "xx"


_MARKS = frozenset(".,;:!?'\"-()@&$+/")
SHAPES: tuple[str, ...] = (
    *sorted(_MARKS),
    *("punctuation", "00", "x0", "other script", "X", "XX", "Xx", "xx"),
)
