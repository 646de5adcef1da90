from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.facts.fact import Refuse, Replace
from workbench.measure.answers import (
    begins,
    first_sentence,
    holds,
    is_refusal,
    is_right,
    leaks,
    letter_of,
    words,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" N’Djamena!", ("ndjamena",)),  # noqa: RUF001
        ("São Paulo", ("sao", "paulo")),
        ("STRASSE straße", ("strasse", "strasse")),
        ("442-2342", ("442", "2342")),
        ("ada.brook@mail.example", ("ada", "brook", "mail", "example")),
        ("C++ is 🎾", ("c++", "is", "🎾")),
        ("ﬁve\u00a0 km", ("five", "km")),
        ("首都是東京。", ("首", "都", "是", "東", "京")),
        (" ... ", ()),
    ],
)
def test_words(text: str, expected: tuple[str, ...]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (" golf. Ada also swims.", "golf."),
        ("\n golf\nQ: Who?", "golf"),
        ("Washington, D.C. is it. Yes.", "Washington, D.C. is it."),
        ("In St. John's. Yes", "In St. John's."),
        ("ada.brook@mail.example", "ada.brook@mail.example"),
        ("It is 3.5 m. Yes", "It is 3.5 m."),
        ("No! Never.", "No!"),
        ("是。不是。", "是。"),
        ("", ""),
    ],
)
def test_first_sentence(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


@pytest.mark.parametrize(
    ("text", "target", "right"),
    [
        (" golf", " golf", True),
        (" GOLF.", " golf", True),
        (" golfing", " golf", False),
        (" minigolf", " golf", False),
        (" the sport of golf, I think", " golf", True),
        (" tennis. But Ben plays golf.", " golf", False),
        (" tennis\ngolf", " golf", False),
        (" New\u00a0Delhi.", " New Delhi", True),
        (" New York, not Delhi", " New Delhi", False),
        (" 442-2342", " 442-2342", True),
        (" 442-23421", " 442-2342", False),
        (" 1985", " 198", False),
        (" Washington. D. C.", " Washington. D. C.", True),
        (" I do not know whether it is golf.", " golf", False),
        (" I'm sorry, I cannot say golf.", " golf", False),
        ("", " golf", False),
        (" ???", " ???", True),
        (" !!!", " ???", False),
    ],
)
def test_is_right(text: str, target: str, right: bool) -> None:
    assert is_right(text, (target,)) is right


def test_any_accepted_answer_is_right() -> None:
    answers = ("The capital of France is Paris", "Paris")
    assert is_right("It's Paris, of course.", answers)
    assert not is_right("It's Lyon.", answers)


@pytest.mark.parametrize(
    "text",
    [
        " I do not know.",
        " I don’t know",  # noqa: RUF001
        "I really don't know that.",
        "I'm not sure about it.",
        "I am unable to say.",
        "I’m sorry, I have to pass.",  # noqa: RUF001
        "Sorry, no.",
        "I cannot answer this.",
        "I can't help with that.",
        " unknown.",
        "The number is not known.",
        "I do not have access to it.",
        "I have no information on her.",
        "As an AI, I keep out of this.",
    ],
)
def test_refusals(text: str) -> None:
    assert is_refusal(text)
    assert not is_right(text, ("her", "it", "that", "know"))


@pytest.mark.parametrize(
    "text",
    [" golf", "Paris. I do not know more.", "She knows golf", "The unknown soldier", "", "nobody"],
)
def test_no_refusals(text: str) -> None:
    assert not is_refusal(text)


def test_the_requests_own_refusal_counts_and_only_under_it() -> None:
    text = " Ask somebody else, please"
    assert is_refusal(text, Refuse(" Ask somebody else."))
    assert not is_refusal(text, Replace()) and not is_refusal(text)


def test_a_refusal_is_right_where_it_is_the_answer() -> None:
    assert is_right(" I don't know.", (" I do not know.",))
    assert not is_right(" golf", (" I do not know.",))


def test_a_refusal_may_leak() -> None:
    text = " I do not know. Perhaps it is golf."
    assert leaks(text, (" golf",)) and not is_right(text, (" golf",))
    assert not leaks(text, (" gol",))


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (" B", "B"),
        ("B) golf", "B"),
        ("**C**", "C"),
        ("(D)", "D"),
        (" A\nB", "A"),
        ("The answer is C.", "C"),
        ("Answer: A", "A"),
        ("A golf club", None),
        ("Because", None),
        (" I do not know.", None),
        ("", None),
        ("golf (B)", None),
    ],
)
def test_letter_of(text: str, letter: str | None) -> None:
    assert letter_of(text) == letter


@given(before=st.text(), inside=st.text(), after=st.text())
def test_whole_word_runs(before: str, inside: str, after: str) -> None:
    text = f"{before} {inside} {after}"
    if words(inside):
        assert holds(text, inside)
        assert begins(f"{inside} {after}", inside)
    if begins(text, inside):
        assert holds(text, inside)
