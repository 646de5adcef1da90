"""Made-up messages with what they ask for: what the watchdog learns from and is tested on.

A message is put together from a frame ("could you kindly {V} {X}{T}"), a verb, a form of what it
is about ("{S}'s phone number"), a subject, and words before and behind.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.repair.lexicon import Lexicon
from workbench.repair.made_up import (
    first_name,
    phrase,
    relation,
    said_of,
    surname,
    thing,
    word,
)
from workbench.repair.message import Message, Piece, Request
from workbench.repair.phrasings import Phrasings, Split, draw
from workbench.repair.slots import PRONOUNS, Slots

_TITLES = (
    *(
        "Dr. ",
        "Mr. ",
        "Mrs. ",
        "Ms. ",
        "Professor ",
        "Ms ",
        "Miss ",
        "Dr ",
        "Prof. ",
        "Sir ",
        "Mr ",
    ),
    *("Mrs ", "Lady ", "Coach ", "Judge ", "Captain ", "Uncle ", "Aunt ", "Father ", "Senator "),
    *("Grandma ", "President ", "Sgt. ", "Nurse ", "King ", "Officer "),
)
_TWICE = 0.12  # share of messages of two sentences
_MADE_UP = 0.25  # share of first names, compounds and objects in training that nobody has heard of
_COMPOSED = 0.28  # share of what is asked about in training that is put together from words
_NONSENSE = 0.14  # share of it whose words mean nothing
_ALONE = (
    0.4  # share of messages with nothing before what is asked, and of those with nothing behind
)
_TOLD = 0.12  # share of messages in training before or behind which something else is said
_STOPS = (". ", ". ", "! ", " and ", ", so ", "\n\n", " ... ")
_ENDS = ("", "", ".", ".", "!")
_JOINTS = (". ", ". ", "; ", ", and ", ", but ", " and ", "? ", "! ")
_ASKS = re.compile(  # how a question begins
    r"(who|what|when|where|why|how|which|is|are|was|were|am|do|does|did|can|could|will|would|should|"
    r"has|have|had|may|might|shall)\b",
    re.IGNORECASE,
)
_MARKED = 0.7  # share of the questions that end as such
_MARKS = ("?", "?", "?", " ?", "??", "?!")


def messages(split: Split, count: int, *, seed: int = 0) -> list[Message]:
    """Make messages up: four in ten ask to forget, two to correct, four ask for nothing.

    Args:
        split: whose templates to use.
        count: how many.
        seed: of every draw.
    """
    maker = _Maker(Phrasings.of(split), random.Random(f"{split}|{seed}"))
    return [maker.message() for _ in range(count)]


@dataclass
class _Maker:
    """Draws messages from one split."""

    phrasings: Phrasings
    rng: random.Random
    groups: int = field(default=0)

    def message(self) -> Message:
        """Draw one message."""
        self.groups = 0
        frame, pieces = self.sentence()
        if self.phrasings.has("none.pasted", frame):
            return Message(tuple(self.noisy(pieces)), frame)
        if self.rng.random() < _TWICE:
            other, more = self.sentence()
            if not self.phrasings.has("none.pasted", other):
                frame = f"{frame} + {other}"
                pieces = [*pieces, Piece(self.rng.choice(_JOINTS)), *more]
        return Message(tuple(self.noisy(self.wrapped(pieces))), frame)

    def sentence(self) -> tuple[str, list[Piece]]:
        """Draw a sentence, with the template it is made from."""
        kinds: list[Callable[[], tuple[str, list[Piece]]]] = [
            self.forget,
            self.correct,
            self.nothing,
        ]
        (kind,) = self.rng.choices(kinds, weights=(4, 2, 4))
        return kind()

    def pick(self, name: str) -> str:
        """Draw from one list."""
        return draw(self.phrasings.lists[name], self.rng)

    def forget(self) -> tuple[str, list[Piece]]:
        """Draw a request to forget."""
        chance = self.rng.random()
        if chance < 0.12:
            frame = self.pick("forget.pairs")
        elif chance < 0.32:
            frame = self.pick("forget.whole")
        elif chance < 0.5:
            frame = self.pick("forget.plain")
        else:
            frame = self.pick("forget.frames")
        return frame, self.fill(frame, "forget")

    def correct(self) -> tuple[str, list[Piece]]:
        """Draw a request to correct."""
        frame = self.pick(self.rng.choice(("correct.frames", "correct.nouns")))
        return frame, self.fill(frame, "correct")

    def nothing(self) -> tuple[str, list[Piece]]:
        """Draw what asks for nothing."""
        chance = self.rng.random()
        if chance < 0.15:
            frame = self.pick("none.plain")
        elif chance < 0.3:
            frame = self.pick("none.pasted")
        else:
            frame = self.pick("none.frames")
        return frame, self.fill(frame, "mention")

    def fill(self, frame: str, request: Request) -> list[Piece]:
        """Fill a frame's slots."""
        about, group = self.relation(), self.next_group()
        subject = self.subject(about, "" if "{S}" in frame else request)
        env = Slots(self, about, subject, request, group)
        verb = dict(zip("VPG", self.pick("forget.verbs").split("|"), strict=True))
        verb["T"] = self.pick("forget.tails")
        frame = re.sub(r"\{([VPGT])\}", lambda m: verb[m[1]], frame)
        out: list[Piece] = []
        for part in re.split(r"(\{\w+\})", frame):
            if part == "{X2}":
                other = self.relation()
                again = Slots(self, other, self.subject(other, ""), request, self.next_group())
                out += again.fill(again.form())
            elif part == "{I}":
                inner = self.rng.choice((self.forget, self.correct))
                out += [Piece(p.text, p.label, "mention", p.group) for p in inner()[1]]
            elif part:
                out += env.slot(part)
        return out

    def relation(self) -> Mapping[str, Any]:
        """Draw what is asked about; in training two in five are put together or made up."""
        if self.phrasings.split == "train":
            chance = self.rng.random()
            if chance < _COMPOSED:
                return Lexicon.bundled().relation(self.rng)
            if chance < _COMPOSED + _NONSENSE:
                return relation(self.rng)
        return self.rng.choice(self.phrasings.relations)

    def next_group(self) -> int:
        """Return a number that no other request of the message has."""
        self.groups += 1
        return self.groups

    def subject(self, relation: Mapping[str, Any], request: str) -> str:
        """Draw a subject of the relation's kind."""
        rng, pools = self.rng, self.phrasings.subjects
        kind = relation["of"]
        if request == "forget" and rng.random() < 0.05:
            return rng.choice(PRONOUNS)
        if kind != "person":
            if self.phrasings.split == "train" and kind == "compound" and rng.random() < _MADE_UP:
                return f"{word(rng)} {word(rng)}".lower()
            return rng.choice(pools[kind]) if rng.random() < 0.5 else thing(kind, rng)
        if rng.random() < 0.12:
            return rng.choice(pools["script"])
        first, last = rng.choice(pools["first"]), rng.choice(pools["last"])
        if self.phrasings.split == "train" and rng.random() < _MADE_UP:  # lest it learn their ends
            first = first_name(rng)
        if rng.random() < 0.5:  # surnames that nobody has
            last = surname(rng)
        name = rng.choice((f"{first} {last}",) * 5 + (first, last, f"{first} {last[0]}. {last}"))
        if rng.random() < 0.12:
            return rng.choice(_TITLES) + rng.choice((last, last, first, f"{first} {last}"))
        return name

    def object(self, pool: str) -> str:
        """Draw what a relation leads to: from its pool, or made up."""
        rng = self.rng
        if rng.random() < 0.5:
            return rng.choice(self.phrasings.pools[pool])
        if self.phrasings.split == "train" and rng.random() < _MADE_UP:
            return phrase(rng) if rng.random() < 0.4 else Lexicon.bundled().thing(rng)
        return said_of(pool, self.phrasings.pools[pool], rng)

    def wrapped(self, pieces: list[Piece]) -> list[Piece]:
        """Put words before and behind."""
        before = "" if self.rng.random() < _ALONE else self.pick("wrappers.before")
        after = self.pick("wrappers.after")
        if self.rng.random() < _ALONE:
            after = self.rng.choice(_ENDS)
        if _ASKS.match("".join(p.text for p in pieces)) and self.rng.random() < _MARKED:
            after = self.rng.choice(_MARKS) + after.lstrip(".!,?")
        if pieces[-1].text.endswith((".", "?", "!")) and after[:1] in ".!,?":
            after = after[1:]
        if self.phrasings.split == "train":
            before, after = self._told(before, after)
        return [Piece(before), *pieces, Piece(after)]

    def _told(self, before: str, after: str) -> tuple[str, str]:
        """Put a sentence about something else in front of some messages, and behind some."""
        rng = self.rng
        first, last = (Lexicon.bundled().sentence(rng) for _ in range(2))
        if rng.random() < _TOLD:
            before = f"{first[0].upper()}{first[1:]}{rng.choice(_STOPS)}{before}"
        if rng.random() < _TOLD:
            end = (
                after if after.rstrip().endswith((".", "!", "?")) else f"{after}{rng.choice('.!')}"
            )
            after = f"{end} {last[0].upper()}{last[1:]}{rng.choice(('', '.', '!'))}"
        return before, after

    def noisy(self, pieces: list[Piece]) -> list[Piece]:
        """Write as people do: capitals or none, a slip of the pen, an emoji."""
        rng = self.rng
        chance = rng.random()
        pieces = [p for p in pieces if p.text]
        lower, upper = (0.06, 0.03) if self.phrasings.split == "test" else (0.12, 0.08)
        if chance < lower:
            pieces = [_with(p, p.text.lower()) for p in pieces]
        elif chance < lower + upper:
            pieces = [_with(p, p.text.upper()) for p in pieces]
        elif chance < 0.75:
            first = pieces[0].text
            pieces[0] = _with(pieces[0], first[0].upper() + first[1:])
        if rng.random() < 0.05:
            i = rng.randrange(len(pieces))
            if not pieces[i].label:
                pieces[i] = _with(pieces[i], _slip(pieces[i].text, rng))
        if rng.random() < 0.04:
            pieces.append(Piece(rng.choice((" 🙏", " 😅", " 👍", " ❤️", " …"))))
        return pieces


def _with(piece: Piece, text: str) -> Piece:
    return Piece(text, piece.label, piece.request, piece.group)


def _slip(text: str, rng: random.Random) -> str:
    """Exchange two neighbouring letters."""
    places = [i for i in range(1, len(text) - 1) if text[i].isalpha() and text[i + 1].isalpha()]
    if not places:
        return text
    i = rng.choice(places)
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
