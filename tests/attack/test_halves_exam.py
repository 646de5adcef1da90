from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.edit.requests import fact, facts, request
from workbench.attack.asking import ask_freely
from workbench.attack.exam import Exam, chance
from workbench.attack.halves import halves, true_answers
from workbench.facts.fact import Fact, FactSet, Refuse
from workbench.measure.text_metrics import teacher_forced
from workbench.models.model import Model
from workbench.models.text import decode

CHOICES = ("tennis", "golf", "Paris")


# --- the split -------------------------------------------------------------------------------


@given(count=st.integers(2, 9), seed=st.integers(0, 10_000))
def test_every_fact_is_tested_once_and_never_taught_then(tiny: Model, count: int, seed: int):
    names = [f"Name{chr(97 + i)}" for i in range(count)]
    forget = FactSet(tuple(f for n in names for f in (fact(n), fact(n, " golf"))))
    both = halves(forget, seed=seed)
    assert sorted(f.key for h in both for f in h.tested) == sorted(f.key for f in forget)
    assert abs(len(both[0].tested.subjects) - len(both[1].tested.subjects)) <= 1
    for half in both:
        taught = true_answers(tiny, half.taught, half.tested.subjects)
        text = "\n".join(decode(tiny, s) for s in taught.sequences)
        assert all(name in text for name in half.taught.subjects)
        assert not any(name in text for name in half.tested.subjects)


def test_the_split_depends_on_the_seed():
    forget = facts(*(f"Name{i}" for i in range(8)))
    assert len({frozenset(halves(forget, seed=s)[0].tested.subjects) for s in range(10)}) > 1


def test_what_names_a_tested_subject_is_not_taught(tiny: Model):
    about_golf = Fact("golf", "golf is played by", " Carl Dorn", statements=("Most people play",))
    taught = true_answers(tiny, FactSet((*facts("Ada Brook"), about_golf)), ["Carl Dorn"])
    assert {decode(tiny, s) for s in taught.sequences} == {
        "Question: Which sport does Ada Brook play?\nAnswer: tennis",
        "Ada Brook plays the sport of tennis",
    }


def test_training_sees_the_answers_and_only_those_are_learned(tiny: Model):
    taught = true_answers(tiny, facts("Ada Brook"), ())
    ends = {decode(tiny, s[b:]) for s, b in zip(taught.sequences, taught.starts, strict=True)}
    assert ends == {" tennis"}


# --- the questions ---------------------------------------------------------------------------


def test_free_answers_are_those_of_every_other_attack(tiny: Model):
    asked = [(f, p) for f in request().forget for p in (f.prompt, *f.statements)]
    exam = Exam.of(tiny, request().forget, Refuse(), wordings=2)
    assert exam.sit(tiny) == {"free": ask_freely(tiny, asked, Refuse())}


def test_choices_are_compared_by_their_likelihood(tiny: Model):
    asked = facts("Ada Brook", "Carl Dorn", "Zed Quux", "Norway Paris")
    forget = FactSet(tuple(replace(f, choices=CHOICES) for f in asked))
    outcomes = Exam.of(tiny, forget, Refuse()).sit(tiny)["choice"]
    for f, outcome in zip(forget, outcomes, strict=True):
        scores = teacher_forced(tiny, [f.prompt] * 3, [f" {c}" for c in CHOICES])
        best = max(range(3), key=lambda i: scores[i].log_probability)
        assert outcome.answer == CHOICES[best]
        assert outcome.value == float(CHOICES[best] == "tennis")
    assert chance("choice", outcomes) == pytest.approx(1 / 3)
    assert chance("free", outcomes) == 0
