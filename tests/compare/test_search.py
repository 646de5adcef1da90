"""What a candidate is judged by, and which one is taken."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from statistics import mean
from typing import Any

import pytest
import torch
from tiny_files import known_facts, tiny_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.edit.requests import request as made_up
from workbench.compare import search
from workbench.compare.search import Candidate, Quick, best, quick, retained
from workbench.edit.forms import prompts_of
from workbench.facts.fact import FactSet, Request
from workbench.measure.answers import is_right
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.models.load import load
from workbench.models.model import Model


def candidates(*found: tuple[float, float] | None) -> list[Candidate]:
    return [Candidate({"i": i}, Quick(*q) if q else None) for i, q in enumerate(found)]


@pytest.mark.parametrize(
    ("found", "drop", "wanted"),
    [
        ([(0.5, 1.0), (0.1, 0.99), (0.0, 0.9)], 0.02, (1, True)),  # the last loses too much
        ([(0.5, 1.0), (0.1, 0.98)], 0.02, (1, True)),  # just within
        ([(0.5, 1.0), (0.1, 0.97)], 0.02, (0, True)),
        ([(0.0, 0.9), (0.0, 0.5)], 0.5, (0, True)),  # a tie goes to the one that keeps more
        ([(0.0, 0.5), (0.0, 0.9)], 0.5, (1, True)),
        ([(0.1, 0.9), (0.1, 0.9)], 0.5, (0, True)),  # and then to the first
        ([(0.0, 0.5), (0.9, 0.7)], 0.02, (1, False)),  # all over: the one that loses least
        ([(0.3, 0.7), (0.2, 0.7), (0.2, 0.7)], 0.02, (1, False)),
        ([None, (0.5, 0.2), None], 0.02, (1, False)),
        ([None, (0.5, 1.0)], 0.0, (1, True)),
        ([(0.0, 0.0), (1.0, 0.0)], 1.0, (0, True)),
        ([None, None], 0.5, None),
        ([], 0.5, None),
    ],
)
def test_the_best_by_hand(found: list[Any], drop: float, wanted: tuple[int, bool] | None) -> None:
    assert best(candidates(*found), drop) == wanted


def test_time_does_not_decide() -> None:
    """Times differ from run to run; a study that is run again must take the same candidate."""
    one, two = candidates((0.1, 0.9), (0.1, 0.9))
    slow = replace(one, cost=replace(one.cost, cpu_seconds=9.0))
    assert best([slow, two], 0.5) == best([one, two], 0.5) == (0, True)


@pytest.fixture(scope="module")
def model() -> Model:
    return load(tiny_folder())


@pytest.fixture(scope="module")
def request_() -> Request:
    facts = list(known_facts())
    wrong = [replace(f, target=" nothing of the kind", statements=()) for f in facts[:2]]
    return Request(FactSet(tuple(facts[:3])), retain=FactSet((*facts[3:5], *wrong)))


@cache
def plain(scale: float) -> tuple[Any, Any]:
    """Return plain transformers' model and tokenizer; `scale` changes the final norm."""
    hf = AutoModelForCausalLM.from_pretrained(tiny_folder())
    with torch.no_grad():
        hf.model.norm.weight.mul_(scale)
    return hf, AutoTokenizer.from_pretrained(tiny_folder())


@cache
def right(prompt: str, target: str, scale: float) -> bool:
    """Whether plain transformers say it, asked one prompt at a time."""
    hf, tokenizer = plain(scale)
    ids = tokenizer(prompt, return_tensors="pt")
    new = hf.generate(**ids, max_new_tokens=16, do_sample=False)[0, ids["input_ids"].shape[1] :]
    answer = tokenizer.decode(new, skip_special_tokens=True).split("\n")[0]
    return is_right(answer, [target])


@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_quick_is_what_plain_generation_gives(
    model: Model, request_: Request, scale: float
) -> None:
    norm = model.parameters["model.norm.weight"]
    delta = WeightDelta({"model.norm.weight": Dense((scale - 1) * norm)}, Origin("by hand"))
    found = quick(model.with_delta(delta), request_, retained(model, request_))
    asked = [(f, p) for f in request_.forget for p in prompts_of(f)]
    assert len(asked) == 6  # prompts and statements
    assert found.forget == mean([right(p, f.target, scale) for f, p in asked])
    known = [f for f in request_.retain if right(f.prompt, f.target, 1.0)]
    assert 0 < len(known) < len(request_.retain)
    assert found.retain == mean([right(f.prompt, f.target, scale) for f in known])
    assert found.retain == (1.0 if scale == 1.0 else 0.0)


def test_without_retained_facts_nothing_can_be_lost(model: Model) -> None:
    alone = Request(FactSet(tuple(known_facts())[:1]))
    assert retained(model, alone) == ()
    assert quick(model, alone, ()).retain == 1.0


def test_many_retained_facts_are_drawn_by_the_seed(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_RETAINED", 2)
    monkeypatch.setattr(search, "_right", lambda model, request, asked: [True] * len(asked))
    request = made_up()
    drawn = [retained(model, request, seed=s) for s in range(6)]
    assert drawn == [retained(model, request, seed=s) for s in range(6)]
    assert {len(d) for d in drawn} == {2} and len({frozenset(d) for d in drawn}) > 1
    assert all(fact in request.retain for d in drawn for fact in d)
