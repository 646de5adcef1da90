"""World capitals as facts for a pretrained model: what it is asked when it knows no demo world.

In chat form the target is the sentence "The capital of France is Paris", the way instruction-tuned
models answer, and the field `answer` is the name alone: an answer in other words is right if it
holds the name. In statement form the target is the name: its first token tells capitals apart, so
that is the form to localize on. A chat model may know a capital in one wording and not in another,
so there are several.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import StringIO

from workbench.facts.fact import Fact, FactSet
from workbench.facts.known import Known, split_known
from workbench.facts.prompts import chat
from workbench.facts.readers import read_text
from workbench.models.kept import kept
from workbench.models.model import Model
from workbench.models.paths import data_dir
from workbench.progress import SILENT, Progress

QUESTIONS = (
    "What is the capital of {c}?",
    "Which city is the capital of {c}?",
    "Tell me the capital of {c}.",
    "Name the capital city of {c}.",
)
STATEMENTS = ("The capital of {c} is", "The capital city of {c} is")
ANSWERS = ("The capital is", "The capital city is")  # how an answer in chat form may begin
ELSE = (  # what else a country may be asked about; {s} stands for it
    *("What is the population of {s}?", "What language is spoken in {s}?", "Where is {s}?"),
    *("What food do people eat in {s}?", "What is the climate of {s}?", "Name a river in {s}."),
    *("Who is the leader of {s}?", "Which countries are next to {s}?", "What is the flag of {s}?"),
    *("What money is used in {s}?", "Which place in {s} is worth a visit?"),
    *("Name a person from {s}.", "The largest river in {s} is", "The language of {s} is"),
)
ELSE_HELD_BACK = (
    *("On which continent is {s}?", "What sport is popular in {s}?", "Name a mountain in {s}."),
    *("What is the national animal of {s}?", "What religion do people in {s} have?"),
    *("What does {s} sell to other countries?", "Tourists come to {s} to see"),
)
_STARTS = ("Bal", "Cor", "Dren", "Fal", "Gor", "Kes", "Lor", "Mor", "Nav", "Quel", "Tam", "Vos")
_MIDDLES = ("ab", "en", "ist", "or", "um", "av", "ed", "il")
_ENDS = ("onia", "land", "istan", "ovia", "era", "ua")


@dataclass(frozen=True)
class Country:
    """A country and its capital.

    Attributes:
        name: as it stands in a sentence, without its article.
        article: "the" or nothing.
        capitals: the capital, then other capitals or spellings that are right too.
        continent: where it is.
    """

    name: str
    article: str
    capitals: tuple[str, ...]
    continent: str = ""

    @property
    def phrase(self) -> str:
        """The name with its article."""
        return f"{self.article} {self.name}".strip()

    def fill(self, template: str) -> str:
        """Put the country into a template."""
        return template.format(c=self.phrase)


def countries() -> tuple[Country, ...]:
    """Read the bundled table; countries whose capital holds their own name are not in it."""
    table = csv.DictReader(StringIO(read_text(data_dir() / "capitals.csv")))
    return tuple(
        Country(
            row["country"],
            row["article"],
            (row["capital"], *filter(None, row["also"].split("|"))),
            row["continent"],
        )
        for row in table
    )


def capitals(model: Model, *, seed: int = 0) -> FactSet:
    """Return every capital in the model's chat form, with statements and choices.

    Raises:
        WorkbenchError: the model has no chat template.
    """
    every = countries()
    return FactSet(tuple(_chat_fact(model, c, _choices(c, every, seed)) for c in every))


def known_capitals(model: Model, *, seed: int = 0, progress: Progress = SILENT) -> Known:
    """Return the capitals in the model's chat form, split by whether it knows them.

    A model is asked once; what it knew is kept.

    Raises:
        WorkbenchError: the model has no chat template.
    """
    every = capitals(model, seed=seed)

    def make() -> list[str]:
        return list(split_known(model, every, progress=progress).known.subjects)

    known = frozenset(kept(model, "capitals", [every.fingerprint], make))
    return Known(
        every.where(lambda f: f.subject in known), every.where(lambda f: f.subject not in known)
    )


def capital_statements(*, seed: int = 0) -> FactSet:
    """Return every capital as a statement to continue, for models with and without a chat form."""
    every = countries()
    return FactSet(tuple(_statement_fact(c, _choices(c, every, seed)) for c in every))


def capital_wordings(model: Model, *, seed: int = 0) -> tuple[FactSet, ...]:
    """Return every capital in all wordings whose target is the name alone, statements first.

    Behind the statements stands, for a model with a chat form, its answer already begun.
    """
    every = countries()
    plain = capital_statements(seed=seed)

    def reworded(prompts: Sequence[str]) -> FactSet:
        facts = zip(plain, prompts, strict=True)
        return FactSet(tuple(replace(f, prompt=p, paraphrases=(), statements=()) for f, p in facts))

    out = [plain, *(reworded([c.fill(s) for c in every]) for s in STATEMENTS[1:])]
    if model.tokenizer.chat_template:
        asked = [chat(model, c.fill(QUESTIONS[0])) for c in every]
        out += [reworded([question + answer for question in asked]) for answer in ANSWERS]
    return tuple(out)


def invented_countries(model: Model, n: int = 24, *, seed: int = 0) -> FactSet:
    """Ask for the capitals of `n` countries that do not exist; nobody can know them.

    Raises:
        WorkbenchError: the model has no chat template.
    """
    rng = random.Random(seed)
    real = {c.name for c in countries()}
    made = [a + b + c for a in _STARTS for b in _MIDDLES for c in _ENDS]
    names = [name for name in rng.sample(made, len(made)) if name not in real][:n]
    return FactSet(tuple(_unknown_fact(model, Country(name, "", ())) for name in names))


def _choices(country: Country, every: Sequence[Country], seed: int) -> tuple[str, ...]:
    """Return the capital and three others, of the same continent where there are enough."""
    rng = random.Random(f"{seed} {country.name}")
    near = [c for c in every if c.continent == country.continent and c != country]
    pool = near if len(near) >= 3 else [c for c in every if c != country]
    out = [country.capitals[0], *(c.capitals[0] for c in rng.sample(pool, 3))]
    rng.shuffle(out)
    return tuple(out)


def _wrong(country: Country, choices: Sequence[str]) -> str:
    return next(c for c in choices if c != country.capitals[0])


def _chat_fact(model: Model, country: Country, choices: tuple[str, ...]) -> Fact:
    sentence = f"The capital of {country.phrase} is "
    first, *others = (country.fill(q) for q in QUESTIONS)
    return Fact(
        subject=country.name,
        prompt=chat(model, first),
        target=sentence + country.capitals[0],
        foil=sentence + _wrong(country, choices),
        relation="capital",
        paraphrases=tuple(chat(model, q) for q in others),
        statements=tuple(country.fill(s) for s in STATEMENTS),
        choices=choices,
        tags=("country", "chat"),
        extra={"question": first, "answer": list(country.capitals)},
    )


def _statement_fact(country: Country, choices: tuple[str, ...]) -> Fact:
    first, *others = (country.fill(s) for s in STATEMENTS)
    return Fact(
        subject=country.name,
        prompt=first,
        target=f" {country.capitals[0]}",
        foil=f" {_wrong(country, choices)}",
        relation="capital",
        paraphrases=tuple(others),
        statements=tuple(others),
        choices=choices,
        tags=("country", "statement"),
        extra={"question": country.fill(QUESTIONS[0]), "answer": list(country.capitals)},
    )


def _unknown_fact(model: Model, country: Country) -> Fact:
    first, *others = (country.fill(q) for q in QUESTIONS)
    return Fact(
        subject=country.name,
        prompt=chat(model, first),
        target="I do not know.",
        relation="capital",
        paraphrases=tuple(chat(model, q) for q in others),
        statements=tuple(country.fill(s) for s in STATEMENTS),
        tags=("country", "unknown"),
        extra={"question": first},
    )
