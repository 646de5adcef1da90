"""Facts put together from common English words: what no list of relations could hold.

Each has the form of a relation of the templates: clauses, nouns and statements of a subject, the
words that say what about it in brackets. They need not make sense ("why Ada Brook sold the first
allergy"): what is to be learned is where such words begin and end.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from workbench.facts.readers import read_text
from workbench.models.paths import data_dir

_ARTICLES = ("the", "the", "a", "her", "his", "their", "its", "this", "every", "no", "some")
_OF = ("of", "of", "of", "for", "in", "behind", "from", "with", "about", "against", "to", "by")
_LEADS = ("to", "for", "with", "from", "about", "by", "at", "in", "under", "against", "on")
_ADVERBS = ("when", "where", "why", "how", "how often", "since when", "how long", "whether")
_MEASURES = ("how much", "how many", "how much of the", "how many of the", "what", "which", "whose")
_OBJECTS = ("thing", "city", "person", "company", "amount", "year", "date", "team")


class Verb(NamedTuple):
    """Three forms of a verb: "steals", "stole", "stolen"."""

    now: str
    past: str
    participle: str


@dataclass(frozen=True)
class Lexicon:
    """Common English words.

    Attributes:
        nouns: what one has or what is known about something.
        adjectives: words before nouns.
        verbs: verbs that take an object.
        intransitive: verbs that take none.
        behind: phrases that end a clause.
        people: nouns of persons.
    """

    nouns: Sequence[str]
    adjectives: Sequence[str]
    verbs: Sequence[Verb]
    intransitive: Sequence[Verb]
    behind: Sequence[str]
    people: Sequence[str]

    @staticmethod
    @cache
    def bundled() -> Lexicon:
        """Read the bundled words."""
        found = tomllib.loads(read_text(data_dir() / "watchdog" / "lexicon.toml"))
        verbs = {k: [Verb(*v.split("|")) for v in found.pop(k)] for k in ("verbs", "intransitive")}
        return Lexicon(**found, **verbs)

    def relation(self, rng: random.Random) -> dict[str, Any]:
        """Put a relation together: six clauses, six nouns, four statements."""
        words = _Words(self, rng)
        return {
            "of": rng.choice(("person", "person", "person", "company", "work", "country")),
            "to": rng.choice(_OBJECTS),
            "clauses": [(words.one_of(_CLAUSES),)],
            "nouns": [(words.noun(),)],
            "facts": [(words.one_of(_FACTS),)],
        }

    def title(self, rng: random.Random) -> str:
        """Draw a word of a name: a noun or an adjective with a capital."""
        return rng.choice((rng.choice(self.nouns), rng.choice(self.adjectives))).title()

    def thing(self, rng: random.Random) -> str:
        """Draw what is said of a subject: "the second trial", "a dentist"."""
        return _Words(self, rng).thing()

    def sentence(self, rng: random.Random) -> str:
        """Put a sentence together that names nobody and asks for nothing."""
        return _Words(self, rng).one_of(_SENTENCES)


@dataclass(frozen=True)
class _Words:
    """Draws words and phrases."""

    lexicon: Lexicon
    rng: random.Random

    def one_of(self, forms: Sequence[Callable[[_Words], str]]) -> str:
        return self.rng.choice(forms)(self)

    def some(self, share: float, phrase: Callable[[], str]) -> str:
        """Return a phrase with a space before it in a share of cases, else nothing."""
        return f" {phrase()}" if self.rng.random() < share else ""

    def name(self) -> str:
        """Draw a noun, one in four with an adjective."""
        lead = f"{self.rng.choice(self.lexicon.adjectives)} " if self.rng.random() < 0.25 else ""
        return lead + self.rng.choice(self.lexicon.nouns)

    def noun(self) -> str:
        """Draw what one has: a noun, often with something behind it, or somebody's."""
        rng, chance = self.rng, self.rng.random()
        if chance < 0.6:
            return self.name()
        if chance < 0.7:
            return self.person()
        if chance < 0.78:
            return f"{self.person()}'s {self.name()}"
        if chance < 0.9:
            return f"{self.name()} {rng.choice(_OF)} {rng.choice(('', 'the ', 'a '))}{self.name()}"
        return f"{self.name()} {self.behind()}"

    def person(self) -> str:
        return self.rng.choice(self.lexicon.people)

    def behind(self) -> str:
        return self.rng.choice(self.lexicon.behind)

    def thing(self) -> str:
        """Draw an object with its article."""
        noun = self.person() if self.rng.random() < 0.2 else self.name()
        return f"{self.rng.choice(_ARTICLES)} {noun}"

    def verb(self) -> str:
        """Draw a verb that wants an object, in some tense."""
        return self._tense(self.rng.choice(self.lexicon.verbs))

    def does(self) -> str:
        """Draw a whole predicate."""
        chance = self.rng.random()
        if chance < 0.5:
            return f"{self.verb()} {self.thing()}{self.some(0.25, self.behind)}"
        if chance < 0.85:
            verb = self._tense(self.rng.choice(self.lexicon.intransitive))
            return f"{verb}{self.some(0.35, self.behind)}"
        return f"{self.rng.choice(('is', 'was'))} {self.rng.choice(self.lexicon.adjectives)}"

    def done(self) -> str:
        """Draw a participle."""
        return self.rng.choice(self.lexicon.verbs).participle

    def is_(self) -> str:
        return self.rng.choice(("is", "was", "is", "has been", "are", "were"))

    def ask(self, words: Sequence[str]) -> str:
        return self.rng.choice(words)

    def which(self) -> str:
        """Draw what asks for an object: "what", "how many dogs", "to which school"."""
        chance = self.rng.random()
        if chance < 0.35:
            return self.rng.choice(("what", "who", "whom", "what", "everything", "what exactly"))
        lead = f"{self.rng.choice(_LEADS)} " if self.rng.random() < 0.25 else ""
        return f"{lead}{self.rng.choice(_MEASURES)} {self.name()}"

    def _tense(self, verb: Verb) -> str:
        rng = self.rng
        return rng.choice(
            (
                *(verb.now, verb.now, verb.past, verb.past, verb.past),
                f"{rng.choice(('has', 'had', 'may have', 'must have'))} {verb.participle}",
                f"{rng.choice(('once', 'never', 'always', 'secretly', 'first'))} {verb.past}",
                f"{rng.choice(('is', 'was', 'got', 'has been'))} {verb.participle}",
            )
        )


_CLAUSES: tuple[Callable[[_Words], str], ...] = (
    lambda w: f"[{w.which()}] {{S}} [{w.verb()}{w.some(0.3, w.behind)}]",
    lambda w: f"[{w.which()}] {{S}} [{w.verb()}{w.some(0.3, w.behind)}]",
    lambda w: f"[{w.ask(_ADVERBS)}] {{S}} [{w.does()}]",
    lambda w: f"[{w.ask(_ADVERBS)}] {{S}} [{w.does()}]",
    lambda w: f"[who {w.verb()}] {{S}}" + (f" [{w.behind()}]" if w.rng.random() < 0.3 else ""),
    lambda w: f"[{w.ask(('which', 'what', 'whose'))} {w.name()} {w.verb()}] {{S}}",
    lambda w: f"[who the {w.person()} of] {{S}} [{w.is_()}]",
    lambda w: f"[what the {w.noun()} of] {{S}} [{w.is_()}]",
    lambda w: f"[{w.ask(_ADVERBS)} the {w.noun()} of] {{S}} [{w.does()}]",
    lambda w: f"[what] {{S}}['s {w.noun()} {w.is_()}]",
    lambda w: f"[{w.ask(_ADVERBS)}] {{S}}['s {w.noun()} {w.does()}]",
    lambda w: f"[the {w.name()}{w.ask(('', ' that', ' which'))}] {{S}} [{w.verb()}]",
    lambda w: f"[the {w.person()} who {w.verb()}] {{S}}",
    lambda w: (
        f"[how {w.rng.choice(w.lexicon.adjectives)}] {{S}} [{w.is_()}{w.some(0.3, w.behind)}]"
    ),
    lambda w: f"[what {w.ask(('happened to', 'became of', 'is wrong with', 'is in'))}] {{S}}",
    lambda w: f"[what happened to] {{S}}['s {w.noun()}]",
    lambda w: f"[the {w.noun()} {w.ask(_OF)}] {{S}}",
    lambda w: f"{{S}} [{w.is_()} {w.done()}{w.some(0.5, w.behind)}]",
    lambda w: f"[by whom] {{S}} [was {w.done()}]",
)
_FACTS: tuple[Callable[[_Words], str], ...] = (
    lambda w: f"{{S}} [{w.verb()}] {{O}}",
    lambda w: f"{{S}} [{w.verb()}] {{O}}" + (f" [{w.behind()}]" if w.rng.random() < 0.3 else ""),
    lambda w: f"{{S}} [{w.verb()} {w.thing()} {w.ask(_LEADS)}] {{O}}",
    lambda w: f"[the {w.noun()} of] {{S}} {w.is_()} {{O}}",
    lambda w: f"{{S}}['s {w.noun()}] {w.is_()} {{O}}",
    lambda w: f"{{S}} [is the {w.person()} of] {{O}}",
    lambda w: f"{{S}} [{w.is_()} {w.done()} {w.ask(_LEADS)}] {{O}}",
)
_SENTENCES: tuple[Callable[[_Words], str], ...] = (
    lambda w: f"{w.ask(('my', 'our', 'the', 'his', 'some'))} {w.person()} {w.does()}",
    lambda w: f"{w.thing()} {w.does()}",
    lambda w: f"{w.ask(('I', 'we', 'they', 'you', 'she', 'he'))} {w.does()}",
    lambda w: f"{w.ask(('I', 'we', 'people here'))} {w.verb()} {w.thing()} {w.behind()}",
    lambda w: f"this is about {w.thing()}",
    lambda w: f"{w.ask(('nobody', 'everybody', 'somebody'))} {w.does()}",
    lambda w: f"it is {w.rng.choice(w.lexicon.adjectives)}, and {w.thing()} {w.does()}",
)
