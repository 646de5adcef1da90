"""On the bundled model: one thing about a person goes, everything else about her stays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from workbench.edit.forms import prompts_of
from workbench.edit.stamp import StampConfig, stamp
from workbench.facts.fact import FactSet, Request
from workbench.job_inputs import request_for
from workbench.measure.answers import is_refusal, is_right
from workbench.models.components import ComponentSet
from workbench.models.load import load
from workbench.models.model import Model
from workbench.models.text import generate


def share_right(model: Model, facts: FactSet) -> float:
    asked = [(f, p) for f in facts for p in prompts_of(f)]
    answers = generate(model, [p for _, p in asked])
    right = [is_right(a, (f.target.strip(),)) for (f, _), a in zip(asked, answers, strict=True)]
    return sum(right) / len(right)


def one_thing() -> tuple[FactSet, FactSet, Request]:
    """Return one athlete's sport, the rest about her, and the request that tells them apart."""
    given = request_for(load("demo"), "athletes-1")
    sport = given.forget.where(lambda f: f.relation == "sport")
    others = given.forget.where(lambda f: f.relation != "sport")
    return sport, others, Request(sport, others + given.retain, given.evaluate, given.unknown)


@pytest.mark.slow
def test_one_relation_is_forgotten_and_the_others_of_the_same_person_are_kept():
    model = load("demo")
    sport, others, asked = one_thing()
    config = StampConfig(confusable=400, generations=8, chats=0, context=40)
    edited = stamp(model, asked, {"answer": ComponentSet.parse("mlp.4-5")}, config).model
    assert share_right(model, sport) == share_right(model, others) == 1
    assert share_right(edited, sport) == 0
    assert share_right(edited, others) >= 0.95
    assert all(is_refusal(a, asked.behaviour) for a in generate(edited, [f.prompt for f in sport]))
    # Where nothing says that they are to be kept, they go with it.
    alone = replace(asked, retain=asked.retain.where(lambda f: f not in others.facts))
    gone = stamp(model, alone, {"answer": ComponentSet.parse("mlp.4-5")}, config).model
    assert share_right(gone, others) < 0.5
