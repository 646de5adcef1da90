"""A chat model that plans: what it proposes is checked like any plan, and is its to say."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import make_model
from tests.repair_plan import GOOD
from workbench.errors import WorkbenchError
from workbench.models.model import Model
from workbench.repair import chat_model
from workbench.repair.chat_surgeon import ChatSurgeon, proposed
from workbench.repair.intent import Turn
from workbench.repair.plan import RepairPlan, make_plan
from workbench.repair.service import Service

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<answer>"


@pytest.fixture
def draft() -> RepairPlan:
    return make_plan({**GOOD, "settings": {"weight": 30.0}, "stronger": [{"weight": 100.0}]})


@pytest.fixture
def chatty() -> Model:
    model = make_model("qwen2")
    model.tokenizer.chat_template = TEMPLATE
    return model


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Let the chat model say these, one after the other; return the prompts that it is shown."""

    def script(*answers: str) -> list[str]:
        shown: list[str] = []
        left = list(answers)

        def generate(model: Model, prompts: list[str], **_: Any) -> list[str]:
            shown.extend(prompts)
            return [left.pop(0).removeprefix("{")]

        monkeypatch.setattr(chat_model, "generate", generate)
        monkeypatch.setattr(chat_model, "encode", lambda *_, **__: [])
        return shown

    return script


def test_a_proposal_takes_the_place_of_what_it_names(draft: RepairPlan, tiny: Model):
    answer = {"sites": {"answer": "mlp.0"}, "settings": {"weight": 50.0, "answer.margin": 2}}
    plan = proposed(f"Here: {json.dumps(answer)} That is all. {{}}", draft, tiny)
    assert plan.sites == {"answer": "mlp.0"}
    assert plan.settings == {"weight": 50.0, "answer.margin": 2}
    rest = {"sites", "settings"}
    assert plan.model_dump(exclude=rest) == draft.model_dump(exclude=rest)
    assert proposed("{}", draft, tiny) == draft


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        ("I cannot do that.", "no JSON record"),
        ('{"sites": ', "no JSON record"),
        ("{" * 100_000, "no JSON record"),
        ('{"facts": []}', "leave 'facts' out"),
        ('{"limits": {"kept": 0.1}}', "leave 'limits' out"),
        ('{"checks": ["forgotten"]}', "leave 'checks' out"),
        ('{"method": "ga"}', "leave 'method' out"),
        ('{"subject": "Carl"}', "leave 'subject' out"),
        ('{"sites": {}}', "sites"),
        ('{"sites": {"head": "mlp.1"}}', "sites"),
        ('{"sites": {"answer": "mlp.99"}}', "mlp.99"),
        ('{"sites": {"answer": "rm -rf"}}', "rm"),
        ('{"settings": {"wieght": 3}}', "wieght"),
        ('{"settings": {"weight": -3}}', "weight must be positive"),
        ('{"settings": {"weight": "a lot"}}', "weight"),
        ('{"stronger": {"weight": 3}}', "stronger"),
    ],
    ids=lambda text: text[:40],
)
def test_whatever_else_is_proposed_is_told_in_a_sentence(
    answer: str, match: str, draft: RepairPlan, tiny: Model
):
    with pytest.raises(WorkbenchError, match=match):
        proposed(answer, draft, tiny)


def test_a_fault_is_sent_back_once(
    chatty: Model, tiny: Model, draft: RepairPlan, says: Callable[..., list[str]]
):
    good = '{"settings": {"weight": 70}}'
    shown = says('{"wight": 1}', good)
    found = ChatSurgeon(chatty).propose(draft, tiny)
    assert found.tries == 2 and found.plan.settings == {"weight": 70}
    first, second = shown
    assert '"stronger": [{"weight": 100.0}]' in first and "confusable" in first
    assert first.endswith("<answer>{")
    assert '<assistant>{"wight": 1}<user>' in second and "leave 'wight' out" in second
    says(good)
    assert ChatSurgeon(chatty).propose(draft, tiny).tries == 1


def test_two_faults_are_refused(
    chatty: Model, tiny: Model, draft: RepairPlan, says: Callable[..., list[str]]
):
    says("Sure.", "Sure!")
    with pytest.raises(WorkbenchError, match=r"no plan that could be carried out.*plan without it"):
        ChatSurgeon(chatty).propose(draft, tiny)


def test_who_cannot_plan_is_told(chatty: Model, tiny: Model, draft: RepairPlan):
    with pytest.raises(WorkbenchError, match=r"cannot plan for another.*the bundled surgeon"):
        ChatSurgeon(make_model("qwen2"))
    with pytest.raises(WorkbenchError, match="tokens"):
        ChatSurgeon(chatty).propose(draft, tiny)  # its context is 128 tokens


def test_a_service_plans_through_a_chat_model(
    chatty: Model, says: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
):
    from workbench.models.load import load

    monkeypatch.setattr(
        "workbench.repair.surgeon.Surgeon._traced", lambda *_: {"answer": "mlp.4-5"}
    )
    service = Service.open(load("demo"), folder=tmp_path, plans=chatty)
    request = [Turn("user", "Please forget which sport Mona Zojum plays.")]
    says('{"sites": {"answer": "mlp.5"}}')
    (proposal,) = service.hear(request)
    assert proposal.plan.sites == {"answer": "mlp.5"}
    assert proposal.plan.what == "Forget about Mona Zojum: sport"
    says("No.", "No.")
    with pytest.raises(WorkbenchError, match="no plan that could be carried out"):
        service.hear(request)
    assert "refused" in service.patient.ledger.logged()[-1].outcome
