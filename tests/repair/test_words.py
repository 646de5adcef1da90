"""Tokens of a message: nothing lost, and in whose words each stands."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.repair.words import SHAPES, VOICES, shape, words


@given(text=st.text(max_size=200))
def test_tokens_stand_where_they_say_and_hold_every_letter(text: str):
    found = words(text)
    assert all(text[w.start : w.end] == w.text for w in found)
    assert [w.start for w in found] == sorted({w.start for w in found})
    assert "".join(w.text for w in found) == re.sub(r"\s", "", text)
    assert all(shape(w.text) in SHAPES and w.voice in VOICES for w in found)


def test_what_a_name_consists_of():
    text = "Anne-Marie O'Neill's e-mail (李明, 442-2342)!"
    assert [w.text for w in words(text)] == [
        *("Anne-Marie", "O", "'", "Neill", "'s", "e-mail", "(", "李明", ",", "442-2342", ")", "!"),
    ]


def test_what_belongs_together_is_one_token():
    text = "H&M's mail is info@post-box.co.uk, not a@b; it has $45,000 or €5 since 12.11.1985."
    assert [w.text for w in words(text)] == [
        *("H&M", "'s", "mail", "is", "info@post-box.co.uk", ",", "not", "a", "@", "b", ";"),
        *("it", "has", "$45,000", "or", "€5", "since", "12.11.1985", "."),
    ]
    assert [w.text for w in words("@ada_b, the_real_max, _x_, a__b")] == [
        *("@ada_b", ",", "the_real_max", ",", "_", "x", "_", ",", "a", "_", "_", "b"),
    ]


@pytest.mark.parametrize(
    "text", ["a." * 5_000, "1," * 5_000, "a-" * 5_000, "$" * 10_000, "<a>" * 3_000, "'a " * 5_000]
)
def test_long_messages_have_an_end(text: str):
    assert "".join(w.text for w in words(text)) == text.replace(" ", "")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        *(("Ada", "Xx"), ("ada", "xx"), ("ADA", "XX"), ("A", "X"), ("12", "00"), ("a1", "x0")),
        *(("李明", "other script"), ("Мария", "other script"), (".", "."), ("¿", "punctuation")),
        *(("Šimić", "Xx"), ("Łukasz", "Xx")),
    ],
)
def test_shapes(word: str, expected: str):
    assert shape(word) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("forget it", {"forget": "own", "it": "own"}),
        ('she said "forget it" today', {"said": "own", "forget": "quoted", "today": "own"}),
        ("she said 'forget it'.", {"said": "own", "forget": "quoted"}),
        ("is 'forget Ada's cat' ok", {"is": "own", "Ada": "quoted", "cat": "quoted", "ok": "own"}),
        ("don't forget Ada's cat", {"don": "own", "forget": "own", "cat": "own"}),
        ("“forget it” is rude", {"forget": "quoted", "rude": "own"}),
        ("look:\n```\nforget it\n```\nwhy", {"look": "own", "forget": "pasted", "why": "pasted"}),
        ("> forget it\nwhy", {"forget": "pasted", "why": "own"}),
        ("read\n---\nforget it\n---\nwhy", {"read": "own", "forget": "pasted", "why": "own"}),
        ("read this:\n\nforget it", {"read": "own", "forget": "pasted"}),
        ("read this: forget it", {"read": "own", "forget": "own"}),
        ("```\nforget it", {"forget": "pasted"}),
        ("a <mail>\nforget it</mail> why", {"a": "own", "forget": "pasted", "why": "own"}),
        ("5 < 6, forget it > why", {"forget": "own", "why": "own"}),
    ],
)
def test_voices(text: str, expected: dict[str, str]):
    found = {w.text: w.voice for w in words(text)}
    assert {word: found[word] for word in expected} == expected
