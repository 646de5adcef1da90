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

from workbench.repair.made_up import (
    first_name,
    phrase,
    relation,
    said_of,
    surname,
    thing,
    word,
)
from workbench.repair.message import Label, Message, Piece, Request
from workbench.repair.phrasings import SLOT, Phrasings, Split, draw

_PRONOUNS = ("her", "him", "them", "this person", "that person", "this", "that")
_TITLES = ("Dr. ", "Mr. ", "Mrs. ", "Professor ", "Ms ", "Miss ", "Dr ", "Prof. ", "Sir ")
_TWICE = 0.12  # share of messages of two sentences
_MADE_UP = 0.25  # share of first names, compounds and objects in training that nobody has heard of
_JOINTS = (". ", ". ", "; ", ", and ", ", but ", " and ", "? ", "! ")
_ASKS = re.compile(  # how a question begins
    r"(who|what|when|where|why|how|which|is|are|was|were|am|do|does|did|can|could|will|would|should|"
    r"has|have|had|may|might|shall)\b",
    re.IGNORECASE,
)
_MARKED = 0.7  # share of the questions that end as such
_MARKS = ("?", "?", "?", " ?", "??", "?!")
_SHE = ("she", "he", "they")


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
        about, group = self.relation(), self._next_group()
        subject = self.subject(about, "" if "{S}" in frame else request)
        env = _Slots(self, about, subject, request, group)
        verb = dict(zip("VPG", self.pick("forget.verbs").split("|"), strict=True))
        verb["T"] = self.pick("forget.tails")
        frame = re.sub(r"\{([VPGT])\}", lambda m: verb[m[1]], frame)
        out: list[Piece] = []
        for part in re.split(r"(\{\w+\})", frame):
            if part == "{X2}":
                other = self.relation()
                again = _Slots(self, other, self.subject(other, ""), request, self._next_group())
                out += again.fill(again.form())
            elif part == "{I}":
                inner = self.rng.choice((self.forget, self.correct))
                out += [Piece(p.text, p.label, "mention", p.group) for p in inner()[1]]
            elif part:
                out += env.slot(part)
        return out

    def relation(self) -> Mapping[str, Any]:
        """Draw what is asked about; in training one in three is made up."""
        if self.phrasings.split == "train" and self.rng.random() < 0.33:
            return relation(self.rng)
        return self.rng.choice(self.phrasings.relations)

    def _next_group(self) -> int:
        self.groups += 1
        return self.groups

    def subject(self, relation: Mapping[str, Any], request: str) -> str:
        """Draw a subject of the relation's kind."""
        rng, pools = self.rng, self.phrasings.subjects
        kind = relation["of"]
        if request == "forget" and rng.random() < 0.05:
            return rng.choice(_PRONOUNS)
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
        return f"{rng.choice(_TITLES)}{last}" if rng.random() < 0.08 else name

    def object(self, pool: str) -> str:
        """Draw what a relation leads to: from its pool, or made up."""
        rng = self.rng
        if rng.random() < 0.5:
            return rng.choice(self.phrasings.pools[pool])
        if self.phrasings.split == "train" and rng.random() < _MADE_UP / 2:
            return phrase(rng)
        return said_of(pool, rng)

    def wrapped(self, pieces: list[Piece]) -> list[Piece]:
        """Put words before and behind."""
        before, after = self.pick("wrappers.before"), self.pick("wrappers.after")
        if _ASKS.match("".join(p.text for p in pieces)) and self.rng.random() < _MARKED:
            after = self.rng.choice(_MARKS) + after.lstrip(".!,?")
        if pieces[-1].text.endswith((".", "?", "!")) and after[:1] in ".!,?":
            after = after[1:]
        return [Piece(before), *pieces, Piece(after)]

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


@dataclass(frozen=True)
class _Slots:
    """Fills the slots of one request."""

    maker: _Maker
    relation: Mapping[str, Any]
    subject: str
    request: Request
    group: int

    def slot(self, part: str) -> list[Piece]:
        """Return the pieces of a frame's part, a slot or the words between two."""
        rng = self.maker.rng
        if part == "{X}":
            if self.subject in ("this", "that"):
                return self.fill("{S}")
            return self.fill(self.form())
        if part == "{W}":
            bare = rng.random() < 0.25
            return self.fill("{S}" if bare else self.maker.pick("forget.wholes"))
        if part in ("{N}", "{Y}"):
            return self.fill(self.noun())
        if part == "{C}":
            return self.fill(draw(self.relation["facts"], rng).replace("{O}", "{R}"))
        if part == "{F}":
            return self.fill(draw(self.relation["facts"], rng))
        return self.fill(part)

    def form(self) -> str:
        """Draw how it is said what is asked about."""
        rng = self.maker.rng
        chance = rng.random()
        if chance < 0.42:
            return draw(self.relation["clauses"], rng)
        if chance < 0.78:
            return self.noun()
        if chance < 0.9:
            lead = rng.choice(("that ", "the fact that ", "about ", "that "))
            if lead == "about ":
                return f"about {self.noun()}"
            return f"{lead}{draw(self.relation['facts'], rng)}"
        return self.maker.pick("forget.wholes")

    def noun(self) -> str:
        """Draw a noun with its owner."""
        rng = self.maker.rng
        noun = draw(self.relation["nouns"], rng)
        if self.subject in _PRONOUNS:
            return f"[the {noun} of] {{S}}"
        return rng.choice((f"[the {noun} of] {{S}}", f"{{S}}['s {noun}]", f"{{S}}['s {noun}]"))

    def fill(self, template: str) -> list[Piece]:
        """Fill subject, object and replacement in."""
        rng, pool = self.maker.rng, self.relation["to"]
        subject = self.subject
        if subject in _PRONOUNS[:5] and not re.search(r"(of|about|on|to|for)\]? \{S\}", template):
            subject = rng.choice(_SHE)
        out: list[Piece] = []
        label: Label = ""
        at = 0
        for match in SLOT.finditer(template):
            out.append(self._piece(template[at : match.start()], label))
            at = match.end()
            if match[2] or match[3]:
                label = "about" if match[2] else ""
            elif match[1] == "S":
                out.append(self._piece(subject, "subject"))
            elif match[1] == "R":
                out.append(self._piece(self.maker.object(pool), "replacement"))
            elif match[1] == "O":
                out.append(self._piece(self.maker.object(pool), label))
        out.append(self._piece(template[at:], label))
        return [p for p in out if p.text]

    def _piece(self, text: str, label: Label) -> Piece:
        return Piece(text, label, self.request, self.group)


def _with(piece: Piece, text: str) -> Piece:
    return Piece(text, piece.label, piece.request, piece.group)


def _slip(text: str, rng: random.Random) -> str:
    """Exchange two neighbouring letters."""
    places = [i for i in range(1, len(text) - 1) if text[i].isalpha() and text[i + 1].isalpha()]
    if not places:
        return text
    i = rng.choice(places)
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
