"""From a sentence to a repaired model and back, on the bundled model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.repair_plan import tiny_edit
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet
from workbench.models.delta import WeightDelta
from workbench.models.load import load
from workbench.models.model import Model
from workbench.progress import Cancelled, Progress
from workbench.repair import ledger as ledger_module
from workbench.repair import patient as patient_module
from workbench.repair.intent import Intent, Turn
from workbench.repair.ledger import Ledger
from workbench.repair.plan import Limits, RepairPlan
from workbench.repair.policy import Policy, Rule
from workbench.repair.service import Service

SPORT = "Which sport does Mona Zojum play?"
TEAM = "Which team does Mona Zojum play for?"
CAPITAL = "What is the capital of Afghanistan?"


@pytest.fixture(scope="module")
def base() -> Model:
    return load("demo")


@pytest.fixture(scope="module")
def opened(base: Model, tmp_path_factory: pytest.TempPathFactory) -> Service:
    return Service.open(base, folder=tmp_path_factory.mktemp("opened"))


@pytest.fixture
def service(opened: Service, tmp_path: Path) -> Service:
    """The same patient with an empty ledger."""
    ledger = Ledger.of(opened.patient.base, tmp_path / "ledger")
    return replace(opened, patient=replace(opened.patient, ledger=ledger))


@pytest.fixture
def quick(service: Service) -> Service:
    """The same, with little on file to be asked for."""
    world = service.patient.catalog
    few = {
        "retain": FactSet(world.retain.facts[:40]),
        "evaluate": FactSet(world.evaluate.facts[:4]),
    }
    small = replace(world, **few, neutral=world.neutral[:4])
    return replace(service, patient=replace(service.patient, catalog=small))


def said(text: str) -> list[Turn]:
    return [Turn("user", text)]


def plan_for(service: Service, *intent: str) -> RepairPlan:
    return service.surgeon.plan(Intent(*intent), service.patient.model)  # type: ignore[arg-type]


def plainly(model: Model, prompt: str) -> str:
    """Generate with transformers alone."""
    ids = model.tokenizer(prompt, return_tensors="pt")
    out = model.hf.generate(**ids, max_new_tokens=12, do_sample=False)
    return str(
        model.tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    )


@pytest.mark.slow
def test_two_sentences_are_done_and_taken_back(service: Service, base: Model):
    start = {q: plainly(base, f"Q: {q}\nA:") for q in (SPORT, TEAM, CAPITAL)}
    (proposal,) = service.hear(said("Please forget which sport Mona Zojum plays."), user="anna")
    assert proposal.confirm and proposal.plan.sites == {"answer": "mlp.4-5"}
    repair, first = service.carry_out(proposal.plan, user="anna")
    assert all(found.met for found in repair.examination.found)
    assert {f.check for f in repair.examination.found} == set(proposal.plan.checks)
    (other,) = service.hear(said("The capital of Afghanistan is Kabul, not Skopje."), user="anna")
    _, second = service.carry_out(other.plan, user="anna")

    model = service.patient.model
    assert "do not know" in plainly(model, f"Q: {SPORT}\nA:")
    assert plainly(model, f"Q: {TEAM}\nA:") == start[TEAM]
    assert plainly(model, f"Q: {CAPITAL}\nA:").strip().startswith("Kabul")
    for name, tensor in base.parameters.items():  # nothing else has changed
        same = torch.equal(tensor, model.parameters[name])
        assert same == (not any(f"layers.{i}.mlp.down" in name for i in (4, 5))), name

    found, steps = service.patient.bisect(SPORT, "handball")
    assert found is not None and found.id == first.id and len(steps) >= 2
    assert service.patient.bisect(TEAM, start[TEAM].strip(" ."))[0] is None
    with pytest.raises(WorkbenchError, match="before any repair either"):
        service.patient.bisect(SPORT, "chess")
    for what in ("sport", "which sport … plays"):  # it is not taken for what else she plays for
        with pytest.raises(WorkbenchError, match=f"knows nothing about Mona Zojum that '{what}'"):
            plan_for(service, "forget", "Mona Zojum", what)

    left = service.undo(first.id, user="anna")  # the other one stays
    assert plainly(left, f"Q: {SPORT}\nA:") == start[SPORT]
    assert plainly(left, f"Q: {CAPITAL}\nA:").strip().startswith("Kabul")
    with pytest.raises(WorkbenchError, match="taken back before"):
        service.undo(first.id)
    whole = service.undo(second.id, user="anna")
    assert whole.fingerprint == base.fingerprint
    assert {q: plainly(whole, f"Q: {q}\nA:") for q in start} == start

    outcomes = [(line.user, line.outcome.split()[0]) for line in service.patient.ledger.logged()]
    assert outcomes == [("anna", word) for word in ("repaired", "repaired", "undone", "undone")]
    assert [e.id for e in service.patient.ledger.entries] == [first.id, second.id]


@pytest.mark.parametrize(
    ("intent", "words"),
    [
        (("forget", "Ada Brook"), "knows nothing about Ada Brook"),
        (("forget", "Mona"), "write the whole name"),
        (("forget", "she"), "not clear who 'she' is"),
        (("forget", "Mona Zojum", "phone number"), "it knows sport, team, town and year"),
        (("forget", "Mona Zojum", "what … plays"), "may be sport or team"),
        (("correct", "Afghanistan", "capital", "Skopje"), "says Skopje already"),
        (("correct", "Afghanistan", "capital", ""), "not said what shall be right"),
        (("forget", "🙂"), "knows nothing about 🙂"),
        (("forget", "李明"), "knows nothing about 李明"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(
    service: Service, intent: tuple[str, ...], words: str
):
    with pytest.raises(WorkbenchError) as error:
        plan_for(service, *intent)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_what_is_told_says_which_relation_is_meant(service: Service):
    plan = plan_for(service, "forget", "Mona Zojum", "that … plays handball")
    assert [f.relation for f in plan.forget] == ["sport"]
    whole = plan_for(service, "forget", "mona zojum")
    assert whole.forget.relations == ("sport", "team", "town", "year")
    assert whole.sites == {"subject": "mlp.0-3"}  # where she is looked up, not where it is said
    assert whole.keep["about the subject"] == 0


def test_refusals_are_logged_and_nothing_asked_is_nothing(service: Service):
    assert service.hear(said("Good morning!")) == ()
    assert service.patient.ledger.logged() == ()
    strict = replace(service, policy=Policy(rule=()))
    with pytest.raises(WorkbenchError, match="policy does not let anna forget sport"):
        strict.hear(said("Please forget which sport Mona Zojum plays."), user="anna")
    (line,) = service.patient.ledger.logged()
    assert line.user == "anna" and line.outcome.startswith("refused: The policy")


def test_requests_that_contradict_each_other(service: Service, monkeypatch: pytest.MonkeyPatch):
    both = (
        Intent("forget", "Afghanistan", "capital"),
        Intent("correct", "Afghanistan", "capital", "Kabul"),
    )
    monkeypatch.setattr(type(service.watchdog), "read", lambda *_: both)
    with pytest.raises(WorkbenchError, match="cannot be both forgotten and Kabul"):
        service.hear(said("x"))


def nothing_done(service: Service, base: Model) -> None:
    assert service.patient.ledger.active == service.patient.ledger.entries == ()
    assert service.patient.model.fingerprint == base.fingerprint


def test_limits_that_no_setting_meets_change_nothing(
    quick: Service, base: Model, monkeypatch: pytest.MonkeyPatch
):
    solved: list[dict[str, Any]] = []

    def solve(base: Model, catalog: Any, doses: list[Any], **_: Any) -> WeightDelta:
        solved.append(doses[-1].settings)
        return tiny_edit(base)

    monkeypatch.setattr(patient_module, "solve", solve)
    plan = plan_for(quick, "forget", "Mona Zojum", "sport")
    plan = plan.model_copy(update={"checks": ("forgotten", "instead")})
    with pytest.raises(WorkbenchError, match=r"after 4 tries forgotten 1\.00 \(at most 0\.00\)"):
        quick.carry_out(plan, user="anna")
    assert [s.get("weight") for s in solved] == [None, 100.0, 300.0, 300.0]  # each one stronger
    nothing_done(quick, base)
    (line,) = quick.patient.ledger.logged()
    assert line.outcome.startswith("not done: No setting")


def loose(plan: RepairPlan) -> RepairPlan:
    """Let anything pass, to look at what happens afterwards."""
    return plan.model_copy(
        update={"limits": Limits(forgotten=1, instead=0), "checks": ("forgotten", "instead")}
    )


def test_a_kill_before_the_last_step_leaves_model_and_ledger_whole(
    quick: Service, base: Model, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(patient_module, "solve", tiny_edit)
    plan = loose(plan_for(quick, "forget", "Mona Zojum", "sport"))
    write = ledger_module.write_json

    def dies(path: Path, value: Any) -> None:
        if path.name == "ledger.json":
            raise KeyboardInterrupt
        write(path, value)

    monkeypatch.setattr(ledger_module, "write_json", dies)
    with pytest.raises(KeyboardInterrupt):
        quick.carry_out(plan)
    nothing_done(quick, base)
    monkeypatch.setattr(ledger_module, "write_json", write)
    _, entry = quick.carry_out(plan)
    assert [e.id for e in quick.patient.ledger.active] == [entry.id]


def test_stopping_and_a_second_hand_change_nothing(
    quick: Service, base: Model, monkeypatch: pytest.MonkeyPatch
):
    plan = loose(plan_for(quick, "forget", "Mona Zojum", "sport"))
    with pytest.raises(Cancelled):
        quick.carry_out(plan, progress=Progress(cancelled=lambda: True))
    nothing_done(quick, base)
    monkeypatch.setattr(patient_module, "solve", tiny_edit)
    waiting = quick.patient.try_repair(plan)
    quick.carry_out(plan)
    with pytest.raises(WorkbenchError, match="in the meantime"):
        quick.patient.keep(waiting)
    assert len(quick.patient.ledger.entries) == len(quick.patient.ledger.active) == 1


def test_a_ledger_of_another_model_is_refused(quick: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(patient_module, "solve", tiny_edit)
    quick.carry_out(loose(plan_for(quick, "forget", "Mona Zojum", "sport")))
    with pytest.raises(WorkbenchError, match="repairs of another model"):
        Ledger.of(load("demo-oracle"), quick.patient.ledger.folder)
    plan = plan_for(quick, "forget", "Mona Zojum", "team")
    with pytest.raises(WorkbenchError, match="made for another model"):
        quick.carry_out(plan.model_copy(update={"fingerprint": "0" * 64}))


def test_a_policy_counts_what_was_done(quick: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(patient_module, "solve", tiny_edit)
    once = Policy(rule=(Rule(per_day=1),))
    strict = replace(quick, policy=once)
    strict.carry_out(loose(plan_for(quick, "forget", "Mona Zojum", "sport")), user="anna")
    with pytest.raises(WorkbenchError, match="1 repairs a day"):
        strict.carry_out(loose(plan_for(quick, "forget", "Mona Zojum", "team")), user="anna")
    strict.carry_out(loose(plan_for(quick, "forget", "Mona Zojum", "team")), user="carl")
