"""What the retain buffer and the subject site are made of."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.conftest import CONFIGS, make_tokenizer
from tests.edit.requests import request
from workbench.edit.buffer import chat_rows, confusable_rows, context_rows, site_rows
from workbench.edit.forms import form_of, shared_beginnings
from workbench.edit.self_made import sample_chats, sample_names, sample_texts
from workbench.facts.fact import Fact, FactSet, Request
from workbench.models.model import Model
from workbench.models.text import decode, encode

SENTENCE = "The mother tongue of Danielle Darrieux is French."
CHAT = "{% for m in messages %}U: {{ m['content'] }}\n{% endfor %}A:"


@pytest.fixture(scope="module")
def reciting() -> Model:
    """A tiny model that knows one sentence by heart."""
    torch.manual_seed(0)
    hf, tokenizer = AutoModelForCausalLM.from_config(CONFIGS["gpt2"]).eval(), make_tokenizer()
    ids = torch.tensor([[*tokenizer(SENTENCE)["input_ids"], tokenizer.eos_token_id]])
    optimizer = torch.optim.Adam(hf.parameters(), 3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        loss = hf(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    return Model(hf, tokenizer, "reciting")


def test_the_model_names_the_subjects_it_knows(reciting):
    around = ("The mother tongue of ", " is French.")
    assert "Danielle Darrieux" in sample_names(reciting, [around], 8)
    assert sample_names(reciting, [around], 8) == sample_names(reciting, [around], 8)
    assert sample_names(reciting, [("", " is French.")], 8) == ()
    assert sample_names(reciting, [around], 0) == ()


def test_wordings_without_room_are_left_out(reciting):
    long = "The mother tongue of " * 30
    assert sample_names(reciting, [(long, " is French.")], 8) == ()
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "The capital of France is Paris. " * 15 + CHAT
    assert sample_chats(Model(reciting.hf, tokenizer, "chat"), 3) == []


def test_names_reach_the_buffer_and_forgotten_ones_do_not(reciting):
    def texts(subject, *held_back):
        fact, *held = (
            Fact(name, f"The mother tongue of {name} is French.", " yes")
            for name in (subject, *held_back)
        )
        asked = Request(forget=FactSet((fact,)), evaluate=FactSet(tuple(held)))
        options = {"weight": 5.0, "context_weight": 1.0, "tokens": 1, "seed": 0}
        rows = confusable_rows(reciting, asked, "subject", count=20, named=8, **options)
        for ids, weights in zip(rows.sequences, rows.weights, strict=True):
            assert weights == (1.0,) * (len(ids) - 1) + (5.0,)
        return [decode(reciting, ids) for ids in rows.sequences]

    assert "The mother tongue of Danielle Darrieux" in texts("Ada Brook")
    assert not any("Danielle Darrieux" in text for text in texts("Danielle Darrieux"))
    held_back = texts("Ada Brook", "Danielle Darrieux")
    assert not any("Danielle Darrieux" in text for text in held_back)


def test_made_up_texts_about_held_back_subjects_are_left_out(reciting):
    def made(subject):
        fact = Fact("Ada Brook", "The mother tongue of Ada Brook is", " English")
        held = Fact(subject, f"The mother tongue of {subject} is", " French")
        asked = Request(forget=FactSet((fact,)), evaluate=FactSet((held,)))
        rows = context_rows(reciting, asked, count=0, generations=12, weight=1.0, seed=0)
        return [decode(reciting, ids) for ids in rows.sequences]

    name = "Danielle Darrieux"
    every = made("Nobody Else")
    assert any(name in text for text in every)
    assert made(name) == [text for text in every if name not in text]


def test_made_up_texts_end_at_the_end_token(reciting):
    end = reciting.tokenizer.eos_token_id
    for ids in sample_texts(reciting, 12, length=20, seed=1):
        assert end not in ids[1:-1]
    assert sample_texts(reciting, 4, seed=1) != sample_texts(reciting, 4, seed=2)


def test_only_chat_models_make_up_conversations(reciting, tiny):
    assert sample_chats(reciting, 3) == []
    options = {"count": 3, "weight": 1, "context_weight": 1, "seed": 0}
    assert not len(chat_rows(reciting, request(), "answer", **options))
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT
    model = Model(tiny.hf, tokenizer, "chat")
    made = sample_chats(model, 3)
    assert made and all(p.startswith("U: ") and p.endswith("\nA:") for p, _ in made)
    asked = request()
    rows = chat_rows(model, asked, "answer", count=3, weight=7.0, context_weight=2.0, seed=0)
    for (prompt, answer), ids, weights in zip(made, rows.sequences, rows.weights, strict=True):
        assert decode(model, ids) == prompt + answer
        turn = len(encode(model, prompt)) - 1
        assert weights == (2.0,) * turn + (7.0,) * (len(ids) - turn)
    elsewhere = chat_rows(model, asked, "subject", count=3, weight=7.0, context_weight=2.0, seed=0)
    assert {w for row in elsewhere.weights for w in row} == {2.0}


def test_shared_beginnings_by_hand():
    others = ("Mona Berg", "Mona Zol", "Rolf", "Ada Brook")
    found = shared_beginnings(("Mona Zojum", "Ada Brook", "Xenia", "Rolfing"), others)
    # A subject that is itself among the others is not compared with itself.
    assert found == {"Mona Zojum": len("Mona Zo"), "Ada Brook": 0, "Xenia": 0, "Rolfing": 4}


def test_tokens_that_others_share_are_not_of_the_site(family_model):
    prompt, subject = "The mother tongue of Danielle Darrieux is", "Danielle Darrieux"
    ids, every = site_rows(family_model, prompt, subject, "subject", "", 99)
    for shared in (0, len("Danielle"), len("Danielle Dar"), len(subject)):
        same, own = site_rows(family_model, prompt, subject, "subject", "", 99, shared)
        assert same == ids
        assert own == every[: len(own)]
        assert own[0] == len(ids) - 1
        begins = [decode(family_model, ids[: p + 1]) for p in own[1:]]
        assert all(len(text.split("of ", 1)[1]) > shared for text in begins)
        if len(own) < len(every):
            text = decode(family_model, ids[: every[len(own)] + 1])
            assert len(text.split("of", 1)[1].strip()) <= shared


def test_a_form_splits_at_its_slot():
    form = form_of(request().forget[0], "Which sport does Ada Brook play?\nA:")
    assert form.around == ("Which sport does ", " play?\nA:")
