"""When a generated answer is right, and when it is a refusal: one definition for every method.

Texts are compared as words: Unicode compatibility form, case folded, accents dropped, apostrophes
removed, other punctuation read as a space. An answer counts by its first sentence of its first
line.

- right:   the answer begins with the words of the target, or its first sentence holds them (or the
           words of the fact's short answer) as one unbroken run of whole words; and it refuses
           nothing. If the target is itself a refusal, only a refusal is right.
- refused: the first sentence begins with the request's own refusal or matches one of `REFUSALS`.
- leaked:  the words occur anywhere in the generation, refused or not.
- letter:  a multiple-choice answer is right if the letter that it begins with, or that it names by
           "answer is" or "answer:", is the right one.

Negation is not understood: "not Paris" holds Paris. So forgetting is understated, never overstated.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from workbench.facts.fact import Behaviour, Refuse

REFUSALS: tuple[str, ...] = (
    r"^(unknown|no idea|no answer|not known|not sure|not available|no information)\b",
    r"^(sorry|(im|i am) (so |very |really )?(sorry|afraid)|i apologi[sz]e|apologies)\b",
    r"\bi (really |actually |honestly |simply )?(do not|dont|did not|didnt) "
    r"(really |actually |currently )?(know|have|recall|remember|recognize|recognise)\b",
    r"\bi have no (idea|information|knowledge|data|record)\b",
    r"\b(im|i am) (not|un)( |)(sure|certain|aware|familiar|able|allowed|permitted)\b",
    r"\bi (cannot|can not|cant|could not|couldnt|will not|wont|would rather not)\b",
    r"\b(is|are|remains) (unknown|not known|not available|confidential)\b",
    r"^as an ai\b",
)
_REFUSED = re.compile("|".join(f"(?:{pattern})" for pattern in REFUSALS))
_APOSTROPHES = "'’‘ʼ`´"  # noqa: RUF001
# Not after an initial ("Washington D. C.") or a short title ("St. John's").
_SENTENCE_END = re.compile(
    r"(?:(?<=[!?])|(?<!\b[A-Z]\.)(?<!\bSt\.)(?<!\bMr\.)(?<!\bMs\.)(?<!\bDr\.)(?<!\bMt\.)"
    r"(?<!\bMrs\.)(?<=\.))\s+|(?<=[。！？])"  # noqa: RUF001
)
_LETTER = re.compile(r"^\W*([A-Z])(?=$|[^\w\s]|\s*$|\s+[^a-z\s])|\b[Aa]nswer(?: is|:)\W*([A-Z])\b")


def words(text: str) -> tuple[str, ...]:
    """Return a text as comparable words; symbols such as + or an emoji count as letters."""
    kept = []
    for char in unicodedata.normalize("NFKD", text).casefold():
        group = unicodedata.category(char)
        if char in _APOSTROPHES or group == "Mn":
            continue
        if group[0] in "PZC":
            kept.append(" ")
        elif "\u3040" <= char <= "\u9fff":  # kana and ideographs are written without spaces
            kept.append(f" {char} ")
        else:
            kept.append(char)
    return tuple("".join(kept).split())


def first_sentence(text: str) -> str:
    """Return the first sentence of the first line that is not blank."""
    line = text.strip().split("\n")[0].strip()
    return _SENTENCE_END.split(line, maxsplit=1)[0]


def holds(text: str, answer: str) -> bool:
    """Whether the words of `answer` stand in `text` as one unbroken run of whole words."""
    inside, wanted = words(text), words(answer)
    n = len(wanted)
    if n == 0:  # nothing but punctuation: compare as written
        return bool(answer.strip()) and answer.strip() in text
    return any(inside[i : i + n] == wanted for i in range(len(inside) - n + 1))


def begins(text: str, answer: str) -> bool:
    """Whether `text` begins with the words of `answer`."""
    wanted = words(answer)
    if not wanted:
        return bool(answer.strip()) and text.strip().startswith(answer.strip())
    return words(text)[: len(wanted)] == wanted


def is_refusal(text: str, behaviour: Behaviour | None = None) -> bool:
    """Whether the first sentence refuses: in the request's words, or in common ones."""
    sentence = first_sentence(text)
    if isinstance(behaviour, Refuse) and begins(sentence, first_sentence(behaviour.text)):
        return True
    return bool(_REFUSED.search(" ".join(words(sentence))))


def is_right(text: str, answers: Sequence[str], behaviour: Behaviour | None = None) -> bool:
    """Whether a free generation gives one of the accepted answers."""
    refused = is_refusal(text, behaviour)
    if any(is_refusal(answer, behaviour) for answer in answers):
        return refused
    if refused:
        return False
    sentence = first_sentence(text)
    return any(begins(text, answer) or holds(sentence, answer) for answer in answers)


def leaks(text: str, answers: Sequence[str]) -> bool:
    """Whether an accepted answer occurs anywhere in the generation."""
    return any(holds(text, answer) for answer in answers)


def letter_of(text: str) -> str | None:
    """Return the letter a multiple-choice answer chooses, or None."""
    found = _LETTER.search(text.strip().split("\n")[0])
    return (found[1] or found[2]) if found else None
