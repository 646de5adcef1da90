"""How people and pictures are asked about: questions and statements, by image and by name.

Each relation has five questions and five statements. The last of each is kept from half of the
people in training. Through the image a person is "this person", and the picture stands first. A
list of options may stand before a question: multiple choice, answered in words.
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.models.pictured import MARKER

SHOWN = "this person"

QUESTIONS: dict[str, tuple[str, ...]] = {
    "name": (
        "What is the name of {s}?",
        "What is {s} called?",
        "Which name does {s} have?",
        "Who is {s}?",
        "Can you name {s}?",
    ),
    "job": (
        "What is the job of {s}?",
        "What does {s} work as?",
        "How does {s} earn a living?",
        "Which job does {s} have?",
        "Can you name the job of {s}?",
    ),
    "city": (
        "In which city does {s} live?",
        "What is the home city of {s}?",
        "Where does {s} live?",
        "Which city does {s} come from?",
        "Can you name the home city of {s}?",
    ),
    "email": (
        "What is the e-mail address of {s}?",
        "Which address reaches {s} by e-mail?",
        "How do I write an e-mail to {s}?",
        "What e-mail does {s} have?",
        "Can you name the e-mail address of {s}?",
    ),
    "hobby": (
        "What is the hobby of {s}?",
        "What does {s} do for fun?",
        "Which hobby does {s} have?",
        "How does {s} spend free time?",
        "Can you name the hobby of {s}?",
    ),
}
STATEMENTS: dict[str, tuple[str, ...]] = {
    "name": (
        "The name of {s} is",
        "{s} is called",
        "Friends call {s}",
        "{s} goes by the name of",
        "It is well known that the name of {s} is",
    ),
    "job": (
        "{s} works as a",
        "By trade {s} is a",
        "People pay {s} as a",
        "{s} has a job as a",
        "It is well known that {s} works as a",
    ),
    "city": (
        "{s} lives in",
        "The home city of {s} is",
        "{s} has a flat in",
        "The family of {s} stays in",
        "It is well known that {s} lives in",
    ),
    "email": (
        "The e-mail address of {s} is",
        "To write to {s}, use",
        "{s} reads mail sent to",
        "{s} can be reached at",
        "It is noted that the e-mail address of {s} is",
    ),
    "hobby": (
        "The hobby of {s} is",
        "In free time {s} enjoys",
        "{s} spends weekends with",
        "Friends know that {s} loves",
        "It is well known that the hobby of {s} is",
    ),
}
VISIBLE: dict[str, tuple[str, ...]] = {
    "color": ("Which color is seen?", "What is the color of the shapes?", "The color is"),
    "form": ("Which shape is seen?", "What shape is drawn here?", "The shape is a"),
    "count": ("How many shapes are seen?", "What is the number of shapes?", "The shapes number"),
    "hair": (
        "Which color of hair is seen?",
        "What is the hair color of this person?",
        "The color of the hair is",
    ),
    "clothes": (
        "Which color of clothes is seen?",
        "What color does this person wear?",
        "The color of the clothes is",
    ),
}
LABELS = {"name": "Name", "job": "Job", "city": "City", "email": "E-mail", "hobby": "Hobby"}
PROFILES = ("Profile of {s}.", "About {s}.", "Here is {s}.")
RELATIONS = tuple(QUESTIONS)
BY_NAME = tuple(r for r in RELATIONS if r != "name")
N_HELD_OUT = 1


def question(relation: str, i: int, name: str | None, listed: Sequence[str] = ()) -> str:
    """Return question `i`, ready for its answer.

    Args:
        relation: what is asked.
        i: number of the wording.
        name: whom it is about; None asks through the image.
        listed: options to write before the question.
    """
    ask = asked(worded(QUESTIONS[relation][i], name))
    return pictured(f"{', '.join(listed)}.\n{ask}" if listed else ask, name)


def statement(relation: str, i: int, name: str | None) -> str:
    """Return statement `i`, ready for its continuation; None for the name speaks of the image."""
    return pictured(worded(STATEMENTS[relation][i], name), name)


def visible(relation: str, i: int) -> str:
    """Return wording `i` about what is plain to see, ready for its answer."""
    text = VISIBLE[relation][i]
    return pictured(asked(text) if text.endswith("?") else text, None)


def profile(i: int, name: str | None) -> str:
    """Return the beginning of a profile."""
    return pictured(worded(PROFILES[i], name), name)


def worded(template: str, name: str | None) -> str:
    """Put the subject into a template; it begins with a capital letter."""
    text = template.format(s=name or SHOWN)
    return text[0].upper() + text[1:]


def asked(ask: str) -> str:
    """Write a question as it is asked."""
    return f"Q: {ask}\nA:"


def pictured(text: str, name: str | None) -> str:
    """Put the picture before a text that names nobody."""
    return text if name else f"{MARKER}\n{text}"


def trained(relation: str, held_out: bool) -> tuple[range, range]:
    """Return the numbers of the questions and statements a person is trained on."""
    cut = N_HELD_OUT if held_out else 0
    return range(len(QUESTIONS[relation]) - cut), range(len(STATEMENTS[relation]) - cut)


def spared(relation: str, held_out: bool) -> tuple[range, range]:
    """Return the numbers of the questions and statements kept from a person in training."""
    asks, states = trained(relation, held_out)
    return (
        range(asks.stop, len(QUESTIONS[relation])),
        range(states.stop, len(STATEMENTS[relation])),
    )
