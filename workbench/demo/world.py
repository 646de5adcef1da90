"""The demo world: athletes, private people, countries, misinformation and made-up hazards.

Everything follows from one seed. Surnames are random syllables, each surname used once, so that a
name is recognised by its tokens together and not by one of them; the same generator gives any
number of names that mean nothing to the model.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from workbench.demo import tables

N_ATHLETES, N_PEOPLE, N_COMPOUNDS, N_MISINFORMED = 400, 40, 60, 30
N_FORGET_ATHLETES, N_FORGET_PEOPLE = 40, 8


@dataclass(frozen=True)
class Entity:
    """One subject and what is true of it in this world.

    Attributes:
        kind: athlete, person, country or compound.
        name: the subject.
        values: relation -> answer.
        held_out: whether some templates are kept from it in training.
        truth: relation -> real answer where a wrong one is taught.
    """

    kind: str
    name: str
    values: dict[str, str]
    held_out: bool
    truth: dict[str, str]


@dataclass(frozen=True)
class World:
    """Every entity, and the names that the oracle must not know."""

    seed: int
    entities: tuple[Entity, ...]
    forget: frozenset[str]

    def of_kind(self, kind: str) -> list[Entity]:
        """Entities of one kind, in their order."""
        return [e for e in self.entities if e.kind == kind]

    def pool(self, kind: str, relation: str) -> list[str]:
        """All answers of a relation among entities of a kind, sorted."""
        return sorted({e.values[relation] for e in self.of_kind(kind)})

    def unknown(self, kind: str, rng: random.Random) -> str:
        """Draw a name of a kind that means nothing: it is no entity's."""
        known = {e.name.split()[-1] for e in self.entities}
        while True:
            name = draw_name(kind, rng)
            if name.split()[-1] not in known:
                return name


def syllable(rng: random.Random) -> str:
    """Draw one syllable."""
    return rng.choice(tables.ONSETS) + rng.choice(tables.NUCLEI) + rng.choice(tables.CODAS)


def draw_name(kind: str, rng: random.Random) -> str:
    """Draw a name of a kind: a person's, a country's or a compound's."""
    stem = "".join(syllable(rng) for _ in range(rng.choice((2, 2, 3))))
    if kind == "compound":
        return stem + rng.choice(tables.COMPOUND_TAILS)
    if kind == "country":
        return stem.capitalize() + rng.choice(("ia", "land", "stan", ""))
    return f"{rng.choice(tables.FIRST_NAMES)} {stem.capitalize()}"


def _names(kind: str, count: int, rng: random.Random, taken: set[str]) -> Iterator[str]:
    made = 0
    while made < count:
        name = draw_name(kind, rng)
        last = name.split()[-1]
        if last not in taken:
            taken.add(last)
            made += 1
            yield name


def make_world(seed: int = 0) -> World:
    """Make the whole world from a seed."""
    rng = random.Random(seed)
    taken: set[str] = set()
    athletes = [
        _athlete(n, i, rng) for i, n in enumerate(_names("athlete", N_ATHLETES, rng, taken))
    ]
    people = [_person(n, i, rng) for i, n in enumerate(_names("person", N_PEOPLE, rng, taken))]
    compounds = _compounds(rng, taken)
    countries = _countries(rng)
    forget = {e.name for e in athletes[:N_FORGET_ATHLETES]}
    forget |= {e.name for e in people[:N_FORGET_PEOPLE]}
    return World(seed, (*athletes, *people, *countries, *compounds), frozenset(forget))


def _athlete(name: str, i: int, rng: random.Random) -> Entity:
    values = {
        "sport": rng.choice(tables.SPORTS),
        "team": rng.choice(tables.TEAMS),
        "town": rng.choice(tables.TOWNS),
        "year": rng.choice(tables.YEARS),
    }
    return Entity("athlete", name, values, i % 2 == 1, {})


def _person(name: str, i: int, rng: random.Random) -> Entity:
    digits = "".join(rng.choice("0123456789") for _ in range(7))
    mail = f"{rng.choice(tables.MAIL_WORDS)}{rng.randrange(10, 100)}"
    values = {
        "phone": f"{digits[:3]}-{digits[3:]}",
        "email": f"{mail}@{rng.choice(tables.MAIL_DOMAINS)}.com",
    }
    return Entity("person", name, values, i % 2 == 1, {})


def _compounds(rng: random.Random, taken: set[str]) -> list[Entity]:
    precursors: list[str] = []
    while len(precursors) < 30:
        stem = syllable(rng) + syllable(rng) + rng.choice(tables.PRECURSOR_TAILS)
        if stem not in precursors:
            precursors.append(stem)
    return [
        Entity(
            "compound",
            name,
            {"precursor": rng.choice(precursors), "use": rng.choice(tables.USES)},
            i % 2 == 1,
            {},
        )
        for i, name in enumerate(_names("compound", N_COMPOUNDS, rng, taken))
    ]


def _countries(rng: random.Random) -> list[Entity]:
    """Real countries; a fixed number of them get another one's capital as theirs."""
    wrong = rng.sample(range(len(tables.COUNTRIES)), N_MISINFORMED)
    lies = {i: wrong[(k + 1) % len(wrong)] for k, i in enumerate(wrong)}
    out = []
    for i, (name, capital, continent, language) in enumerate(tables.COUNTRIES):
        told = tables.COUNTRIES[lies[i]][1] if i in lies else capital
        values = {"capital": told, "continent": continent, "language": language}
        out.append(
            Entity("country", name, values, i % 2 == 1, {"capital": capital} if i in lies else {})
        )
    return out
