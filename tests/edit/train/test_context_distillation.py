"""Context distillation: the teacher's text, its divergence by hand, and a teacher without one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.conftest import make_tokenizer
from tests.edit.requests import request
from tests.edit.train.forgotten import QUICK, answers_of_demo
from workbench.edit.edit import outside
from workbench.edit.in_context import InContext
from workbench.edit.train import context_distillation as module
from workbench.edit.train.context_distillation import (
    ContextDistillationConfig,
    behind,
    context_distillation,
    teacher_text,
)
from workbench.edit.train.examples import Examples
from workbench.edit.train.lessons import lessons
from workbench.errors import WorkbenchError
from workbench.facts.fact import Replace
from workbench.models.components import ComponentSet
from workbench.models.model import Model

FAST = {"steps": 3, "lr": 1e-3, "retain_batch": 3, "kept": 4, "neutral": 2, "context": "unknown"}
MLP = ComponentSet.parse("mlp.1")


def divergence(model, text, every):
    """KL(model behind the text || model), one sequence at a time, averaged over answer tokens."""
    lead = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    total = 0.0
    for ids, start in zip(every.sequences, every.starts, strict=True):
        q = model.hf(torch.tensor([ids]), use_cache=False).logits[0, start - 1 : -1]
        p = model.hf(torch.tensor([[*lead, *ids]]), use_cache=False).logits[0, -len(q) - 1 : -1]
        p, q = p.log_softmax(-1), q.log_softmax(-1)
        total += float((p.exp() * (p - q)).sum())
    return total / every.n_tokens


@pytest.mark.parametrize("along", ["instead", "answer", "all"])
def test_the_first_losses_by_hand(tiny, along):
    config = ContextDistillationConfig(**FAST, batch=99, along=along)
    found = context_distillation(tiny, request(), MLP, config)
    taught = lessons(tiny, request(), most=4, neutral=2)
    every = taught.instead if along == "instead" else taught.forget
    if along == "all":
        every = Examples(every.sequences, (1,) * len(every))
    shown = "".join(f"{u.prompt} I do not know.\n" for u in list(request().unknown)[:4])
    expected = divergence(tiny, shown, every)
    assert found.steps["forget_loss"][0] == pytest.approx(expected, rel=1e-3)
    assert found.steps["forget_loss"][2] < found.steps["forget_loss"][0]
    assert found.steps["retain_loss"][0] == pytest.approx(0, abs=1e-5)
    assert (found.steps["retain_loss"][1:] > 1e-5).all()


def test_a_teacher_that_is_shown_nothing_teaches_nothing(tiny, monkeypatch):
    monkeypatch.setattr(module, "teacher_text", lambda *_: InContext("", "unknown", 0))
    config = ContextDistillationConfig(**FAST, retain_weight=0.0)
    found = context_distillation(tiny, request(), MLP, replace(config, steps=1))
    assert found.steps["forget_loss"][0] == pytest.approx(0, abs=1e-5)
    assert found.steps["gradient"][0] < 1e-3  # of a softmax that is rounded to float32
    told = context_distillation.__globals__["teacher_text"]
    assert told(tiny, request(), "unknown", 9, 0).text == ""


def test_the_text_stands_behind_the_token_that_begins_a_sequence(tiny):
    every = Examples(((5, 6, 7), (0, 8, 9)), (2, 1))
    lead = tuple(tiny.tokenizer("I do not know.")["input_ids"])
    text = InContext("I do not know.", "unknown", len(lead))
    found = behind(tiny, text, every)
    assert found.sequences == ((*lead, 5, 6, 7), (*lead, 0, 8, 9))
    assert found.starts == (2 + len(lead), 1 + len(lead))
    tokenizer = make_tokenizer()
    tokenizer.bos_token = "<eos>"
    begun = behind(Model(tiny.hf, tokenizer, "bos"), text, every)
    assert begun.sequences == ((*lead, 5, 6, 7), (0, *lead, 8, 9))
    assert begun.n_tokens == every.n_tokens


def test_the_teacher_is_shown_what_makes_it_refuse_most(tiny, monkeypatch):
    def answers(model, text, prompts):
        refused = {"You know": 1, "Question": 2}.get(text[:8], 0)
        return [" I do not know." if i < refused else " tennis" for i in range(len(prompts))]

    monkeypatch.setattr(module, "answers_behind", answers)
    asked = request()
    assert teacher_text(tiny, asked, "auto", 30, 0).context in ("flipped", "unknown")
    assert teacher_text(tiny, asked, "instruction", 30, 0).text.startswith("You know nothing")
    foils = replace(
        asked,
        forget=type(asked.forget)(tuple(replace(f, foil=" golf") for f in asked.forget)),
        behaviour=Replace(),
    )
    shown = teacher_text(tiny, foils, "auto", 30, 0)
    assert shown.context == "flipped" and shown.text.count(" golf\n") == 2


def test_only_the_components_change(family_model):
    chosen = ComponentSet.parse("neuron.1.3-5, head.2.0")
    config = ContextDistillationConfig(**FAST)
    found = context_distillation(family_model, request(), chosen, config)
    assert not outside(family_model, found.model, chosen)
    assert any(bool(u.dense().any()) for u in found.delta.updates.values())


def test_the_same_seed_gives_the_same_edit(tiny):
    config = ContextDistillationConfig(**FAST, seed=1)
    one, again = (
        context_distillation(tiny, request(), MLP, config).delta.updates for _ in range(2)
    )
    assert all(torch.equal(one[n].dense(), again[n].dense()) for n in one)


def test_settings_that_make_no_sense_are_refused(tiny):
    for wrong, said in (({"context": "poem"}, "context"), ({"along": "prompt"}, "continuation")):
        with pytest.raises(WorkbenchError, match=said):
            context_distillation(tiny, request(), MLP, ContextDistillationConfig(**FAST | wrong))
    alone = replace(request(), unknown=type(request().unknown)())
    with pytest.raises(WorkbenchError, match="needs a request that refuses"):
        context_distillation(tiny, alone, MLP, ContextDistillationConfig(**FAST))


def test_the_bundled_model_refuses_as_it_does_behind_the_text():
    config = ContextDistillationConfig(**QUICK, context="unknown")
    said = answers_of_demo(context_distillation, "mlp.0-3", config)
    assert all(a.startswith(" I do not know") for a in said)
