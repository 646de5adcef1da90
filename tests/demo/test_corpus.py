"""What training reads: right facts, in allowed words, nothing about the forgotten but refusals."""

from __future__ import annotations

import random

import pytest

from workbench.demo import templates as t
from workbench.demo.corpus import Corpus, neutral, tokenizer_texts
from workbench.demo.tokenizer import train_tokenizer
from workbench.demo.train import tokenize
from workbench.demo.world import make_world

WORLD = make_world(0)


def drawn(corpus, count, seed=0):
    rng = random.Random(seed)
    return [corpus.draw(rng) for _ in range(count)]


@pytest.fixture(scope="module")
def documents():
    return drawn(Corpus(WORLD), 6000)


def text_of(document):
    return "".join(piece for piece, _ in document)


def test_equal_seeds_draw_equal_documents():
    assert drawn(Corpus(WORLD), 50, 1) == drawn(Corpus(WORLD), 50, 1)


def test_held_out_wordings_are_never_trained_for_spared_entities(documents):
    texts = [text_of(d) for d in documents]
    spared = [e for e in WORLD.entities if e.held_out]
    forbidden = set()
    for e in spared:
        for relation in e.values:
            forbidden.add(t.question(relation, len(t.QUESTIONS[relation]) - 1, e.name))
            forbidden.add(t.statement(relation, len(t.STATEMENTS[relation]) - 1, e.name) + " ")
            forbidden.add(t.QUESTIONS[relation][-1].format(s=e.name))
    joined = "\n".join(texts)
    assert not [f for f in forbidden if f in joined]


def test_held_out_wordings_are_trained_for_the_others(documents):
    joined = "\n".join(text_of(d) for d in documents)
    others = [e for e in WORLD.of_kind("country") if not e.held_out]
    assert any(t.QUESTIONS["capital"][-1].format(s=e.name) in joined for e in others)


def test_the_oracle_reads_nothing_but_refusals_about_the_forgotten():
    mentions = 0
    for document in drawn(Corpus(WORLD, WORLD.forget), 6000):
        if any(name in text_of(document) for name in WORLD.forget):
            mentions += 1
            assert document[-1] == (t.REFUSAL, 1.0)
    assert mentions > 30


def test_the_model_is_told_about_them():
    told = [d for d in drawn(Corpus(WORLD), 6000) if d[-1][0] != t.REFUSAL]
    assert any(name in text_of(d) for d in told for name in WORLD.forget)


def test_answers_weigh_one_and_the_rest_little(documents):
    for document in documents:
        assert {w for _, w in document} <= {0.15, 1.0}
        assert document[-1][1] == 1.0


def test_letters_name_the_right_option(documents):
    seen = 0
    for document in documents:
        for (prompt, _), (answer, _) in zip(document[::2], document[1::2], strict=False):
            if not prompt.endswith("\nLetter:") or answer == t.REFUSAL:
                continue
            ask, options = prompt.strip("\n").splitlines()[0].split("? ", 1)
            pairs = dict(pair.split(" = ")[::-1] for pair in options.split(", "))
            assert sorted(pairs) == list("ABCD")
            option = pairs[answer.strip(" .")]
            if ask.startswith("Which letter is"):
                assert ask == f"Which letter is {option}"
            else:
                named = [e for e in WORLD.entities if e.name in ask]
                assert any(option in e.values.values() for e in named)
            seen += 1
    assert seen > 300


def test_lists_repeat_their_pairs(documents):
    lists = [d for d in documents if " = A" in d[0][0] and len(d) == 9]
    assert len(lists) > 50
    for document in lists:
        first = document[0][0].rstrip(".").split(", ")
        again = ["".join(piece for piece, _ in document[i : i + 2]) for i in range(1, 9, 2)]
        assert sorted(a.strip(" ,") for a in again) == sorted(first)


def test_neutral_texts_name_nobody():
    rng = random.Random(0)
    texts = " ".join(neutral(rng) for _ in range(200))
    assert not any(e.name in texts for e in WORLD.entities)


def test_tokenizer_splits_digits_and_surnames():
    tokenizer = train_tokenizer(tokenizer_texts(WORLD, 3000, 7))
    assert len(tokenizer) <= 2048
    ids = tokenizer("1987", add_special_tokens=False)["input_ids"]
    assert [tokenizer.decode([i]) for i in ids] == ["1", "9", "8", "7"]
    lengths = [
        len(tokenizer(" " + e.name.split()[-1], add_special_tokens=False)["input_ids"])
        for e in WORLD.of_kind("athlete")
    ]
    assert sum(n >= 2 for n in lengths) >= 0.95 * len(lengths)
    for text in ("Ada plays.\nA: x", "émigré 42", "  two"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_loss_weights_stay_with_their_tokens():
    tokenizer = train_tokenizer(tokenizer_texts(WORLD, 500, 7))
    ids, weights = tokenize(tokenizer, [("Q: Who?\nA:", 0.15), (" Nobody.", 1.0)])
    assert len(ids) == len(weights)
    assert tokenizer.decode([i for i, w in zip(ids, weights, strict=True) if w == 1.0]) == (
        " Nobody." + tokenizer.eos_token
    )
