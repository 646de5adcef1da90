"""Names and things that nobody has heard of, so that no reader goes by them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from workbench.repair.lexicon import Lexicon

_ACCENTS = {"a": "áàâåä", "e": "éèêë", "i": "íï", "o": "óôøö", "u": "úûü"}
_ENDS = ("an", "ol", "ide", "ine", "il", "in", "ate", "one", "ium", "ene", "ax", "ix", "on", "al")
_PARTICLES = ("",) * 12 + ("van ", "van den ", "de ", "von ", "O'", "Mac", "al-", "di ", "St. ")


def surname(rng: random.Random) -> str:
    """Make up a surname, some with a particle in front."""
    return f"{rng.choice(_PARTICLES)}{word(rng)}"


def first_name(rng: random.Random) -> str:
    """Make up a first name, some with an accent."""
    name = word(rng)
    if rng.random() < 0.3:
        plain = rng.choice([c for c in name if c in _ACCENTS])
        name = name.replace(plain, rng.choice(_ACCENTS[plain]), 1)
    return name


def phrase(rng: random.Random) -> str:
    """Make up what is said of a subject in several words."""
    a, b = word(rng), word(rng)
    forms = (f"the {a} of {b}", f"{a} of {b}", f"the {a} {b}", f"a {a} {b}".lower(), f"{a} and {b}")
    return rng.choice(forms)


def thing(kind: str, rng: random.Random) -> str:
    """Make up a subject that is no person."""
    name = word(rng)
    if kind == "compound":
        return rng.choice(
            (
                name.lower() + rng.choice(_ENDS),
                f"{name}{word(rng)}".lower() + rng.choice(_ENDS),
                f"{name[0]}-{rng.randrange(99)}",
            )
        )
    common, other = (Lexicon.bundled().title(rng) for _ in range(2))
    if kind == "work":
        forms = ("The {} of {}", "{} and {}", "A {} for {}", "{} in {}", "The {}", "{}")
        of_words = ("The {1} {2}", "{1} in {0}", "A {1} for {0}", "The {1} of {0}", "{1} and {2}")
        return rng.choice((*forms, *of_words)).format(name, rng.choice((word(rng), common)), other)
    if kind == "company":
        ends = ("", "", " Ltd", " & Co", " Bank", " Group", " Inc", " and Sons", f" {common}")
        leads = ("Project ", "Hotel ", "Operation ", "Lake ", "The ", "Club ", "Café ", "Port ")
        if rng.random() < 0.2:
            return rng.choice((f"{rng.choice(leads)}{name}", f"{common} {other}"))
        return f"{name}{rng.choice((*ends, f' {common}', f'-{rng.randrange(2, 99)}'))}"
    return rng.choice(
        ("{}", "{}", "{} Islands", "the {} Republic", "{} and {}", "North {}")
    ).format(name, word(rng))


def said_of(pool: str, like: Sequence[str], rng: random.Random) -> str:
    """Make up what is said of a subject: numbers by the pool's name, words like those in it."""
    digits = "".join(rng.choice("0123456789") for _ in range(8))
    if pool == "year":
        return str(rng.randrange(1500, 2030))
    if pool == "number":
        return rng.choice((f"{digits[:3]}-{digits[3:7]}", f"+{digits[:2]} {digits[2:]}", digits))
    if pool == "amount":
        unit = rng.choice(("euros", "dollars", "people", "pounds", "million"))
        figure = f"{rng.randrange(1, 999)},{digits[:3]}"
        return rng.choice((f"{figure} {unit}", f"${figure}", f"{digits[:2]} {unit}"))
    if pool == "date":
        month = rng.choice(("January", "March", "May", "August", "October"))
        day = rng.randrange(1, 31)
        return rng.choice(
            (f"{day} {month} {digits[:4]}", f"{month} {day}", f"{day}.{day}.{digits[:4]}")
        )
    if pool == "mail":
        host = f"{word(rng).lower()}.{rng.choice(('com', 'org', 'at'))}"
        return f"{word(rng).lower()}{digits[:2]}@{host}"
    if pool == "street":
        return f"{digits[:2]} {word(rng)} {rng.choice(('Street', 'Road', 'Lane', 'Square'))}"
    if pool == "person":
        return f"{word(rng)} {word(rng)}"
    if pool == "team":
        return f"{rng.choice(('', 'the '))}{word(rng)} {word(rng)}s"
    if pool == "size":
        return rng.choice(
            (f"{digits[:3]} cm", f"{digits[0]}.{digits[1:3]} m", f"{digits[:2]} kilos")
        )
    if pool == "handle":
        return rng.choice((f"@{word(rng).lower()}", f"{word(rng).lower()}{digits[:3]}"))
    if rng.choice(like)[0].islower():
        return rng.choice(("{}", "{}", "{} {}", "a {}")).format(
            word(rng).lower(), word(rng).lower()
        )
    return rng.choice(("{}", "{} {}", "Port {}", "New {}")).format(word(rng), word(rng))


def word(rng: random.Random) -> str:
    """Make up a word of two or three syllables, in capitals as a name."""
    made = "".join(
        rng.choice("bcdfghjklmnprstvwxz")
        + rng.choice("aeiou")
        + rng.choice(("", "", "n", "r", "st"))
        for _ in range(rng.choice((2, 2, 3)))
    )
    return made.capitalize()


def relation(rng: random.Random) -> dict[str, Any]:
    """Make up a relation: its words mean nothing, but stand where such words stand."""
    verb, noun, other = (word(rng).lower() for _ in range(3))
    ask = rng.choice(
        ("what", f"which {noun}", f"how {noun}", "where", "when", "who", f"why {noun}")
    )
    lead = rng.choice(("", "", "in ", "at ", "for ", "under "))
    behind = rng.choice(
        ("", "", f" {other}", f" after {other}", " in", " from", " for", f" as {other}")
    )
    does = rng.choice(
        (f"{verb}s", f"was {verb}ed", f"{verb}ed", f"has {verb}ed", f"is {verb}", "is")
    )
    of = rng.choice(("of", "for", "behind", "in"))
    owned = rng.choice((noun, noun, f"{noun} {other}", f"{noun} of {other}", f"{noun}-{other}"))
    return {
        "of": rng.choice(("person", "person", "country", "compound", "work", "company")),
        "to": rng.choice(
            ("city", "year", "number", "person", "thing", "amount", "company", "team")
        ),
        "clauses": [
            (
                f"[{lead}{ask}] {{S}} [{does}{behind}]",
                f"[{ask} {does} {of}] {{S}}",
                f"[{ask} the {owned} {of}] {{S}} [{does}]",
                f"[how to {verb} {of}] {{S}}",
            )
        ],
        "nouns": [(owned,)],
        "facts": [
            (
                f"{{S}} [{does}{behind}] {{O}}",
                f"[the {owned} {of}] {{S}} [is] {{O}}",
                f"{{S}} [{does} the {noun}] {{O}}",
            )
        ],
    }
