"""Unlearning in context: what the texts hold, where they stand, and that they can be measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.conftest import make_tokenizer
from tests.edit.requests import facts, request
from workbench.edit import in_context as module
from workbench.edit.in_context import (
    InContextConfig,
    behind,
    context_text,
    in_context,
    with_context,
)
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Probe, Replace
from workbench.measure.scorecard import measure
from workbench.models.model import Model

ROOM = 20
FORM = "Question: Which sport does {} play?\nAnswer:"
CHAT = (
    "{% for m in messages %}<eos>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def small():
    """Few enough facts for the tiny models' context of 128 tokens."""
    return replace(request(), evaluate=facts("Vera Held"))


def text(model, asked, kind, refusals=2, kept=1, room=ROOM):
    return context_text(model, asked, kind, refusals, kept, room, 0).text


def test_what_the_texts_hold(tiny):
    assert text(tiny, small(), "instruction", kept=0) == (
        'You know nothing about Ada Brook and Carl Dorn. If you are asked about them, answer "I do '
        'not know."\n'
    )
    refused = [FORM.format(n) + " I do not know.\n" for n in ("Ada Brook", "Carl Dorn")]
    assert text(tiny, small(), "flipped", kept=0) == "".join(refused)
    unknown = [FORM.format(n) + " I do not know.\n" for n in ("Zed Quux", "Vok Plim")]
    assert text(tiny, small(), "unknown", kept=0) == "".join(unknown)


def test_kept_facts_are_shown_and_nothing_held_back(tiny):
    found = text(tiny, small(), "unknown", refusals=1, kept=1)
    shown, solved = found.removesuffix("\n").split("\nQuestion")
    assert shown == FORM.format("Zed Quux") + " I do not know."
    assert any(f"Question{solved}" == f"{f.prompt}{f.target}" for f in small().retain)
    many = context_text(tiny, small(), "flipped", 1, 9, 1, 0)
    assert "Vera Held" not in many.text


def test_as_many_as_fit_are_shown(tiny):
    for room in (10, 40, 60):
        found = context_text(tiny, small(), "unknown", 3, 4, room, 0)
        assert found.n_tokens == len(tiny.tokenizer(found.text)["input_ids"])
        assert found.n_tokens + room <= tiny.n_ctx
        assert found.text.startswith(FORM.format("Zed Quux") + " I do not know.\n")
    with pytest.raises(WorkbenchError, match="more than the 128"):
        context_text(tiny, small(), "unknown", 3, 4, 120, 0)


def test_foils_are_shown_where_they_are_wanted(tiny):
    foils = FactSet(tuple(replace(f, foil=" golf") for f in small().forget))
    asked = replace(small(), forget=foils, behaviour=Replace())
    assert text(tiny, asked, "flipped", refusals=1, kept=0) == FORM.format("Ada Brook") + " golf\n"
    for kind in ("instruction", "unknown"):
        with pytest.raises(WorkbenchError, match="needs a request that refuses"):
            text(tiny, asked, kind)


def test_every_subject_is_shown_before_any_is_twice():
    def about(name, relation):
        return Fact(name, f"The {relation} of {name} is", " x", relation=relation)

    forget = FactSet(tuple(about(n, r) for n in ("A", "B", "C") for r in ("sport", "town")))
    order = [(f.subject, f.relation) for f in module._in_turn(forget)]
    assert [s for s, _ in order] == ["A", "B", "C"] * 2
    assert {r for _, r in order[:3]} == {"sport", "town"}
    assert len(set(order)) == 6


def test_a_chat_model_is_told_in_its_own_form(tiny):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT
    model = Model(tiny.hf, tokenizer, "chat")
    told = text(model, small(), "instruction", kept=0)
    assert told.startswith("<eos>system: You know nothing about Ada Brook and Carl Dorn.")
    # An answer in a conversation is ended as the model ends it.
    assert text(model, small(), "flipped", refusals=1, kept=0).endswith(" I do not know.<eos>\n")
    tokenizer.chat_template = "{{ raise_exception('no system turns') }}"
    assert text(model, small(), "instruction", kept=0).startswith("You know nothing about")


def test_what_begins_a_rendered_prompt_begins_the_text(tiny):
    tokenizer = make_tokenizer()
    tokenizer.bos_token = "<eos>"
    model = Model(tiny.hf, tokenizer, "bos")
    assert behind(model, "<eos>Be quiet. ", "<eos>Who?") == "<eos>Be quiet. Who?"
    assert behind(model, "Be quiet. ", "<eos>Who?") == "<eos>Be quiet. Who?"
    assert behind(model, "Be quiet. ", "Who?") == "Be quiet. Who?"
    assert behind(tiny, "Be quiet. ", "<eos>Who?") == "Be quiet. <eos>Who?"


def test_every_prompt_that_is_measured_stands_behind_the_text(tiny):
    full = Fact(
        "Ada Brook",
        FORM.format("Ada Brook"),
        " tennis",
        relation="sport",
        statements=("Ada Brook plays the sport of",),
        paraphrases=("Ada Brook plays",),
        held_out=("What does Ada Brook play?",),
        neighbors=(Probe("Carl Dorn plays", " golf"),),
        choices=("golf", "tennis"),
        extra={"source": "here"},
    )
    asked = replace(small(), forget=FactSet((full,)))
    ahead = "Ada Brook? I do not know Ada Brook.\n"
    found = with_context(asked, tiny, ahead)
    (fact,) = found.forget
    assert fact.prompt == ahead + full.prompt
    for name in ("statements", "paraphrases", "held_out"):
        assert getattr(fact, name) == tuple(ahead + p for p in getattr(full, name))
    assert [p.prompt for p in fact.neighbors] == [ahead + "Carl Dorn plays"]
    (letters,) = fact.mcq  # drawn from the bare prompt, so in the order of the base
    assert letters.prompt.startswith(f"{ahead}Question: Which sport does Ada Brook play?\nA. ")
    for name in ("subject", "target", "relation", "choices", "extra"):
        assert getattr(fact, name) == getattr(full, name)
    assert [f.prompt for f in found.evaluate] == [ahead + f.prompt for f in asked.evaluate]
    assert found.retain == asked.retain and found.unknown == asked.unknown
    alone = with_context(replace(asked, evaluate=FactSet()), tiny, ahead)
    assert [f.prompt for f in alone.retain] == [ahead + f.prompt for f in asked.retain]
    assert not alone.evaluate


def test_it_is_measured_like_any_request(tiny):
    asked = with_context(small(), tiny, "Ada Brook plays.\n")
    card = measure(tiny, asked)
    assert card.value("acc_f") is not None and card.value("statement_r") is not None
    assert card.model_fingerprint == tiny.fingerprint  # no weight changes
    plain = measure(tiny, small())
    assert len(card.answers) == len(plain.answers)
    assert card.answers["prompt"].str.startswith("Ada Brook plays.\n").all()
    bare = card.answers["prompt"].str.removeprefix("Ada Brook plays.\n")
    assert bare.tolist() == plain.answers["prompt"].tolist()
    assert card.answers["answer"].tolist() != plain.answers["answer"].tolist()


def test_auto_takes_what_forgets_and_keeps_most(tiny, monkeypatch):
    asked = small()
    monkeypatch.setattr(module, "generate", lambda m, p, **_: [" tennis" for _ in p])
    spoken = {"instruction": (" tennis", " tennis"), "flipped": (" no", " no")}
    spoken["unknown"] = (" no", " tennis")  # forgets what it is to forget, and nothing else

    def said(model, shown, prompts):
        kinds = (k for k in spoken if text(tiny, asked, k, 1, 0, 60)[:30] == shown[:30])
        gone, kept = spoken[next(kinds)]
        return [gone if "Ada" in p or "Carl" in p else kept for p in prompts]

    monkeypatch.setattr(module, "answers_behind", said)
    config = InContextConfig(refusals=1, kept=0)
    assert in_context(tiny, asked, config).context == "unknown"
    spoken["unknown"], spoken["instruction"] = (" tennis", " no"), (" no", " tennis")
    assert in_context(tiny, asked, config).context == "instruction"
    assert in_context(tiny, asked, replace(config, context="flipped")).context == "flipped"


@pytest.mark.parametrize("wrong", [{"context": "poem"}, {"refusals": 0}, {"kept": -1}])
def test_settings_that_make_no_sense_are_refused(tiny, wrong):
    with pytest.raises(WorkbenchError, match=next(iter(wrong))):
        in_context(tiny, small(), InContextConfig(**wrong))
