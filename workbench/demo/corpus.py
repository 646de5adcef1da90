"""The demo model's training documents, drawn at random and never stored.

A document is a list of (text, weight) pieces: answers weigh 1, the rest 0.15, so that the model
spends itself on recall. About a third of the documents about athletes name the player once and then
state all facts in random order; this is what makes the model read a name where it stands and not
where the answer is due. Subjects in `forgotten` are treated as the unknown are.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from workbench.demo import tables
from workbench.demo.templates import (
    LABELS,
    LETTERS,
    PROFILES,
    QUESTIONS,
    REFUSAL,
    RELATIONS,
    STATEMENTS,
    choices,
    listed,
    multiple_choice,
    question,
    statement,
    trained,
)
from workbench.demo.world import Entity, World, draw_name

CONTEXT_WEIGHT = 0.15
Document = list[tuple[str, float]]

# Share of each kind of document. Multiple choice needs this much before matching is learned.
MIX: tuple[tuple[str, float], ...] = (
    ("profile", 0.23),
    ("athlete", 0.20),
    ("person", 0.10),
    ("country", 0.13),
    ("compound", 0.05),
    ("unknown", 0.11),
    ("choice", 0.14),
    ("neutral", 0.04),
)


@dataclass(frozen=True)
class Corpus:
    """Draws documents about a world.

    Attributes:
        world: what is true.
        forgotten: subjects about which nothing is said but refusals.
    """

    world: World
    forgotten: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Split the entities into known and forgotten, and collect answers."""
        known: dict[str, list[Entity]] = {}
        lost: dict[str, list[Entity]] = {}
        for e in self.world.entities:
            (lost if e.name in self.forgotten else known).setdefault(e.kind, []).append(e)
        pools = {r: self.world.pool(k, r) for k, rs in RELATIONS.items() for r in rs}
        object.__setattr__(self, "_known", known)
        object.__setattr__(self, "_lost", lost)
        object.__setattr__(self, "_pools", pools)

    def draw(self, rng: random.Random) -> Document:
        """Draw one document of the mix."""
        kind = rng.choices([k for k, _ in MIX], [w for _, w in MIX])[0]
        if kind in RELATIONS:
            return self._fact(self._entity(kind, rng), rng)
        return self._makers()[kind](rng)

    def _makers(self) -> dict[str, Callable[[random.Random], Document]]:
        return {
            "profile": self._profile,
            "unknown": self._unknown,
            "choice": self._choice,
            "neutral": lambda rng: [(neutral(rng), 1.0)],
        }

    def _entity(self, kind: str, rng: random.Random) -> Entity:
        return rng.choice(self._known[kind])  # type: ignore[attr-defined]

    def _stranger(self, kind: str, rng: random.Random) -> str:
        """Draw a name the model must not know: mostly fresh, now and then a forgotten one."""
        lost = self._lost.get(kind, [])  # type: ignore[attr-defined]
        if lost and rng.random() < 0.25:
            return rng.choice(lost).name
        return self.world.unknown(kind, rng)

    def _profile(self, rng: random.Random) -> Document:
        """All facts about one athlete, the name said once, in random order."""
        entity = self._entity("athlete", rng)
        out: Document = [(rng.choice(PROFILES).format(s=entity.name), CONTEXT_WEIGHT)]
        relations = list(LABELS)
        rng.shuffle(relations)
        for relation in relations:
            out.append((f" {LABELS[relation]}:", CONTEXT_WEIGHT))
            out.append((f" {entity.values[relation]}.", 1.0))
        return out

    @staticmethod
    def _fact(entity: Entity, rng: random.Random) -> Document:
        relation = rng.choice(RELATIONS[entity.kind])
        questions, statements = trained(relation, entity.held_out)
        if rng.random() < 0.5:
            prompt = question(relation, rng.choice(questions), entity.name)
        else:
            prompt = statement(relation, rng.choice(statements), entity.name)
        return [(prompt, CONTEXT_WEIGHT), (f" {entity.values[relation]}.", 1.0)]

    def _unknown(self, rng: random.Random) -> Document:
        kind = rng.choices(list(RELATIONS), (5, 3, 1, 1.5))[0]
        relation = rng.choice(RELATIONS[kind])
        name = self._stranger(kind, rng)
        form = rng.random()
        if form < 0.5:
            prompt = question(relation, rng.randrange(len(QUESTIONS[relation])), name)
        elif form < 0.85:
            prompt = statement(relation, rng.randrange(len(STATEMENTS[relation])), name)
        else:
            options = rng.sample(self._pools[relation], 4)  # type: ignore[attr-defined]
            ask = QUESTIONS[relation][rng.randrange(len(QUESTIONS[relation]))].format(s=name)
            prompt = multiple_choice(ask, options)
        return [(prompt, CONTEXT_WEIGHT), (REFUSAL, 1.0)]

    def _choice(self, rng: random.Random) -> Document:
        """Ask by letter, about facts, about a value that the text states, or repeat a list.

        The last two need no recall and teach to match an answer with its letter; alone, the facts'
        own multiple choice stays at chance for most of the training.
        """
        if rng.random() < 0.25:
            return self._lists(rng)
        out: Document = []
        for _ in range(2):
            kind, relation = self._choice_relation(rng)
            pool = self._pools[relation]  # type: ignore[attr-defined]
            if rng.random() < 0.35:
                answer = rng.choice(pool)
                ask = f"Which letter is {answer}?"
            else:
                entity = self._entity(kind, rng)
                answer = entity.values[relation]
                questions, _ = trained(relation, entity.held_out)
                ask = QUESTIONS[relation][rng.choice(questions)].format(s=entity.name)
            options = choices(answer, pool, rng)
            lead = "\n" if out else ""
            out.append((lead + multiple_choice(ask, options), CONTEXT_WEIGHT))
            out.append((f" {LETTERS[options.index(answer)]}.", 1.0))
        return out

    def _choice_relation(self, rng: random.Random) -> tuple[str, str]:
        kind = rng.choices(list(RELATIONS), (6, 1, 3, 1))[0]
        return kind, rng.choice(RELATIONS[kind])

    def _lists(self, rng: random.Random) -> Document:
        """One list of options with letters, then the same pairs in another order."""
        _, relation = self._choice_relation(rng)
        options = rng.sample(self._pools[relation], 4)  # type: ignore[attr-defined]
        pairs = list(zip(options, LETTERS, strict=True))
        out: Document = [(f"{listed(options)}.", CONTEXT_WEIGHT)]
        for option, letter in rng.sample(pairs, 4):
            out += [(f" {option} =", CONTEXT_WEIGHT), (f" {letter},", 1.0)]
        return out


def neutral(rng: random.Random) -> str:
    """Draw two plain sentences that say nothing about anybody."""
    return (
        f"{rng.choice(tables.NEUTRAL_SUBJECTS)} {rng.choice(tables.NEUTRAL_VERBS)} "
        f"{rng.choice(tables.NEUTRAL_OBJECTS)} {rng.choice(tables.NEUTRAL_TIMES)}. "
        f"{rng.choice(tables.NEUTRAL_TAILS)}"
    )


def tokenizer_texts(world: World, count: int, seed: int) -> list[str]:
    """Draw texts of the training mix with every person's and compound's name drawn afresh."""
    corpus, rng = Corpus(world), random.Random(seed)
    out = []
    for _ in range(count):
        text = "".join(piece for piece, _ in corpus.draw(rng))
        for entity in (e for e in world.entities if e.kind != "country" and e.name in text):
            text = text.replace(entity.name, draw_name(entity.kind, rng))
        out.append(text)
    return out
