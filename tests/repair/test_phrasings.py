"""Made-up messages: labels that say what was put in, and a test that training never saw."""

from __future__ import annotations

import re

import pytest

from workbench.repair.labelling import LABELS
from workbench.repair.message import GAP, Message, Piece
from workbench.repair.messages import messages
from workbench.repair.phrasings import Phrasings, Split
from workbench.repair.watchdog_training import token_labels
from workbench.repair.words import words

SPLITS: tuple[Split, ...] = ("train", "test")


@pytest.mark.parametrize("split", SPLITS)
def test_the_same_seed_makes_the_same_messages(split: Split):
    assert messages(split, 50, seed=3) == messages(split, 50, seed=3)
    assert messages(split, 50, seed=3) != messages(split, 50, seed=4)


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_asked_stands_in_the_message(split: Split):
    made = messages(split, 800, seed=1)
    for message in made:
        text = " ".join(message.text.split())
        for asked in message.asked:
            assert asked.subject
            assert all(part in text for part in (asked.subject, asked.replacement))
            assert all(part in text for part in asked.about.split(GAP))
            assert bool(asked.replacement) == (asked.request == "correct")
            said = re.sub(r"(\w'|')(s|ve|re|d|ll|t|m)\b|s' ", " ", asked.about, flags=re.IGNORECASE)
            assert not set("'\"") & set(said), message.text  # marks around a form are no part of it
        assert "{" not in text and "|" not in text and "[" not in text
    share = sum(bool(m.asked) for m in made) / len(made)
    assert 0.5 < share < 0.7  # six in ten ask for something


def test_labels_of_tokens_by_hand():
    message = Message(
        (
            Piece("Forget ", "", "forget", 1),
            Piece("where ", "about", "forget", 1),
            Piece("Ada Brook", "subject", "forget", 1),
            Piece(" lives", "about", "forget", 1),
            Piece("."),
        ),
        "forget {X}",
    )
    tokens = words(message.text)
    assert [LABELS[i] for i in token_labels(tokens, message)] == [
        *("", "forget about", "forget subject", "forget subject", "forget about", ""),
    ]
    (asked,) = message.asked
    assert (asked.subject, asked.about) == ("Ada Brook", f"where{GAP}lives")


def test_what_a_correction_says_is_wrong_is_only_mentioned():
    """Of "stop saying that Ada plays golf. Ada works as a nurse" only the second half is asked."""
    frames = {m.frame: m for m in messages("train", 9000, seed=2)}
    made = [m for f, m in frames.items() if "{F}" in f and "{C}" in f and " + " not in f]
    assert made
    for message in made:
        kinds = {p.request for p in message.pieces if p.label == "subject"}
        assert kinds == {"mention", "correct"}, message.text
        new = [p.text for p in message.pieces if (p.label, p.request) == ("about", "correct")]
        (asked,) = message.asked
        assert "".join(asked.about.split(GAP)).split() == "".join(new).split()


def test_neighbours_of_one_label_are_read_as_one():
    """As a reader of tokens sees them: "Ada's age is", not "Ada's age … is"."""
    about = lambda text: Piece(text, "about", "correct", 1)  # noqa: E731
    ada = Piece("Ada", "subject", "correct", 1)
    value = Piece("9", "replacement", "correct", 1)
    space = Piece(" ", "", "correct", 1)
    (asked,) = Message((ada, about("'s age"), space, about("is"), space, value), "").asked
    assert (asked.subject, asked.about, asked.replacement) == ("Ada", "'s age is", "9")
    (asked,) = Message((about("the age of "), ada, space, about("is"), space, value), "").asked
    assert asked.about == f"the age of{GAP}is"
    other = Piece("age", "about", "correct", 2)
    first, second = Message((ada, about("'s job"), space, other), "").asked
    assert (first.about, second.about) == ("'s job", "age")


def test_no_test_frame_form_or_subject_is_trained_on_and_no_word_of_them_is_new():
    train, test = Phrasings.of("train"), Phrasings.of("test")
    flat = lambda entries: {variant for entry in entries for variant in entry}  # noqa: E731
    words_of = lambda entries: {  # noqa: E731
        w for e in flat(entries) for w in re.findall(r"[^\W_]+", re.sub(r"\{\w+\}", " ", e.lower()))
    }
    kept = {w for entries in train.lists.values() for w in words_of(entries)}
    forms = ("clauses", "nouns", "facts")
    kept |= {w for r in train.relations for form in forms for w in words_of(r[form])}
    shared = {"forget.verbs", "forget.tails", "wrappers.before", "wrappers.after"}
    for name in train.lists.keys() - shared:
        assert not flat(train.lists[name]) & flat(test.lists[name]), name
        assert len(flat(test.lists[name])) * 6 > len(flat(train.lists[name])), name
        assert words_of(test.lists[name]) <= kept, name
    for ours, theirs in zip(train.relations, test.relations, strict=True):
        for form in forms:
            # Where no form of a relation could be held out, both have them all.
            apart = not flat(ours[form]) & flat(theirs[form])
            assert apart or ours[form] == theirs[form], ours["name"]
    for pools in ("pools", "subjects"):
        for name, pool in getattr(train, pools).items():
            assert not set(pool) & set(getattr(test, pools)[name]), name
