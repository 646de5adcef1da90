"""The fact files: true, every subject in one role, views and wordings held out, requests hold."""

from __future__ import annotations

import json

import pytest

from workbench.demo.templates import REFUSAL
from workbench.demo_vision import fact_files as f
from workbench.demo_vision import templates as t
from workbench.demo_vision.gallery import Gallery
from workbench.demo_vision.world import FORGET_SIZES, make_world
from workbench.facts.readers import read_facts
from workbench.facts.request_files import load_request

WORLD = make_world(0, 40)
GALLERY = Gallery(WORLD, views=2, strangers=4, scenes=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("facts")
    f.write_fact_files(GALLERY, out)
    return out


@pytest.fixture(scope="module")
def facts(folder):
    files = (f.FACES, f.NAMES, f.SCENES_FILE, f.UNKNOWN)
    return {name: read_facts(folder / name) for name in files}


def test_facts_are_those_of_the_world(facts):
    of = {p.name: p for p in WORLD.people}
    assert len(facts[f.FACES]) == len(WORLD.people) * len(t.RELATIONS)
    assert len(facts[f.NAMES]) == len(WORLD.people) * len(t.BY_NAME)
    assert {len(fact.views) for fact in facts[f.FACES]} == {f.N_VIEWS}
    for fact in (*facts[f.FACES], *facts[f.NAMES]):
        assert fact.target == " " + of[fact.subject].values[fact.relation]
        assert (fact.image is None) == (fact.subject in fact.prompt)
    for fact in (*facts[f.FACES], *facts[f.NAMES]):
        assert fact.foil != fact.target
        assert len(set(fact.choices)) == 4 and fact.target.strip() in fact.choices
        for probe in fact.mcq:
            listed = probe.prompt.replace("<image>\n", "").split(".\nQ:")[0].split(", ")
            assert sorted(listed) == sorted(fact.choices)


def test_held_out_wordings_are_others_than_the_trained(facts):
    spared = [x for x in (*facts[f.FACES], *facts[f.NAMES]) if x.held_out]
    assert len(spared) == (len(facts[f.FACES]) + len(facts[f.NAMES])) / 2
    for fact in spared:
        assert len(fact.held_out) == 2
        assert not set(fact.held_out) & {fact.prompt, *fact.paraphrases}


def test_pictures_are_small_and_read_from_beside_the_facts(folder, facts):
    pictures = list((folder / f.PICTURES).iterdir())
    assert len(pictures) == 3 * len(WORLD.people) + f.N_SCENES + f.N_UNKNOWN
    assert sum(p.stat().st_size for p in pictures) / len(pictures) < 6000
    record = json.loads((folder / f.FACES).read_text("utf-8").splitlines()[0])
    assert record["image"] == f"{f.PICTURES}/person-000.png"
    images = {x.image for x in facts[f.FACES]}
    assert len(images) == len(WORLD.people)
    views = {view for x in facts[f.FACES] for view in x.views}
    assert len(views) == f.N_VIEWS * len(WORLD.people) and not images & views
    assert record["views"][0] == f"{f.PICTURES}/person-000-1.png"


def test_the_unknown_are_refused(facts):
    assert {x.target for x in facts[f.UNKNOWN]} == {REFUSAL}
    known = {p.name for p in WORLD.people}
    assert not known & set(facts[f.UNKNOWN].subjects)


def test_roles_do_not_mix(facts):
    roles = {}
    for fact in (x for group in facts.values() for x in group):
        (role,) = {"forget", "retain", "evaluate"} & set(fact.tags)
        roles.setdefault(fact.subject, set()).add(role)
    assert all(len(found) == 1 for found in roles.values())
    assert {s for s, found in roles.items() if "forget" in found} == WORLD.forget
    lost = {p.prompt for p in facts[f.NAMES] if "forget" in p.tags}
    assert not lost & {n.prompt for x in facts[f.NAMES] for n in x.neighbors}


def test_requests_forget_by_face_and_by_name(folder):
    last: set[str] = set()
    for size in (1, *FORGET_SIZES):
        request = load_request(f"people-{size}", facts_dir=folder)
        assert len(request.forget.subjects) == size
        assert len(request.forget) == size * (len(t.RELATIONS) + len(t.BY_NAME))
        assert last < set(request.forget.subjects)
        last = set(request.forget.subjects)
        assert request.retain and request.evaluate and request.unknown
        kept = set(request.retain.subjects) | set(request.evaluate.subjects)
        assert not kept & set(request.forget.subjects)


def test_neutral_texts_name_nobody(folder):
    texts = (folder / f.NEUTRAL).read_text("utf-8")
    assert not any(p.name in texts for p in WORLD.people)


def test_requests_for_faces_keep_names_measured_and_half_of_them_told(folder):
    size = FORGET_SIZES[0]
    alone, told = (load_request(f"faces-{size}{more}", facts_dir=folder) for more in ("", "-names"))
    whom = alone.forget.subjects
    assert all(fact.image is not None for fact in alone.forget)
    assert told.forget == alone.forget and len(whom) == size
    assert not alone.retain.about(whom)
    by_name = {(x.subject, x.relation) for x in alone.evaluate.about(whom)}
    assert by_name == {(s, r) for s in whom for r in t.BY_NAME}
    kept, measured = (
        {(x.subject, x.relation) for x in p.about(whom)} for p in (told.retain, told.evaluate)
    )
    assert kept | measured == by_name and not kept & measured and len(kept) == len(measured)
    assert all(x.image is None for x in (*told.retain.about(whom), *told.evaluate.about(whom)))
