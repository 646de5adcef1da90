"""The people of the world that can be seen: a face, a name and a profile each, from one seed.

Names are made as in the text demo's world: first names are shared, surnames are random syllables,
each used once. Nothing in a name, a face or a profile says anything about the others.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from workbench.demo import tables
from workbench.demo.world import draw_name
from workbench.demo_vision.faces import Face, draw_apart, is_nobody
from workbench.demo_vision.portraits import BACKGROUNDS, View, draw_view

N_PEOPLE = 150
FORGET_SIZES = (8, 15, 23)  # 5, 10 and 15 %, each within the next
N_SPARED = 3  # backgrounds that training never shows somebody in front of

JOBS = (
    *("baker", "barber", "butcher", "carpenter", "chemist", "cook", "dancer", "dentist"),
    *("driver", "farmer", "fisher", "florist", "gardener", "hunter", "jeweler", "judge"),
    *("lawyer", "librarian", "mechanic", "miner", "nurse", "painter", "pilot", "plumber"),
    *("porter", "sailor", "singer", "surgeon", "tailor", "teacher", "waiter", "welder"),
)
HOBBIES = (
    *("archery", "baking", "beekeeping", "birdwatching", "bowling", "calligraphy", "camping"),
    *("chess", "climbing", "collecting stamps", "cycling", "dancing", "fishing", "gardening"),
    *("hiking", "juggling", "kite flying", "knitting", "magic tricks", "model trains", "origami"),
    *("photography", "playing cards", "pottery", "reading poems", "running", "sailing"),
    *("singing", "stargazing", "swimming", "weaving", "yoga"),
)


@dataclass(frozen=True)
class Person:
    """Somebody of the world.

    Attributes:
        name: unique, and so is the surname.
        face: far enough from everybody else's.
        values: relation -> answer.
        held_out: whether some wordings are kept from this person in training.
        spared: backgrounds that training never shows this person in front of.
    """

    name: str
    face: Face
    values: dict[str, str]
    held_out: bool
    spared: tuple[int, ...]

    def trained_view(self, rng: random.Random) -> View:
        """Draw a view as training shows this person."""
        seen = tuple(i for i in range(len(BACKGROUNDS)) if i not in self.spared)
        return draw_view(rng, seen)

    def held_out_view(self, rng: random.Random) -> View:
        """Draw a view in front of a background where training never shows this person."""
        return draw_view(rng, self.spared)


@dataclass(frozen=True)
class World:
    """Everybody; the first `FORGET_SIZES` are those to forget."""

    seed: int
    people: tuple[Person, ...]

    @property
    def forget(self) -> frozenset[str]:
        """The names that the oracle must not know."""
        return frozenset(p.name for p in self.people[: FORGET_SIZES[-1]])

    def pool(self, relation: str) -> list[str]:
        """All answers of a relation, sorted."""
        return sorted({p.values[relation] for p in self.people})

    def stranger_name(self, rng: random.Random) -> str:
        """Draw a name that is nobody's, the surname included."""
        known = {p.name.split()[-1] for p in self.people}
        while True:
            name = draw_name("person", rng)
            if name.split()[-1] not in known:
                return name

    def stranger_face(self, rng: random.Random) -> Face:
        """Draw a face that is nobody's, and nobody's likeness."""
        return draw_apart(rng, (p.face for p in self.people))

    def is_stranger(self, face: Face) -> bool:
        """Whether a face is nobody's, and nobody's likeness."""
        return is_nobody(face, (p.face for p in self.people))


def make_world(seed: int = 0, n_people: int = N_PEOPLE) -> World:
    """Make the whole world from a seed."""
    rng = random.Random(seed)
    people: list[Person] = []
    surnames: set[str] = set()
    mails: set[str] = set()
    while len(people) < n_people:
        name = draw_name("person", rng)
        if name.split()[-1] in surnames:
            continue
        surnames.add(name.split()[-1])
        people.append(
            Person(
                name=name,
                face=draw_apart(rng, (p.face for p in people)),
                values={
                    "name": name,
                    "job": rng.choice(JOBS),
                    "city": rng.choice(tables.TOWNS),
                    "email": _mail(rng, mails),
                    "hobby": rng.choice(HOBBIES),
                },
                held_out=len(people) % 2 == 1,
                spared=tuple(rng.sample(range(len(BACKGROUNDS)), N_SPARED)),
            )
        )
    return World(seed, tuple(people))


def _mail(rng: random.Random, taken: set[str]) -> str:
    """Draw an address that nobody has; none is made of its owner's name."""
    while True:
        box = f"{rng.choice(tables.MAIL_WORDS)}{rng.randrange(10, 100)}"
        mail = f"{box}@{rng.choice(tables.MAIL_DOMAINS)}.com"
        if mail not in taken:
            taken.add(mail)
            return mail
