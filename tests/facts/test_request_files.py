from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Refuse, Replace
from workbench.facts.readers import read_facts, write_facts
from workbench.facts.request_files import load_request, request_from_files, request_names
from workbench.models.paths import data_dir

DEMO = data_dir() / "demo" / "facts"


def fact(subject: str, *tags: str) -> Fact:
    return Fact(subject, f"{subject} plays", " golf", foil=" chess", tags=tags)


FACTS = FactSet((fact("Ada", "x"), fact("Ben", "x", "y"), fact("Cleo", "y"), fact("Dora")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_facts(tmp_path / "f.jsonl", FACTS)
    return tmp_path


def save(folder: Path, value: object) -> Path:
    path = folder / "requests.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


ADA = [{"file": "f.jsonl", "subjects": ["Ada"]}]


def test_a_selection_takes_listed_subjects_or_all_the_tags(folder: Path) -> None:
    tagged = {"file": "f.jsonl", "tags": ["x", "y"]}
    both = {"file": "f.jsonl", "subjects": ["Dora"], "tags": ["y"]}
    save(folder, {"r": {"forget": ADA, "retain": [tagged], "evaluate": [both]}})
    request = load_request("r", facts_dir=folder)
    assert request.forget.subjects == ("Ada",)
    assert request.retain.subjects == ("Ben",)
    assert request.evaluate.subjects == ("Ben", "Cleo", "Dora")
    assert (request.behaviour, request.name) == (Refuse(), "r")


def test_a_selection_takes_only_the_listed_relations(folder: Path) -> None:
    town = Fact("Ada", "Ada lives in", " Oslo", relation="town")
    sport = Fact("Ada", "Ada plays", " golf", relation="sport")
    write_facts(
        folder / "g.jsonl", FactSet((town, sport, Fact("Ben", "Ben is", " 9", tags=("x",))))
    )
    towns = [{"file": "g.jsonl", "subjects": ["Ada"], "relations": ["town"]}]
    rest = [{"file": "g.jsonl", "relations": ["sport", ""]}]
    request = load_request(save(folder, {"forget": towns, "retain": rest}))
    assert [f.prompt for f in request.forget] == ["Ada lives in"]
    assert [f.prompt for f in request.retain] == ["Ada plays", "Ben is"]


def test_a_selection_without_a_condition_takes_the_whole_file(folder: Path) -> None:
    path = save(folder, {"forget": [{"file": "f.jsonl"}], "behaviour": {"replace": True}})
    request = load_request(path)
    assert request.forget == FACTS and request.behaviour == Replace()


def test_a_request_is_found_by_name_in_a_file(folder: Path) -> None:
    path = save(folder, {"a": {"forget": ADA, "behaviour": {"refuse": " No."}}, "b": {}})
    assert load_request(f"{path}#a").behaviour == Refuse(" No.")
    assert request_names(folder) == ("a", "b")
    with pytest.raises(WorkbenchError, match="known: a, b"):
        load_request(path)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"r": {"forget": ADA, "retain": ADA}}, "both forget and retain"),
        ({"r": {"forget": []}}, "forget set is empty"),
        ({"r": {"forget": [{"file": "f.jsonl", "subjects": ["Adaa"]}]}}, "did you mean 'Ada'"),
        ({"r": {"forget": [{"file": "f.jsonl", "tag": ["x"]}]}}, "did you mean 'tags'"),
        ({"r": {"forget": [{"file": "f.jsonl", "tags": "x"}]}}, "list of texts"),
        ({"r": {"forget": [{"file": "f.jsonl", "relations": "x"}]}}, "list of texts"),
        ({"r": {"forget": [{"file": "f.jsonl", "relations": ["town"]}]}}, "relation in f.jsonl"),
        ({"r": {"forget": [{"subjects": ["Ada"]}]}}, "must list selections"),
        ({"r": {"forget": "f.jsonl"}}, "must list selections"),
        ({"r": {"forget": [{"file": "g.jsonl"}]}}, "Cannot read"),
        ({"r": {"forgets": ADA}}, "did you mean 'forget'"),
        ({"r": {"forget": ADA, "behaviour": {"refuse": " "}}}, "behaviour"),
        ({"r": {"forget": ADA, "behaviour": {"replace": False}}}, "behaviour"),
        ({"r": {"forget": ADA, "behaviour": "refuse"}}, "behaviour"),
        ({"q": {"forget": ADA}}, "did you mean 'q'|known: q"),
        ([1], "holds no request"),
        ("{", "not valid JSON"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, value: object, sentence: str) -> None:
    save(folder, value)
    with pytest.raises(WorkbenchError, match=sentence):
        load_request("r", facts_dir=folder)


def test_a_request_from_two_fact_files(folder: Path) -> None:
    write_facts(folder / "forget.jsonl", FACTS.about(["Ada"]))
    write_facts(folder / "retain.jsonl", FACTS.about(["Ben", "Cleo"]))
    request = request_from_files(folder / "forget.jsonl", folder / "retain.jsonl", Replace())
    assert (request.forget.subjects, request.retain.subjects) == (("Ada",), ("Ben", "Cleo"))
    assert request.behaviour == Replace() and request.name == "forget"
    with pytest.raises(WorkbenchError, match="both forget and retain"):
        request_from_files(folder / "f.jsonl", folder / "retain.jsonl")


@pytest.mark.skipif(not DEMO.is_dir(), reason="the demo facts are not built")
def test_every_bundled_request_loads_and_no_subject_has_two_roles() -> None:
    for name in request_names():
        request = load_request(name)
        forget = set(request.forget.subjects)
        faces = ("faces-8", "faces-8-names")
        rest_stays = name in ("one-fact", *faces) or isinstance(request.behaviour, Replace)
        if not rest_stays:
            assert not forget & {*request.retain.subjects, *request.evaluate.subjects}
        both = set(request.retain.subjects) & set(request.evaluate.subjects)
        assert both == (forget if name == "faces-8-names" else set())  # half of their names is told
        assert not {f.key for f in request.retain} & {f.key for f in request.evaluate}
        assert len(request.unknown) >= 16


@pytest.mark.skipif(not DEMO.is_dir(), reason="the demo facts are not built")
def test_bundled_fact_files_are_read_as_they_are_written() -> None:
    path = DEMO / "athletes.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert [f.to_json() for f in read_facts(path)] == lines
