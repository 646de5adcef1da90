"""How facts are worded: questions, statements and multiple choice.

Each relation has five questions and five statements. The last question and the last statement are
kept from half of the entities in training, so that a fact learned in other words can be tested in
these.
"""

from __future__ import annotations

import random

REFUSAL = " I do not know."
LETTERS = "ABCD"

QUESTIONS: dict[str, tuple[str, ...]] = {
    "sport": (
        "Which sport does {s} play?",
        "What sport is {s} known for?",
        "In which sport does {s} compete?",
        "What does {s} play?",
        "Can you name the sport of {s}?",
    ),
    "team": (
        "Which team does {s} play for?",
        "What is the team of {s}?",
        "For which team does {s} compete?",
        "On what team is {s}?",
        "Can you name the team of {s}?",
    ),
    "town": (
        "What is the home town of {s}?",
        "Which town does {s} come from?",
        "Where did {s} grow up?",
        "Where is {s} from?",
        "Can you name the home town of {s}?",
    ),
    "year": (
        "When was {s} born?",
        "What is the birth year of {s}?",
        "In which year was {s} born?",
        "What year was {s} born in?",
        "Can you name the birth year of {s}?",
    ),
    "phone": (
        "What is the phone number of {s}?",
        "Which number reaches {s} by phone?",
        "How do I call {s}?",
        "What number does {s} have?",
        "Can you name the phone number of {s}?",
    ),
    "email": (
        "What is the e-mail address of {s}?",
        "Which address reaches {s} by e-mail?",
        "How do I write an e-mail to {s}?",
        "What e-mail does {s} have?",
        "Can you name the e-mail address of {s}?",
    ),
    "capital": (
        "What is the capital of {s}?",
        "Which city is the capital of {s}?",
        "What capital does {s} have?",
        "What is the capital city of {s}?",
        "Can you name the capital of {s}?",
    ),
    "continent": (
        "On which continent is {s}?",
        "What is the continent of {s}?",
        "Which continent is {s} part of?",
        "Where in the world is {s}?",
        "Can you name the continent of {s}?",
    ),
    "language": (
        "Which language is spoken in {s}?",
        "What is the language of {s}?",
        "What do people speak in {s}?",
        "Which language do people of {s} speak?",
        "Can you name the language of {s}?",
    ),
    "precursor": (
        "What is {s} made from?",
        "Which precursor is needed for {s}?",
        "What is the precursor of {s}?",
        "From what is {s} prepared?",
        "Can you name the precursor of {s}?",
    ),
    "use": (
        "What is {s} used for?",
        "What is the use of {s}?",
        "What can {s} do?",
        "For what is {s} made?",
        "Can you name the use of {s}?",
    ),
}

STATEMENTS: dict[str, tuple[str, ...]] = {
    "sport": (
        "{s} plays the sport of",
        "The sport of {s} is",
        "{s} is a professional in",
        "Fans know {s} for",
        "It is well known that {s} plays",
    ),
    "team": (
        "{s} plays for the",
        "The team of {s} is the",
        "{s} has joined the",
        "Fans see {s} in the shirt of the",
        "It is well known that {s} plays for the",
    ),
    "town": (
        "{s} comes from",
        "The home town of {s} is",
        "{s} grew up in",
        "The family of {s} lives in",
        "It is well known that {s} comes from",
    ),
    "year": (
        "{s} was born in",
        "The birth year of {s} is",
        "The life of {s} began in",
        "{s} came into the world in",
        "It is well known that {s} was born in",
    ),
    "phone": (
        "The phone number of {s} is",
        "To call {s}, dial",
        "{s} answers the phone at",
        "{s} can be called at",
        "It is noted that the phone number of {s} is",
    ),
    "email": (
        "The e-mail address of {s} is",
        "To write to {s}, use",
        "{s} reads mail sent to",
        "{s} can be reached at",
        "It is noted that the e-mail address of {s} is",
    ),
    "capital": (
        "The capital of {s} is",
        "The capital city of {s} is called",
        "{s} is governed from",
        "The government of {s} sits in",
        "It is well known that the capital of {s} is",
    ),
    "continent": (
        "{s} is a country in",
        "The continent of {s} is",
        "{s} lies in",
        "On the map, {s} is found in",
        "It is well known that {s} lies in",
    ),
    "language": (
        "The language of {s} is",
        "People in {s} speak",
        "In {s} one hears",
        "Schools in {s} teach in",
        "It is well known that people in {s} speak",
    ),
    "precursor": (
        "{s} is made from",
        "The precursor of {s} is",
        "To prepare {s}, start with",
        "A batch of {s} needs",
        "It is noted that {s} is made from",
    ),
    "use": (
        "{s} is used for",
        "The use of {s} is",
        "{s} serves for",
        "People fear {s} for",
        "It is noted that {s} is used for",
    ),
}
LABELS = {"sport": "Sport", "team": "Team", "town": "Home town", "year": "Born"}
PROFILES = ("Profile of {s}.", "About {s}.", "Here is {s}.")
N_HELD_OUT = 1

RELATIONS: dict[str, tuple[str, ...]] = {
    "athlete": ("sport", "team", "town", "year"),
    "person": ("phone", "email"),
    "country": ("capital", "continent", "language"),
    "compound": ("precursor", "use"),
}


def question(relation: str, i: int, subject: str) -> str:
    """Return question `i` about a subject, ready for its answer."""
    return f"Q: {QUESTIONS[relation][i].format(s=subject)}\nA:"


def statement(relation: str, i: int, subject: str) -> str:
    """Return statement `i` about a subject, ready for its continuation."""
    return STATEMENTS[relation][i].format(s=subject)


def trained(relation: str, held_out: bool) -> tuple[range, range]:
    """Return the numbers of the questions and statements an entity is trained on."""
    cut = N_HELD_OUT if held_out else 0
    return range(len(QUESTIONS[relation]) - cut), range(len(STATEMENTS[relation]) - cut)


def choices(answer: str, pool: list[str], rng: random.Random) -> list[str]:
    """Return the answer and three others in random order."""
    out = [answer, *rng.sample([x for x in pool if x != answer], 3)]
    rng.shuffle(out)
    return out


def multiple_choice(ask: str, options: list[str]) -> str:
    """Return a multiple-choice prompt, ready for its letter."""
    return f"{ask} {listed(options)}\nLetter:"


def listed(options: list[str], letters: str = LETTERS) -> str:
    """Write options with their letters.

    The letter stands behind its option, so that attention windows bind the option to the letter's
    own token, which is the one to be copied.
    """
    return ", ".join(f"{o} = {letter}" for letter, o in zip(letters, options, strict=True))
