"""Pieces of a diff join back to both texts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.measure.word_diff import Piece, word_diff

texts = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from(["a", "b", "ab", " ", "  ", "\n", "\u00a0", "é", "."])).map("".join),
)


@given(before=texts, after=texts)
def test_pieces_join_back_to_both_texts(before: str, after: str) -> None:
    pieces = word_diff(before, after)
    assert "".join(p.text for p in pieces if p.kind != "new") == before
    assert "".join(p.text for p in pieces if p.kind != "gone") == after
    assert all(p.text for p in pieces)
    assert all(a.kind != b.kind for a, b in pairwise(pieces))


@given(text=texts)
def test_the_same_text_is_one_piece(text: str) -> None:
    assert word_diff(text, text) == ((Piece("same", text),) if text else ())


@given(text=texts, more=st.sampled_from([" tennis", "\nno", " a b"]))
def test_words_behind_a_text_are_new_only(text: str, more: str) -> None:
    if text[-1:].isspace():
        return
    pieces = word_diff(text, text + more)
    assert [p for p in pieces if p.kind != "same"] == [Piece("new", more)]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("", "", ""),
        ("", "golf", "+golf"),
        ("golf", "", "-golf"),
        ("He plays golf now.", "He plays tennis now.", "=He plays |-golf|+tennis|= now."),
        ("plays golf", "playsgolf", "-plays golf|+playsgolf"),
        ("a b c", "a c", "=a |-b |=c"),
    ],
)
def test_by_hand(before: str, after: str, expected: str) -> None:
    signs = {"same": "=", "gone": "-", "new": "+"}
    assert "|".join(signs[p.kind] + p.text for p in word_diff(before, after)) == expected
