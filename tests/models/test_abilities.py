"""What a model can do is what then works, and the reason is a sentence where it does not."""

from __future__ import annotations

import pytest

from tests.conftest import make_model, make_tokenizer
from workbench.errors import WorkbenchError
from workbench.models import model as model_module
from workbench.models.abilities import Ability, abilities
from workbench.models.components import Component
from workbench.models.load import load
from workbench.models.model import Model

CHAT = "{% for m in messages %}U: {{ m['content'] }}\n{% endfor %}A:"
TRACE = "Trace and patch through TransformerLens hooks"
ASK = ("Ask in chat form", "Find the capitals it knows and forget some")


def by_name(model: Model) -> dict[str, Ability]:
    found = abilities(model)
    out = {a.name: a for a in found}
    assert len(out) == len(found)
    assert all(a.available == (a.reason == "") for a in found)
    return out


def test_every_family_can_be_traced_and_edited(family_model: Model) -> None:
    found = by_name(family_model)
    assert {name for name, a in found.items() if not a.available} == set(ASK)
    for name in ASK:
        assert found[name].reason == "Its tokenizer has no chat template."
    # What is promised works.
    for component in (Component(0, "mlp"), Component(0, "head", 0)):
        assert family_model.structure.writer(component).parameter in family_model.parameters


def test_a_chat_model_can_be_asked(tiny: Model) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT
    assert all(a.available for a in abilities(Model(tiny.hf, tokenizer, "chat")))


@pytest.mark.parametrize("name", ["demo", "demo-vision", "demo-vision-oracle"])
def test_a_bundled_model_is_asked_about_its_own_world(name: str) -> None:
    assert by_name(load(name))[ASK[1]].reason == (
        "It is asked about its own world; choose one of its requests."
    )


def test_without_a_bridge_the_reason_is_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise WorkbenchError("TransformerLens has no bridge for Tiny; use another.")

    monkeypatch.setattr(model_module, "boot_bridge", none)
    found = by_name(make_model("gpt2"))
    assert not any(a.available for a in found.values())
    for name in (TRACE, "Edit MLPs", "Edit attention and heads"):
        assert found[name].reason == "TransformerLens has no bridge for Tiny; use another."
