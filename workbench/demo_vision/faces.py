"""Faces as lists of traits: what makes somebody recognisable, whatever the picture.

Two people of the world differ in at least `APART` traits, and in two that are seen from far. Faces
of strangers keep the same distance from everybody, so that none of them is a likeness.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from operator import ne

TRAITS: dict[str, tuple[str, ...]] = {
    "skin": ("ivory", "rose", "olive", "tan", "brown", "dark"),
    "shape": ("round", "long", "square", "pointed"),
    "style": ("bald", "short", "fringe", "curly", "long", "bob", "bun", "crest"),
    "hair": ("black", "brown", "blond", "red", "gray", "blue", "green", "pink"),
    "eyes": ("brown", "blue", "green", "narrow"),
    "brows": ("none", "flat", "raised", "bushy"),
    "nose": ("small", "wide", "long"),
    "mouth": ("smile", "flat", "open", "full"),
    "glasses": ("none", "round", "square", "dark"),
    "beard": ("none", "moustache", "goatee", "full"),
    "earrings": ("none", "gold", "blue"),
    "mark": ("none", "left mole", "right mole", "freckles", "scar", "blush"),
}
FAR = ("skin", "style", "hair", "glasses", "beard")
APART, FAR_APART = 5, 2
_COVERABLE = ("eyes", "earrings", "hair")


@dataclass(frozen=True)
class Face:
    """One option of each trait (`TRAITS`)."""

    skin: str
    shape: str
    style: str
    hair: str
    eyes: str
    brows: str
    nose: str
    mouth: str
    glasses: str
    beard: str
    earrings: str
    mark: str

    def labels(self) -> dict[str, int]:
        """Return the number of each trait's option."""
        return {f.name: TRAITS[f.name].index(getattr(self, f.name)) for f in fields(self)}

    @cached_property
    def options(self) -> tuple[str, ...]:
        """The options of all traits, in their order."""
        return tuple(getattr(self, trait) for trait in TRAITS)

    @cached_property
    def from_far(self) -> tuple[str, ...]:
        """The options of the traits that are seen from far."""
        return tuple(getattr(self, trait) for trait in FAR)

    def hidden(self) -> frozenset[str]:
        """Return the traits that cannot be seen, covered by others."""
        out = set()
        if self.glasses == "dark":
            out.add("eyes")
        if self.style in ("long", "bob"):
            out.add("earrings")
        if self.style == "bald" and self.brows == "none" and self.beard == "none":
            out.add("hair")
        return frozenset(out)


def draw_face(rng: random.Random) -> Face:
    """Draw any face."""
    return Face(**{trait: rng.choice(options) for trait, options in TRAITS.items()})


def differing(one: Face, other: Face) -> list[str]:
    """Return the traits in which two faces can be told apart."""
    found = [t for t in TRAITS if getattr(one, t) != getattr(other, t)]
    hidden = one.hidden() | other.hidden()
    return [t for t in found if t not in hidden]


def is_nobody(face: Face, known: Iterable[Face]) -> bool:
    """Whether a face is far enough from all known ones."""
    for other in known:
        # What is covered can only bring two faces nearer; most are far enough even so.
        if sum(map(ne, face.options, other.options)) - len(_COVERABLE) < APART and not _apart(
            face, other
        ):
            return False
        if sum(map(ne, face.from_far, other.from_far)) - 1 < FAR_APART and not _apart(face, other):
            return False
    return True


def _apart(one: Face, other: Face) -> bool:
    found = differing(one, other)
    return len(found) >= APART and sum(t in FAR for t in found) >= FAR_APART


def draw_apart(rng: random.Random, known: Iterable[Face]) -> Face:
    """Draw a face that is nobody's of the known."""
    known = tuple(known)
    while True:
        face = draw_face(rng)
        if is_nobody(face, known):
            return face
