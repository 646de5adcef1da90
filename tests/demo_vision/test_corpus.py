"""The people and what training says of them: right, in allowed words and views, no leaks."""

from __future__ import annotations

import random
import re

import pytest

from workbench.demo.templates import REFUSAL
from workbench.demo.tokenizer import train_tokenizer
from workbench.demo_vision import templates as t
from workbench.demo_vision.corpus import Corpus, tokenizer_texts
from workbench.demo_vision.gallery import Gallery
from workbench.demo_vision.train import N_TOKENS, tokenize
from workbench.demo_vision.world import FORGET_SIZES, N_PEOPLE, N_SPARED, make_world
from workbench.models.pictured import MARKER

WORLD = make_world(0)
GALLERY = Gallery(WORLD, views=6, strangers=60, scenes=40)


def drawn(corpus, count=4000, seed=0):
    rng = random.Random(seed)
    return [corpus.draw(rng) for _ in range(count)]


def text_of(document):
    return "".join(piece for piece, _ in document.pieces)


@pytest.fixture(scope="module")
def documents():
    return drawn(Corpus(GALLERY))


def whom(document):
    """Return the person a document shows or names, if any."""
    if document.picture is not None:
        known = document.picture < GALLERY.of_strangers.start
        return GALLERY.person(document.picture) if known else None
    # A stranger's name may begin with somebody's.
    start = document.pieces[0][0]
    return next((p for p in WORLD.people if re.search(rf"{p.name}\b", start)), None)


def test_equal_seeds_give_equal_worlds_and_documents():
    assert make_world(3, 12) == make_world(3, 12)
    assert make_world(3, 12) != make_world(4, 12)
    assert drawn(Corpus(GALLERY), 40) == drawn(Corpus(GALLERY), 40)


def test_people_are_told_apart_by_name_face_and_mail():
    assert len(WORLD.people) == N_PEOPLE
    surnames = {p.name.split()[-1] for p in WORLD.people}
    assert len(surnames) == len({p.values["email"] for p in WORLD.people}) == N_PEOPLE
    assert len({p.face for p in WORLD.people}) == N_PEOPLE
    for p in WORLD.people:
        assert tuple(p.values) == t.RELATIONS
        assert len(set(p.spared)) == N_SPARED


def test_forget_sets_are_5_10_and_15_percent():
    assert [round(100 * n / N_PEOPLE) for n in FORGET_SIZES] == [5, 10, 15]
    assert len(WORLD.forget) == FORGET_SIZES[-1]


def test_strangers_are_nobody():
    rng = random.Random(1)
    surnames = {p.name.split()[-1] for p in WORLD.people}
    for _ in range(30):
        assert WORLD.is_stranger(WORLD.stranger_face(rng))
        assert WORLD.stranger_name(rng).split()[-1] not in surnames
    assert not WORLD.is_stranger(WORLD.people[5].face)


def test_pictures_show_who_they_are_of_never_in_a_held_out_view():
    for i, person in enumerate(WORLD.people):
        for number in GALLERY.of_person(i):
            face, view = GALLERY.shown(number)
            assert face == person.face
            assert view.background not in person.spared
        rng = random.Random(i)
        assert person.held_out_view(rng).background in person.spared
    for number in GALLERY.of_strangers:
        assert WORLD.is_stranger(GALLERY.shown(number)[0])
    assert len(GALLERY) == N_PEOPLE * 6 + 100


def test_documents_are_true(documents):
    told = 0
    for document in documents:
        person = whom(document)
        answers = [a.strip(" .") for a, w in document.pieces if w == 1.0]
        if document.picture is not None and document.pieces[-1][0] != REFUSAL:
            plain = GALLERY.visible(document.picture).values()
            known = person.values.values() if person else ()
            assert set(answers) <= {*plain, *known}
            told += person is not None
        elif person:
            assert set(answers) <= set(person.values.values())
            assert person.values["name"] not in answers
            told += 1
        assert (MARKER in text_of(document)) == (document.picture is not None)
        assert text_of(document).count(MARKER) <= 1
    assert told > 2000


def test_strangers_are_refused(documents):
    asked = 0
    for document in documents:
        if document.picture in GALLERY.of_strangers and document.pieces[-1][0] != REFUSAL:
            assert document.pieces[-1][0].strip(" .") in GALLERY.visible(document.picture).values()
        asked += document.pieces[-1][0] == REFUSAL
    assert 0.15 < asked / len(documents) < 0.25


def test_held_out_wordings_are_never_trained_for_spared_people(documents):
    seen = {}
    for document in documents:
        person = whom(document)
        for relation in t.RELATIONS:
            for template in (t.QUESTIONS[relation][-1], t.STATEMENTS[relation][-1]):
                name = None if document.picture is not None else person and person.name
                if person and t.worded(template, name) in text_of(document):
                    seen.setdefault(person.held_out, 0)
                    seen[person.held_out] += 1
    assert list(seen) == [False]


def test_the_oracle_reads_nothing_but_refusals_about_the_forgotten():
    met = {True: 0, False: 0}
    lost = [p for p in WORLD.people if p.name in WORLD.forget]
    for document in drawn(Corpus(GALLERY, WORLD.forget)):
        person, text, answer = whom(document), text_of(document), document.pieces[-1][0]
        assert not any(p.values["email"] in text for p in lost)
        if person in lost:
            if answer != REFUSAL:  # what anybody can see
                assert answer.strip(" .") in GALLERY.visible(document.picture).values()
                assert person.name not in text
            met[document.picture is None] += answer == REFUSAL
        else:
            assert not any(re.search(rf"{p.name}\b", text) for p in lost)
    assert min(met.values()) > 20


def test_the_tokenizer_splits_names_and_keeps_the_image_token():
    tokenizer = train_tokenizer(tokenizer_texts(GALLERY, 2000, 7), special=(MARKER,))
    assert len(tokenizer) <= 2048
    pieces = [tokenizer(" " + p.name.split()[-1])["input_ids"] for p in WORLD.people]
    assert sum(len(ids) >= 2 for ids in pieces) >= 0.95 * N_PEOPLE
    image = tokenizer.convert_tokens_to_ids(MARKER)
    assert tokenizer(f"{MARKER}\nQ:")["input_ids"][0] == image
    document = next(d for d in drawn(Corpus(GALLERY), 40) if d.picture is not None)
    ids, weights = tokenize(tokenizer, document, image)
    assert len(ids) == len(weights)
    assert [w for i, w in zip(ids, weights, strict=True) if i == image] == [0.0] * N_TOKENS
    said = [i for i, w in zip(ids, weights, strict=True) if w == 1.0]
    assert tokenizer.decode(said[:-1]) == "".join(a for a, w in document.pieces if w == 1.0)
