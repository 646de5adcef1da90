"""What stands in the slots of a template: subjects, objects, and what is asked about them."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from workbench.repair.message import Label, Piece, Request
from workbench.repair.phrasings import SLOT, draw

PRONOUNS = ("her", "him", "them", "this person", "that person", "this", "that")
_SHE = ("she", "he", "they")


class Draws(Protocol):
    """Who draws what a slot needs."""

    rng: random.Random

    def pick(self, name: str) -> str:
        """Draw from one list of templates."""
        ...

    def object(self, pool: str) -> str:
        """Draw what a relation leads to."""
        ...

    def next_group(self) -> int:
        """Return a number that no other request of the message has."""
        ...


@dataclass(frozen=True)
class Slots:
    """Fills the slots of one request."""

    maker: Draws
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
            fact = draw(self.relation["facts"], rng)
            if self.request == "correct":  # what is wrong is only mentioned
                return replace(self, request="mention", group=self.maker.next_group()).fill(fact)
            return self.fill(fact)
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
        if self.subject in PRONOUNS:
            return f"[the {noun} of] {{S}}"
        return rng.choice((f"[the {noun} of] {{S}}", f"{{S}}['s {noun}]", f"{{S}}['s {noun}]"))

    def fill(self, template: str) -> list[Piece]:
        """Fill subject, object and replacement in."""
        rng, pool = self.maker.rng, self.relation["to"]
        subject = self.subject
        if subject in PRONOUNS[:5] and not re.search(r"(of|about|on|to|for)\]? \{S\}", template):
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
