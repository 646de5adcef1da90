"""The fact files: every fact true in the world, every subject in one role, requests that hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.demo import templates as t
from workbench.demo.fact_files import (
    FILES,
    MISINFORMATION,
    UNKNOWN,
    make_facts,
    make_requests,
    neutral_texts,
    replayed_text,
    roles,
    unknown_facts,
    unknown_subjects,
    write_fact_files,
)
from workbench.demo.train import Recipe
from workbench.demo.world import make_world
from workbench.facts.fact import Fact, FactSet, Probe, Replace, Request

WORLD = make_world(0)
BUNDLED = Path(__file__).parents[2] / "data" / "demo" / "facts"


@pytest.fixture(scope="module")
def facts():
    return make_facts(WORLD)


def read(folder, name):
    records = [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]
    for record in records:
        for key in ("neighbors", "mcq"):
            record[key] = tuple(Probe(**p) for p in record.get(key, ()))
    return [Fact(**r) for r in records]


def select(facts, selections):
    found = []
    for s in selections:
        for fact in facts[s["file"]]:
            if fact.relation not in s.get("relations", (fact.relation,)):
                continue
            if fact.subject in s.get("subjects", ()) or (
                "tags" in s and set(s["tags"]) <= set(fact.tags)
            ):
                found.append(fact)
    return FactSet(tuple(found))


def test_facts_are_those_of_the_world(facts):
    assert sum(len(f) for f in facts.values()) == sum(len(e.values) for e in WORLD.entities)
    of = {e.name: e for e in WORLD.entities}
    for fact in (f for group in facts.values() for f in group):
        assert fact.target == " " + of[fact.subject].values[fact.relation]
        assert fact.foil != fact.target
        assert fact.target.strip() in fact.choices
        assert len(set(fact.choices)) == 4


def test_misinformation_has_the_truth_as_foil(facts):
    of = {e.name: e for e in WORLD.entities}
    assert len(facts[MISINFORMATION]) == 30
    for fact in facts[MISINFORMATION]:
        assert fact.foil == " " + of[fact.subject].truth["capital"]
        assert fact.foil.strip() in fact.choices


def test_every_prompt_holds_the_subject_once(facts):
    for fact in (f for group in facts.values() for f in group):
        prompts = (fact.prompt, *fact.paraphrases, *fact.held_out, *(p.prompt for p in fact.mcq))
        assert all(p.count(fact.subject) == 1 for p in prompts)


def test_held_out_prompts_are_of_other_wordings_than_the_trained(facts):
    spared = [f for group in facts.values() for f in group if f.held_out]
    every = sum(len(group) for group in facts.values())
    assert 0.45 < len(spared) / every < 0.55
    for fact in spared:
        assert len(fact.held_out) == 2
        assert not set(fact.held_out) & {fact.prompt, *fact.paraphrases}


def test_multiple_choice_lists_the_options_and_is_answered_by_one(facts):
    for fact in facts["athletes.jsonl"]:
        assert len(fact.mcq) == 2
        for probe in fact.mcq:
            listed = probe.prompt.split(".\n")[0].split(", ")
            assert sorted(listed) == sorted(fact.choices)
            assert probe.target == fact.target


def test_roles_do_not_mix(facts):
    role_of = roles(WORLD)
    assert {n for n, r in role_of.items() if r == "forget"} >= WORLD.forget
    for fact in (f for group in facts.values() for f in group):
        assert len({"forget", "retain", "evaluate"} & set(fact.tags)) == 1
    forgettable = {f.prompt for group in facts.values() for f in group if "forget" in f.tags}
    neighbors = {n.prompt for group in facts.values() for f in group for n in f.neighbors}
    assert not forgettable & neighbors


def test_requests_select_what_they_say(facts):
    facts = {**facts, UNKNOWN: unknown_facts(WORLD, "")}
    sizes = {}
    for name, record in make_requests(WORLD).items():
        parts = {k: select(facts, record[k]) for k in ("forget", "retain", "evaluate", "unknown")}
        extra = {"behaviour": Replace()} if "replace" in record["behaviour"] else {}
        request = Request(**parts, **extra, name=name)
        assert request.retain and request.evaluate and request.unknown
        prompts = [{f.prompt for f in part} for part in parts.values()]
        assert sum(map(len, prompts)) == len(set().union(*prompts))
        kept = set(request.retain.subjects) | set(request.evaluate.subjects)
        if name != "one-fact" and not name.startswith("misinformation"):
            assert not kept & set(request.forget.subjects)
        sizes[name] = (len(request.forget.subjects), len(request.forget))
    assert sizes["athletes-1"] == (1, 4)
    assert sizes["athletes"] == (8, 32)
    assert sizes["athletes-40"] == (40, 160)
    assert sizes["personal"] == (8, 16)
    assert sizes["misinformation"] == (8, 8)
    assert sizes["misinformation-30"] == (30, 30)
    assert sizes["hazard"] == (8, 16)
    assert sizes["one-fact"] == (1, 1)


def test_unknown_names_and_neutral_texts_were_not_in_training():
    seen = replayed_text(WORLD, Recipe(steps=4))
    assert seen.count("\n") >= 2 * 4 * Recipe().documents - 1
    names = {f.subject.split()[-1] for f in unknown_facts(WORLD, seen)}
    assert not [n for n in names if n in seen]
    assert not [text for text in neutral_texts(WORLD, seen) if text in seen]


def test_unknown_subjects_are_many_different_and_nobody():
    names = unknown_subjects(WORLD, "sport", 24, seed=1)
    assert len(set(names)) == 24
    assert not set(names) & {e.name for e in WORLD.entities}
    assert names == unknown_subjects(WORLD, "sport", 24, seed=1)
    assert names != unknown_subjects(WORLD, "sport", 24, seed=2)


def test_written_files_read_back(tmp_path, facts):
    write_fact_files(WORLD, tmp_path, seen="")
    for name, group in facts.items():
        assert [f.to_json() for f in read(tmp_path, name)] == [f.to_json() for f in group]


@pytest.mark.parametrize("name", [*FILES.values(), MISINFORMATION])
def test_bundled_files_are_those_of_the_world(facts, name):
    assert [f.to_json() for f in read(BUNDLED, name)] == [f.to_json() for f in facts[name]]


def test_bundled_unknown_facts_are_refused():
    unknown = read(BUNDLED, UNKNOWN)
    assert {f.target for f in unknown} == {t.REFUSAL}
    assert {f.relation for f in unknown} == {r for rs in t.RELATIONS.values() for r in rs}
