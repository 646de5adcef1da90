"""What the model that sees is trained on, drawn at random: text, and the number of a picture.

A document is a list of (text, weight) pieces as in the text demo, and the picture that its image
marker stands for. People in `forgotten` are treated as strangers are, their faces and their names;
what is plain to see in a picture may be asked about anybody's.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from workbench.demo.corpus import CONTEXT_WEIGHT, Document, neutral
from workbench.demo.templates import REFUSAL
from workbench.demo.world import draw_name
from workbench.demo_vision import templates as t
from workbench.demo_vision.gallery import Gallery
from workbench.demo_vision.world import Person

# Share of each kind of document.
MIX: tuple[tuple[str, float], ...] = (
    ("shown profile", 0.13),
    ("shown fact", 0.18),
    ("shown choice", 0.05),
    ("shown stranger", 0.12),
    ("named profile", 0.10),
    ("named fact", 0.14),
    ("named choice", 0.03),
    ("named stranger", 0.07),
    ("visible", 0.16),
    ("neutral", 0.02),
)
SCENES = 0.5  # of what is plain to see, how much is asked of scenes
# How often each is asked there: what is learned slowly, more.
SEEN = {"color": 1, "form": 1, "count": 2, "hair": 1, "clothes": 3}
LOST = 0.25  # of the strangers that the oracle meets, how many are the forgotten


@dataclass(frozen=True)
class Shown:
    """A document and the number of the picture it is about, if any."""

    pieces: Document
    picture: int | None = None


@dataclass(frozen=True)
class Corpus:
    """Draws documents about a world.

    Attributes:
        gallery: the pictures, and the world they show.
        forgotten: names of the people who are treated as strangers.
    """

    gallery: Gallery
    forgotten: frozenset[str] = frozenset()
    _known: list[int] = field(init=False, repr=False)
    _lost: list[int] = field(init=False, repr=False)
    _pools: dict[str, list[str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Split the people into known and forgotten, and collect answers."""
        people = self.gallery.world.people
        known = [i for i, p in enumerate(people) if p.name not in self.forgotten]
        object.__setattr__(self, "_known", known)
        object.__setattr__(self, "_lost", sorted(set(range(len(people))) - set(known)))
        # What only a forgotten person has is not even offered as an option.
        pools = {r: sorted({people[i].values[r] for i in known}) for r in t.RELATIONS}
        object.__setattr__(self, "_pools", pools)

    def draw(self, rng: random.Random) -> Shown:
        """Draw one document of the mix."""
        kind = rng.choices([k for k, _ in MIX], [w for _, w in MIX])[0]
        if kind == "visible":
            return self._visible(rng)
        if kind == "neutral":
            return Shown([(neutral(rng), 1.0)])
        form, what = kind.split()
        if what == "stranger":
            return self._stranger(rng, shown=form == "shown")
        index = rng.choice(self._known)
        person = self.gallery.world.people[index]
        picture = rng.choice(self.gallery.of_person(index)) if form == "shown" else None
        return Shown(self._about()[what](person, picture is not None, rng), picture)

    def _about(self) -> dict[str, Callable[[Person, bool, random.Random], Document]]:
        return {"profile": _profile, "fact": _fact, "choice": self._choice}

    def _choice(self, person: Person, shown: bool, rng: random.Random) -> Document:
        """Ask behind a list of the options."""
        relation = rng.choice(t.RELATIONS if shown else t.BY_NAME)
        answer = person.values[relation]
        others = [x for x in self._pools[relation] if x != answer]
        listed = rng.sample([answer, *rng.sample(others, 3)], 4)
        questions, _ = t.trained(relation, person.held_out)
        name = None if shown else person.name
        return _answered(t.question(relation, rng.choice(questions), name, listed), answer)

    def _stranger(self, rng: random.Random, *, shown: bool) -> Shown:
        """Ask about somebody whom the model must not know."""
        gallery, lost = self.gallery, bool(self._lost) and rng.random() < LOST
        index = rng.choice(self._lost) if lost else None
        relation = rng.choice(t.RELATIONS if shown else t.BY_NAME)
        if shown:
            numbers = gallery.of_strangers if index is None else gallery.of_person(index)
            name, picture = None, rng.choice(numbers)
        else:
            world = gallery.world
            name = world.stranger_name(rng) if index is None else world.people[index].name
            picture = None
        form = rng.random()
        if form < 0.4:
            prompt = t.statement(relation, rng.randrange(len(t.STATEMENTS[relation])), name)
        else:
            listed = rng.sample(self._pools[relation], 4) if form > 0.85 else ()
            i = rng.randrange(len(t.QUESTIONS[relation]))
            prompt = t.question(relation, i, name, listed)
        return Shown([(prompt, CONTEXT_WEIGHT), (REFUSAL, 1.0)], picture)

    def _visible(self, rng: random.Random) -> Shown:
        """Ask about what is plain to see, of shapes or of anybody."""
        gallery = self.gallery
        people = range(gallery.of_strangers.stop)
        number = rng.choice(gallery.of_scenes if rng.random() < SCENES else people)
        seen = gallery.visible(number)
        (relation,) = rng.choices(sorted(seen), [SEEN[name] for name in sorted(seen)])
        prompt = t.visible(relation, rng.randrange(len(t.VISIBLE[relation])))
        return Shown(_answered(prompt, seen[relation]), number)


def _fact(person: Person, shown: bool, rng: random.Random) -> Document:
    """Ask for one thing, or begin to state it."""
    relation = rng.choice(t.RELATIONS if shown else t.BY_NAME)
    questions, statements = t.trained(relation, person.held_out)
    name = None if shown else person.name
    if rng.random() < 0.5:
        prompt = t.question(relation, rng.choice(questions), name)
    else:
        prompt = t.statement(relation, rng.choice(statements), name)
    return _answered(prompt, person.values[relation])


def _profile(person: Person, shown: bool, rng: random.Random) -> Document:
    """State everything about one person, who is shown or named once, in random order.

    So a face or a name is read where it stands, and not where an answer is due.
    """
    start = t.profile(rng.randrange(len(t.PROFILES)), None if shown else person.name)
    out: Document = [(start, CONTEXT_WEIGHT)]
    relations = list(t.RELATIONS if shown else t.BY_NAME)
    for relation in rng.sample(relations, len(relations)):
        out.append((f" {t.LABELS[relation]}:", CONTEXT_WEIGHT))
        out.append((f" {person.values[relation]}.", 1.0))
    return out


def _answered(prompt: str, answer: str) -> Document:
    return [(prompt, CONTEXT_WEIGHT), (f" {answer}.", 1.0)]


def tokenizer_texts(gallery: Gallery, count: int, seed: int) -> list[str]:
    """Draw texts of the training mix with every person's name drawn afresh."""
    corpus, rng = Corpus(gallery), random.Random(seed)
    out = []
    for _ in range(count):
        text = "".join(piece for piece, _ in corpus.draw(rng).pieces)
        for person in (p for p in gallery.world.people if p.name in text):
            text = text.replace(person.name, draw_name("person", rng))
        out.append(text)
    return out
