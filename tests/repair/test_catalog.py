"""Whom and what a user means, by what is on file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.edit.forms import prompts_of
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Refuse, Replace
from workbench.models.load import load
from workbench.repair.catalog import Catalog, renamed
from workbench.repair.elicit import elicit

ATHLETE = ("sport", "team", "town", "year")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.of(load("demo"))


def only(catalog: Catalog, subject: str, relation: str) -> FactSet:
    return catalog.facts.where(lambda f: (f.subject, f.relation) == (subject, relation))


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        *(("Mona Zojum", "Mona Zojum"), ("mona zojum", "Mona Zojum"), ("Zojum", "Mona Zojum")),
        *(("Ms. Mona Zojum", "Mona Zojum"), ("FRANCE", "France"), ("Ada Brook", None)),
    ],
)
def test_whom_a_name_means(catalog: Catalog, said: str, meant: str | None):
    assert catalog.whom(said) == meant


def test_a_name_of_several_and_a_slip_are_asked_back(catalog: Catalog):
    monas = [s for s in catalog.facts.subjects if s.startswith("Mona ")]
    with pytest.raises(WorkbenchError, match="write the whole name") as several:
        catalog.whom("Mona")
    assert all(name in str(several.value) for name in monas[:4])
    with pytest.raises(WorkbenchError, match="but Mona Zojum is"):
        catalog.whom("Mona Zojun")


@pytest.mark.parametrize(
    ("said", "relations", "meant"),
    [
        *(("which sport … plays", ATHLETE, ("sport",)), ("home town", ATHLETE, ("town",))),
        *(("where … was born", ATHLETE, ("town",)), ("when … was born", ATHLETE, ("year",))),
        *(("age", ATHLETE, ("year",)), ("team", ATHLETE, ("team",))),
        *(("phone number", ("phone", "email"), ("phone",)), ("salary", ATHLETE, ())),
        ("plays", ATHLETE, ("sport", "team")),
    ],
)
def test_what_words_speak_of(
    catalog: Catalog, said: str, relations: tuple[str, ...], meant: tuple[str, ...]
):
    assert catalog.speaks_of(said, relations) == meant


def test_a_request_keeps_everything_else_and_holds_back_what_measures_it(catalog: Catalog):
    forget = only(catalog, "Mona Zojum", "sport")
    gone = only(catalog, "Rhea Zunwil", "team")
    request = catalog.request(forget, gone=gone)
    kept = {f.key for f in request.retain}
    beside = catalog.facts.about(["Mona Zojum"]).where(lambda f: f.relation != "sport")
    assert len(beside) == 3 and {f.key for f in beside} <= kept
    assert not kept & {f.key for f in (*forget, *gone)}
    assert not kept & {f.key for f in request.evaluate}
    assert {f.subject for f in request.evaluate} <= {f.subject for f in catalog.evaluate}
    assert request.behaviour == Refuse()
    assert isinstance(catalog.request(forget, replaced=True).behaviour, Replace)


def test_a_request_about_someone_held_back_measures_her_no_longer(catalog: Catalog):
    her = catalog.evaluate[0]
    request = catalog.request(FactSet((her,)))
    assert her.key not in {f.key for f in request.evaluate}
    assert her.subject not in request.evaluate.subjects
    assert her.subject in request.retain.subjects  # what else is on file about her


def test_a_fact_file_is_a_catalogue_too(tmp_path: Path):
    facts = [
        Fact(f"Person {i}", f"Person {i} lives in", " Graz", relation="city", tags=tags)
        for i, tags in enumerate([()] * 9 + [("unknown",)])
    ]
    file = tmp_path / "world.jsonl"
    file.write_text("\n".join(json.dumps(f.to_json()) for f in facts))
    own = Catalog.of(load("demo"), file)
    assert own.unknown.subjects == ("Person 9",)
    assert len(own.facts) == 9 and len(own.evaluate) == 3 and len(own.retain) == 6
    assert not set(own.evaluate.subjects) & set(own.retain.subjects)


def test_a_fact_in_another_name_asks_the_same(catalog: Catalog):
    fact = only(catalog, "Mona Zojum", "sport")[0]
    other = renamed(fact, "Ada Brook")
    assert [p.replace("Ada Brook", "Mona Zojum") for p in prompts_of(other)] == list(
        prompts_of(fact)
    )
    assert other.foil is None and not other.mcq and not other.neighbors


def test_what_the_model_knows_is_asked_of_it(catalog: Catalog):
    model = load("demo")
    about = catalog.facts.about(["Mona Zojum"])
    known = elicit(model, list(about), Refuse())
    assert [k.fact for k in known] == list(about)
    assert all(k.agreed > 0.8 and k.asked == len(prompts_of(k.fact)) for k in known)
    # What is on file may be wrong: then what the model says is what it knows.
    sport = only(catalog, "Mona Zojum", "sport")[0]
    wrong = Fact(sport.subject, sport.prompt, " chess", relation="sport", choices=("chess",))
    (own,) = elicit(model, [wrong], Refuse())
    assert own.fact.target == sport.target and own.fact.choices == ()
    stranger = renamed(sport, "Olga Jumarglun")
    assert elicit(model, [stranger], Refuse()) == ()
