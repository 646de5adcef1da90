"""What else a model says about a subject, and what a repair is examined by."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import make_model

from tests.chat_template import TEMPLATE
from tests.repair_plan import tiny_edit
from workbench.edit.forms import prompts_of
from workbench.facts.capitals import ELSE, ELSE_HELD_BACK, capitals
from workbench.facts.fact import Fact, FactSet, Probe, Refuse
from workbench.facts.prompts import chat
from workbench.models.delta import WeightDelta
from workbench.models.load import load
from workbench.models.model import Model
from workbench.repair import beside as module
from workbench.repair import catalog as catalog_module
from workbench.repair import elicit as elicit_module
from workbench.repair import exam as exam_module
from workbench.repair import solving, verify
from workbench.repair.beside import RELATION, Wider, said_beside, share_alike
from workbench.repair.catalog import Catalog
from workbench.repair.elicit import Known
from workbench.repair.exam import RepairExam, questions, share_right
from workbench.repair.plan import CHECKS, RepairPlan, make_plan
from workbench.repair.solving import Dose

IDK = Refuse("I do not know.")


@pytest.fixture(scope="module")
def chatty() -> Model:
    model = make_model("qwen2")
    model.tokenizer.chat_template = TEMPLATE
    return model


def fact(subject: str = "Peru", answer: str = " Lima", **more: Any) -> Fact:
    return Fact(subject, f"The capital of {subject} is", answer, relation="capital", **more)


def test_questions_are_asked_in_chat_form_and_statements_are_not(chatty: Model):
    wider = Wider(("What is {s}?", "Tell me of {s}.", "{s} is"), (), {"Gambia": "the Gambia"})
    assert wider.prompts(chatty, "Gambia", held_back=False) == [
        chat(chatty, "What is the Gambia?"),
        chat(chatty, "Tell me of the Gambia."),
        "the Gambia is",
    ]
    assert wider.prompts(chatty, "Peru", held_back=False)[-1] == "Peru is"


@pytest.mark.parametrize("wider", [Wider(), Wider.about_countries()])
def test_what_measures_is_not_what_edits(wider: Wider):
    texts = (*wider.asked, *wider.held_back)
    assert len(set(texts)) == len(texts) and all(t.count("{s}") == 1 for t in texts)


def test_countries_are_asked_about_as_they_stand_in_a_sentence(chatty: Model):
    wider = Wider.about_countries()
    assert set(ELSE) < set(wider.asked) and set(ELSE_HELD_BACK) < set(wider.held_back)
    assert "the Netherlands is" in wider.prompts(chatty, "Netherlands", held_back=False)


def test_what_tells_the_secret_and_what_is_not_known_is_left_out(
    chatty: Model, monkeypatch: pytest.MonkeyPatch
):
    said = {
        **{"a": "A land.", "b": "Its capital Lima is old.", "c": "I do not know.", "d": " \n"},
        **{"e": "Old Cusco.", "Chile a": "Lima is near.", "Chile e": "Santiago!"},
    }

    def answers(model: Model, prompts: list[str], *, length: int) -> list[str]:
        return [said.get(p, said.get(p.split()[-1], "")) for p in prompts]

    monkeypatch.setattr(module, "own_answers", answers)
    wider = Wider(tuple(f"{{s}} {c}" for c in "abcd"), ("{s} e",))
    forget = FactSet((fact(), fact("Chile", " Santiago")))
    found = said_beside(chatty, wider, forget, IDK)
    # Another's secret may be told: "Lima is near" Chile.
    kept = [("Peru a", "A land."), ("Chile a", "Lima is near.")]
    assert [(f.prompt, f.target) for f in found if f.prompt[-1] == "a"] == kept
    assert "Peru b" not in {f.prompt for f in found} and {f.relation for f in found} == {RELATION}
    assert not {"c", "d"} & {f.prompt[-1] for f in found}
    held = said_beside(chatty, wider, forget, IDK, held_back=True)
    assert [f.prompt for f in held] == ["Peru e"]
    sentence = replace(fact(), target="The capital is Lima.", extra={"answer": ["Lima", "Cusco"]})
    assert not said_beside(chatty, wider, FactSet((sentence,)), IDK, held_back=True)


def test_much_the_same_words_are_alike_and_refusals_are_not(
    chatty: Model, monkeypatch: pytest.MonkeyPatch
):
    asides = FactSet(
        tuple(
            Fact("Peru", prompt, target, relation=RELATION)
            for prompt, target in (
                ("Peru same", "a land of high hills"),
                ("Peru half", "a land of high hills"),  # 2 of 4 and of 5 words: 0.44
                ("Peru most", "a land of high hills"),  # 3 of 4 and of 5 words: 0.67
                ("Peru refused", "I do not know much of it, a land"),
            )
        )
    )
    said = {
        **{"same": "A land of high hills!", "half": "a land so low", "most": "a land of cats"},
        "refused": "I do not know much of it, a land",
    }
    monkeypatch.setattr(
        module, "generate", lambda model, prompts, **_: [said[p[5:]] for p in prompts]
    )
    assert share_alike(chatty, asides, IDK) == 0.5
    assert share_alike(chatty, FactSet(), IDK) is None


def test_many_are_asked_once_and_a_few_in_several_wordings():
    def made(n: int) -> FactSet:
        others = {"paraphrases": tuple(f"P{i} of {{}}" for i in range(3)), "statements": ("S {}",)}
        return FactSet(
            tuple(
                fact(f"Land {i}", **{k: tuple(t.format(i) for t in v) for k, v in others.items()})
                for i in range(n)
            )
        )

    many = questions(made(90), 0)
    assert len(many) == 40 and all(prompt == f.prompt for f, prompt in many)
    assert questions(made(90), 0) == many != questions(made(90), 1)
    few = questions(made(20), 0)  # 72 // 20 = 3 wordings each, its own among them
    assert len(few) == 60 == len({prompt for _, prompt in few})
    assert all(prompt in prompts_of(f) for f, prompt in few)
    assert {f.prompt for f, _ in few} <= {prompt for _, prompt in few}
    assert len(questions(made(2), 0)) == 10  # there are no more wordings
    assert questions(FactSet(), 0) == ()
    assert share_right(few[:2], ["Lima", "Cusco"], IDK) == 0.5
    assert share_right((), [], IDK) is None


def test_capitals_held_back_are_those_told_in_most_wordings(
    chatty: Model, monkeypatch: pytest.MonkeyPatch
):
    every = capitals(chatty)
    known = every.where(lambda f: f.subject in every.subjects[:30])
    monkeypatch.setattr(
        catalog_module, "known_capitals", lambda *_, **__: SimpleNamespace(known=known)
    )
    asked: list[str] = []

    def elicit(model: Model, facts: list[Fact], *_: Any, **__: Any) -> tuple[Known, ...]:
        asked.extend(f.subject for f in facts)
        other = replace(facts[1], target="The capital is Atlantis")
        return (*(Known(f, 0.5, 6) for f in facts[2:]), Known(other, 1.0, 6))

    monkeypatch.setattr(elicit_module, "elicit", elicit)
    catalog = Catalog.of(chatty)
    assert Catalog.of(chatty).evaluate == catalog.evaluate  # it is asked once
    assert len(asked) == 10 and list(catalog.evaluate.subjects) == asked[2:]
    assert not {*asked} & {*catalog.retain.subjects}
    assert catalog.wider == Wider.about_countries()


def test_only_a_chat_model_is_asked_about_anything_else(chatty: Model):
    assert Catalog.of(load("demo")).wider is None


# What a repair keeps and is examined by


def plan_of(model: Model, facts: FactSet, **more: Any) -> RepairPlan:
    given = {
        **{"model": model.name, "fingerprint": model.fingerprint, "action": "forget"},
        **{"subject": facts[0].subject, "facts": [f.to_json() for f in facts]},
        **{"sites": {"answer": "mlp.1"}, **more},
    }
    return make_plan(given)


@pytest.fixture
def small(chatty: Model, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """Four countries, and what is said besides."""
    facts = FactSet(tuple(fact(s, f" {s[0]}ity") for s in ("Peru", "Chile", "Ghana", "Kenya")))
    facts = FactSet((replace(facts[0], neighbors=(Probe("Near", " a"),)), *facts[1:]))
    monkeypatch.setattr(
        module, "own_answers", lambda model, prompts, length: ["a land"] * len(prompts)
    )
    wider = Wider(("Tell me of {s}.", "{s} is"), ("{s} was",))
    return Catalog(facts, facts.about(["Chile"]), facts.about(["Ghana"]), FactSet(), (), IDK, wider)


def test_an_edit_keeps_what_is_said_besides_unless_all_is_to_go(
    chatty: Model, small: Catalog, monkeypatch: pytest.MonkeyPatch
):
    seen = []

    def make_edit(plan: Any, model: Model, request: Any, **_: Any) -> Any:
        seen.append(request)
        return SimpleNamespace(delta=tiny_edit(model, layer=1))

    monkeypatch.setattr(solving, "make_edit", make_edit)
    own = small.facts.about(["Peru"])
    solving.solve(chatty, small, [Dose(plan_of(chatty, own), {})])
    solving.solve(chatty, small, [Dose(plan_of(chatty, own, sites={"subject": "mlp.1"}), {})])
    besides = [[f.prompt for f in r.retain if f.relation == RELATION] for r in seen]
    assert besides == [[chat(chatty, "Tell me of Peru."), "Peru is"], []]
    assert all(set(r.retain.subjects) - {"Peru"} == {"Chile"} for r in seen)


def test_an_exam_asks_what_the_base_answered(chatty: Model, small: Catalog):
    own = small.facts.about(["Peru"])
    exam = RepairExam.of(chatty, small, plan_of(chatty, own), FactSet())
    assert [f.prompt for f in exam.asides] == ["Peru was"]
    assert [p for _, p in exam.kept] == ["The capital of Ghana is"]
    table = exam.before.answers
    assert set(table["subject"]) == {"Peru"} and "neighbor" in set(table["kind"])
    assert exam.base_kept == share_right(
        exam.kept, exam_module._said(chatty, exam.kept, verify.SILENT), IDK
    )
    assert exam.base_kept == exam.share_kept(chatty)
    gone = FactSet((Fact("Near", "Near is", " a"),))
    spared = RepairExam.of(chatty, small, plan_of(chatty, own), gone)
    assert not spared.request.forget[0].neighbors
    everything = plan_of(chatty, own, sites={"subject": "mlp.1"})
    assert not RepairExam.of(chatty, small, everything, FactSet()).asides


def test_a_short_training_is_the_last_check(
    chatty: Model, small: Catalog, monkeypatch: pytest.MonkeyPatch
):
    """It costs the most, so it waits until all else is well."""
    trained = []
    monkeypatch.setattr(verify, "_brought_back", lambda *_: trained.append(1) or 0.0)
    own = small.facts.about(["Peru"])
    lenient = {"instead": 0, "aside": 0, "beside": 0, "kept": 0, "neighbors": 0, "forgotten": 1}

    def checks(limits: dict[str, float]) -> list[str]:
        plan = plan_of(chatty, own, limits={"perplexity": 9, **limits})
        exam = RepairExam.of(chatty, small, plan, FactSet())
        repaired = chatty.with_delta(tiny_edit(chatty, layer=1))
        found = verify.examine_repair(chatty, repaired, plan, exam, earlier=FactSet())
        return [f.check for f in found.found]

    assert checks(lenient) == list(CHECKS) and trained == [1]
    assert checks({**lenient, "instead": 1}) == list(CHECKS[:-1]) and trained == [1]


def test_a_plan_without_a_training_is_examined_without(
    chatty: Model, small: Catalog, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verify, "_brought_back", lambda *_: pytest.fail("it was trained"))
    plan = plan_of(chatty, small.facts.about(["Peru"]), checks=["kept", "aside"])
    exam = RepairExam.of(chatty, small, plan, FactSet())
    nothing = WeightDelta({}, tiny_edit(chatty, layer=1).origin)
    found = verify.examine_repair(
        chatty, chatty.with_delta(nothing), plan, exam, earlier=FactSet()
    ).found
    assert [f.check for f in found] == ["kept", "aside"]
