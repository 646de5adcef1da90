from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import make_model

from tests.chat_template import TEMPLATE
from workbench.errors import WorkbenchError
from workbench.facts import capitals
from workbench.facts.capitals import capital_wordings, countries, known_capitals
from workbench.facts.fact import Fact, FactSet
from workbench.facts.known import Known, known_wordings, split_known
from workbench.facts.prompts import chat, without_template
from workbench.models.model import Model

PROMPTS = ("Ada plays", "The sport of Ada is", "Question: what does Ada play?\nAnswer:")


def answer(model: Model, prompt: str, tokens: int) -> str:
    """What plain `transformers` generates."""
    ids = torch.tensor([model.tokenizer.encode(prompt)])
    out = model.hf.generate(ids, max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    return model.tokenizer.decode(out[0, ids.shape[1] :])


def test_known_is_what_generation_says(tiny: Model) -> None:
    facts = [Fact("Ada", p, answer(tiny, p, n)) for p in PROMPTS for n in (1, 3)]
    facts = [f for f in facts if f.target.strip()]
    wrong = [Fact("Ada", f.prompt, " certainly not") for f in facts]
    split = split_known(tiny, FactSet(tuple(facts + wrong)))
    said = {f.key for f in facts if answer(tiny, f.prompt, 8).startswith(f.target)}
    assert said and {f.key for f in split.known} == said
    assert {f.key for f in wrong} <= {f.key for f in split.unknown}
    with pytest.raises(WorkbenchError, match="knows none of the"):
        split_known(tiny, FactSet(tuple(wrong[:2]))).require()


def test_a_subject_is_looked_at_in_the_first_wording_that_is_known(tiny: Model) -> None:
    first, second, third = PROMPTS
    right = [Fact("Ada", p, answer(tiny, p, 1)) for p in (second, third)]
    wrong = Fact("Ada", first, " certainly not")
    bob = [Fact("Bob", p.replace("Ada", "Bob"), " certainly not") for p in PROMPTS[:2]]
    wordings = [FactSet((wrong, bob[0])), FactSet((right[0], bob[1])), FactSet((right[1],))]
    assert known_wordings(tiny, wordings) == FactSet((right[0], bob[0]))
    assert known_wordings(tiny, wordings[:1]) == wordings[0]


def test_capitals_have_two_wordings_more_in_chat_form(tiny: Model) -> None:
    chatty = make_model("qwen2")
    chatty.tokenizer.chat_template = TEMPLATE
    plain, begun = capital_wordings(tiny), capital_wordings(chatty)
    assert len(plain) == 2 and len(begun) == 4 and begun[:2] == plain
    for wording in begun:
        assert len(wording) == len(countries())
        assert len({f.prompt for f in wording}) == len(wording)
        assert all(f.prompt.count(f.subject) == 1 for f in wording if f.subject != "Niger")
    (fact,) = begun[2].about(["Netherlands"])
    asked = "<user>What is the capital of the Netherlands?<assistant>\n"
    assert fact.prompt == f"{asked}The capital is" and fact.target == " Amsterdam"


def test_readers_see_what_the_user_says(tiny: Model) -> None:
    chatty = make_model("qwen2")
    chatty.tokenizer.chat_template = TEMPLATE
    asked, plain = chat(chatty, "Who is Ada?"), "Ada is"
    shown = without_template(chatty, [asked, f"{asked}She is", plain])
    assert list(shown.values()) == ["Who is Ada?", "Who is Ada? … She is", plain]
    assert without_template(tiny, [asked]) == {asked: asked}


def test_a_model_is_asked_for_capitals_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    asked = []

    def split(model: Model, facts: FactSet, **_: object) -> Known:
        asked.append(facts)
        return Known(facts.about(["France", "Japan"]), FactSet())

    monkeypatch.setattr(capitals, "split_known", split)
    for template, times in ((TEMPLATE, 1), (TEMPLATE, 1), (TEMPLATE + " ", 2)):
        chatty = make_model("qwen2")
        chatty.tokenizer.chat_template = template
        found = known_capitals(chatty)
        assert set(found.known.subjects) == {"France", "Japan"} and len(asked) == times
        assert len(found.known) + len(found.unknown) == len(countries())
    known_capitals(chatty, seed=1)
    assert len(asked) == 3  # facts with other choices are others
