"""What a request teaches: forget prompts in step with what to say instead, and what is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.edit.requests import FORMS, facts, request
from workbench.edit.train import lessons as module
from workbench.edit.train.examples import Examples
from workbench.edit.train.lessons import lessons, own_answers, to_forget
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet, Replace, Request
from workbench.models.model import Model
from workbench.models.text import decode, generate
from workbench.progress import Cancelled, Progress

SMALL = {"most": 4, "neutral": 3}


def prompts(model: Model, part: Examples) -> list[str]:
    return [decode(model, s[:b]) for s, b in zip(part.sequences, part.starts, strict=True)]


def spoken(model: Model, part: Examples) -> list[str]:
    return [decode(model, s[b:]) for s, b in zip(part.sequences, part.starts, strict=True)]


def test_forget_and_instead_are_in_step(tiny: Model) -> None:
    """Also where one prompt has two answers to forget."""
    one = request(("Ada Brook",)).forget
    asked = replace(request(), forget=one + FactSet((replace(one[0], target=" golf"),)))
    forget, instead = to_forget(tiny, asked)
    assert prompts(tiny, forget) == prompts(tiny, instead)
    assert spoken(tiny, forget) == [" tennis", " tennis", " golf", " golf"]
    assert spoken(tiny, instead) == [" I do not know."] * 4


def test_instead_is_the_foil_where_the_request_replaces(tiny: Model) -> None:
    forget = FactSet(tuple(replace(f, foil=" golf") for f in facts("Ada Brook")))
    asked = Request(forget, facts("Paris Oslo"), behaviour=Replace())
    assert spoken(tiny, to_forget(tiny, asked)[1]) == [" golf"] * len(FORMS)


def test_held_out_wordings_are_not_taught(tiny: Model) -> None:
    forget = FactSet(tuple(replace(f, held_out=("Say Ada Brook.",)) for f in facts("Ada Brook")))
    found = lessons(tiny, replace(request(), forget=forget), **SMALL)
    assert set(prompts(tiny, found.forget)) == {form.format("Ada Brook") for form in FORMS}


def test_what_is_kept_is_what_the_model_says_by_itself(tiny: Model) -> None:
    asked = [form.format("Norway Is") for form in FORMS]
    own = own_answers(tiny, asked, length=5)
    assert prompts(tiny, own) == asked
    said = generate(tiny, asked, max_new_tokens=5, stop=None)
    ended = [text.replace(tiny.tokenizer.eos_token, "") for text in spoken(tiny, own)]
    assert ended == said


def test_kept_prompts_are_drawn_by_the_seed_and_each_once(tiny: Model) -> None:
    asked = request()
    asked = replace(asked, retain=asked.retain + FactSet((replace(asked.retain[0], target=" x"),)))
    everything = prompts(tiny, lessons(tiny, asked, most=99, neutral=0).retain)
    assert sorted(everything) == sorted(
        form.format(name) for name in asked.retain.subjects for form in FORMS
    )
    drawn = [prompts(tiny, lessons(tiny, asked, most=3, neutral=0, seed=s).retain) for s in (0, 1)]
    assert len(drawn[0]) == 3 and drawn[0] != drawn[1]


def test_made_up_texts_leave_out_who_is_forgotten_or_held_back(tiny, monkeypatch) -> None:
    asked = replace(request(), evaluate=facts("Oslo Paris"))
    made = ["Ada Brook sings.", "Oslo Paris sings.", "The capital of Norway is Oslo."]
    ids = [list(tiny.tokenizer(text)["input_ids"]) for text in made]
    chats = [("Who is Carl Dorn?", " Nobody."), ("Who is it?", " It is a."), ("Well?", "")]
    monkeypatch.setattr(module, "sample_texts", lambda *args, **kwargs: ids)
    monkeypatch.setattr(module, "sample_chats", lambda *args, **kwargs: [*chats, chats[1]])
    found = lessons(tiny, asked, most=1, neutral=7).neutral
    # A made-up text is learned from its second token on, a conversation from its answer on.
    assert found.sequences[0] == tuple(ids[2]) and found.starts[0] == 1
    assert spoken(tiny, found)[1:] == [" It is a."]


def test_equal_lessons_are_made_once(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = request()
    first = lessons(tiny, asked, **SMALL)
    monkeypatch.setattr(module, "own_answers", None)  # it would be called for new ones
    assert lessons(tiny, asked, **SMALL) is first
    with pytest.raises(TypeError):
        lessons(tiny, asked, **SMALL, seed=1)
    monkeypatch.undo()
    assert lessons(tiny, asked, **SMALL, seed=1).retain != first.retain


def test_nothing_to_keep(tiny: Model) -> None:
    with pytest.raises(WorkbenchError, match="nothing to keep"):
        lessons(tiny, replace(request(), retain=FactSet()))


def test_gathering_can_be_cancelled(tiny: Model) -> None:
    with pytest.raises(Cancelled):
        lessons(tiny, request(), **SMALL, seed=5, progress=Progress(cancelled=lambda: True))
