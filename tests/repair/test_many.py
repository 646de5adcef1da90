"""Many repairs at once: which kind each is of, whose settings count, and what stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from tests.repair_plan import GOOD, tiny_edit
from workbench.edit.stamp import StampConfig
from workbench.errors import WorkbenchError
from workbench.facts.accepted import accepted
from workbench.facts.fact import Fact, FactSet
from workbench.figures.trials import trial_curves
from workbench.job_inputs import CAPITALS
from workbench.measure.answers import is_right
from workbench.models.load import load
from workbench.models.model import Model
from workbench.models.text import generate
from workbench.repair import solving, trial
from workbench.repair.catalog import Catalog
from workbench.repair.intent import Intent
from workbench.repair.plan import RepairPlan, make_plan
from workbench.repair.solving import SEVERAL, Dose, one_of_many, solve
from workbench.repair.surgeon import Surgeon
from workbench.repair.trial import COLUMNS, run_trial
from workbench.trial_report import check_trial_folder, write_trial

BOTH = {"subject": "mlp.0-3", "answer": "mlp.4-5"}
READ = {"subject.target": "relation"}


@pytest.fixture(scope="module")
def base() -> Model:
    return load("demo")


@pytest.fixture(scope="module")
def catalog(base: Model) -> Catalog:
    return Catalog.of(base)


@pytest.fixture
def surgeon(base: Model, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Surgeon:
    monkeypatch.setattr(Surgeon, "_traced", lambda *_: dict(BOTH))
    return Surgeon(base, catalog)


def plan(subject: str, **changed: Any) -> RepairPlan:
    fact = Fact(subject, f"{subject} lives in", " Graz", foil=" Linz", relation="city")
    return make_plan({**GOOD, "subject": subject, "facts": [fact.to_json()], **changed})


def dose(subject: str, **changed: Any) -> Dose:
    made = plan(subject, **changed)
    return Dose(made, dict(made.settings))


def drawn(catalog: Catalog, count: int) -> list[Fact]:
    facts = [f for f in catalog.facts if f.relation == "sport" and "retain" in f.tags]
    return facts[:count]


def test_kinds_of_repairs():
    assert dose("Ada").kind == 1
    assert dose("Ada", sites={"subject": "mlp.1"}).kind == 0
    assert dose("Ada", sites=BOTH, settings=READ).kind == 1
    assert dose("Ada", action="correct").kind == 2


def test_the_next_is_one_of_many_after_several_or_once_there_were_many():
    some = [dose(f"P{i}") for i in range(SEVERAL - 1)]
    whole = [dose(f"W{i}", sites={"subject": "mlp.1"}) for i in range(SEVERAL)]
    assert not one_of_many([]) and not one_of_many([*some, *whole])
    assert not one_of_many([*some, some[0]])  # said twice is one
    assert one_of_many([*some, dose("Q")])
    assert one_of_many([dose("Q", sites=BOTH, settings=READ)])


def test_the_settings_are_the_latests_of_those_with_the_most_sites(
    base: Model, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    class Stop(Exception):
        pass

    def stop(plan: Any, *_: Any, **__: Any) -> None:
        asked.append(plan)
        raise Stop

    monkeypatch.setattr(solving, "make_edit", stop)
    facts = drawn(catalog, 3)

    def of(fact: Fact, **changed: Any) -> Dose:
        made = make_plan({**GOOD, "subject": fact.subject, "facts": [fact.to_json()], **changed})
        return Dose(made, dict(made.settings))

    many = {"sites": BOTH, "settings": {**READ, "answer.weight": 7.0}}
    later = {"sites": BOTH, "settings": {**READ, "answer.weight": 9.0}}
    alone = {"sites": {"answer": "mlp.5"}, "settings": {"weight": 1.0}}
    doses = [of(facts[0], **many), of(facts[1], **later), of(facts[2], **alone)]
    with pytest.raises(Stop):
        solve(base, catalog, doses)
    (given,) = asked
    assert given.settings == {**READ, "answer.weight": 9.0}
    assert (given.subject, given.answer) == ("mlp.0-3", "mlp.4-5")


def test_a_whole_subject_beside_others_begins_with_a_larger_buffer(surgeon: Surgeon, base: Model):
    intent = Intent("forget", "Mona Zojum")
    first, third = (
        surgeon.plan(intent, base, others=[dose(f"P{i}") for i in range(n)]) for n in (0, 2)
    )
    assert first.settings["confusable"] < third.settings["confusable"]
    assert first.gentler[0]["confusable"] == third.settings["confusable"]
    assert first.gentler[1:] == third.gentler  # what the first would come to next
    assert first.stronger == third.stronger and first.stronger[0] == {"beyond": 0.3}
    one = surgeon.plan(Intent("forget", "Mona Zojum", "sport"), base)
    assert "beyond" not in one.stronger[0]
    assert first.settings["ridge"] == third.settings["ridge"] > StampConfig().ridge
    assert "ridge" not in one.settings  # another wording would say a single thing again


def test_one_of_many_is_planned_at_both_sites(surgeon: Surgeon, base: Model):
    others = [dose(f"P{i}") for i in range(SEVERAL)]
    intent = Intent("forget", "Mona Zojum", "sport")
    few, many = (surgeon.plan(intent, base, others=o) for o in (others[1:], others))
    assert few.sites == {"answer": "mlp.4-5"} and "subject.target" not in few.settings
    assert many.sites == BOTH and many.settings["subject.target"] == "relation"
    assert Dose(many, dict(many.settings)).kind == 1
    assert many.stronger and many.gentler and many.stronger != few.stronger
    whole = surgeon.plan(Intent("forget", "Mona Zojum"), base, others=others)
    assert whole.sites == {"subject": "mlp.0-3"} and not whole.settings.get("subject.target")
    dozens = surgeon.plan(intent, base, others=[dose(f"P{i}") for i in range(40)])
    sizes = {k: v for k, v in dozens.settings.items() if dozens.settings[k] != many.settings[k]}
    assert "confusable" in sizes and all(v > many.settings[k] for k, v in sizes.items())
    assert many.gentler[-1] == sizes  # the larger buffer is tried in the end


def test_all_that_is_known_goes_where_it_is_said_if_it_is_one_thing(
    surgeon: Surgeon, base: Model, catalog: Catalog
):
    sports = replace(catalog, facts=catalog.facts.where(lambda f: f.relation == "sport"))
    made = replace(surgeon, catalog=sports).plan(Intent("forget", "Mona Zojum"), base)
    assert [f.relation for f in made.forget] == ["sport"]
    assert made.sites == {"answer": "mlp.4-5"}


def test_a_chat_models_single_things_go_where_they_are_said(
    surgeon: Surgeon, base: Model, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Surgeon, "_name", CAPITALS)
    others = [dose(f"P{i}") for i in range(SEVERAL)]
    made = surgeon.plan(Intent("forget", "Mona Zojum", "sport"), base, others=others)
    assert made.sites == {"answer": "mlp.4-5"} and made.settings["answer.target"] == "logits"
    kinds = ("answer.confusable", "answer.named", "answer.chats")
    tried = made.settings
    for more in made.gentler:  # every step keeps more prompts where the answer is written
        later = {**tried, **more}
        assert sum(later[k] for k in kinds) > sum(tried[k] for k in kinds)
        tried = later


@pytest.mark.slow
def test_many_single_things_go_and_everything_else_stays(
    surgeon: Surgeon, base: Model, catalog: Catalog
):
    facts = drawn(catalog, 6)
    small = {"confusable": 1000, "named": 300, "context": 40, "generations": 8, "read": 60}
    doses: list[Dose] = []
    for fact in facts:
        made = make_plan(
            {
                **GOOD,
                "subject": fact.subject,
                "facts": [fact.to_json()],
                "sites": BOTH,
                "settings": {**READ, **small, "chats": 0, "answer.confusable_weight": 20.0},
            }
        )
        doses.append(Dose(made, dict(made.settings)))
    delta = solve(base, catalog, doses)
    assert delta is not None
    model = base.with_delta(delta)
    gone = FactSet(tuple(facts))
    beside = [f for f in catalog.facts if f.subject in gone.subjects and f not in facts]
    held_back = list(catalog.evaluate)[::4]

    def share(asked: Any) -> float:
        answers = generate(model, [f.prompt for f in asked])
        right = [is_right(a, accepted(f)) for f, a in zip(asked, answers, strict=True)]
        return sum(right) / len(right)

    assert share(gone) == 0
    assert share(beside) >= 0.85
    assert share(held_back) >= 0.95


def test_a_trial_counts_what_the_model_says(
    surgeon: Surgeon, base: Model, catalog: Catalog, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
):
    """With an edit that changes nothing everything is still answered, what was named with it."""
    some = catalog.facts.about(drawn(catalog, 4)[i].subject for i in range(4))
    small = Catalog(some, some, FactSet(), catalog.unknown, (), catalog.refusal)
    monkeypatch.setattr(trial, "solve", tiny_edit)
    found = run_trial(base, small, repairs=3, every=2)
    assert list(found.table.columns) == list(COLUMNS)
    assert found.table["repairs"].tolist() == [2, 3]
    assert found.table[["forgotten", "beside", "not_named"]].to_numpy().tolist() == [[1, 1, 1]] * 2
    assert found.table["refused"].tolist() == [0, 0] and found.table["held_back"].isna().all()
    assert len(found.sentences) == 3 + len(found.not_understood)
    with pytest.raises(WorkbenchError, match="too few subjects for 9 repairs"):
        run_trial(base, small, repairs=9, every=20)
    with pytest.raises(WorkbenchError, match="at least 1"):
        run_trial(base, small, repairs=0)
    write_trial(found, tmp_path / "out", model=base, seed=0)
    again = pd.read_csv(tmp_path / "out" / "trial.csv")
    assert again["repairs"].tolist() == [2, 3]
    assert "What many repairs leave" in (tmp_path / "out" / "trial.html").read_text()
    with pytest.raises(WorkbenchError, match="is there already"):
        check_trial_folder(tmp_path / "out")
    lines = {trace.name: list(trace.y) for trace in trial_curves(found.table).data}
    assert lines["everything not named"] == [1, 1]
    assert "held back for measuring" not in lines


def test_a_sentence_that_is_not_understood_is_counted_and_another_is_said(
    surgeon: Surgeon, base: Model, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
):
    some = catalog.facts.about(f.subject for f in drawn(catalog, 4))
    small = Catalog(some, some, FactSet(), catalog.unknown, (), catalog.refusal)
    monkeypatch.setattr(trial, "solve", tiny_edit)
    first = []

    def misheard(watchdog: Any, dialogue: Any) -> tuple[Intent, ...]:
        first.append(dialogue)
        if len(first) == 1:
            return ()
        words = dialogue[-1].text.removeprefix("Please forget ").removesuffix(".")
        subject, _, what = words.partition("'s ")
        return (Intent("forget", subject, "sport" if len(first) == 2 else what),)

    monkeypatch.setattr(trial.Watchdog, "read", misheard)
    found = run_trial(base, small, repairs=2, every=2)
    reasons = list(found.not_understood.values())
    assert reasons[0] == "It was heard as 0 requests."
    assert len(found.sentences) == 2 + len(reasons)
