"""Requests made of others: what is chosen moves, and nothing is lost or stands twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.facts.choosing import forgetting, keeping
from workbench.facts.fact import Fact, FactSet, Refuse, Replace, Request

EVERY = tuple(Fact(n, f"{n} plays", " golf", foil=" chess") for n in "ABCDEFGH")
OWN = tuple(Fact(n, f"{n} sings", " bass", foil=" alto") for n in "XYZ")
places = st.lists(st.sampled_from("fre-"), min_size=len(EVERY), max_size=len(EVERY))
choices = st.lists(st.sampled_from([*EVERY, *OWN]), max_size=8)


def made(where: list[str]) -> Request:
    f, r, e = (
        FactSet(tuple(x for x, at in zip(EVERY, where, strict=True) if at == part))
        for part in "fre"
    )
    return Request(f, r, e, name="athletes", behaviour=Refuse(" No."))


requests = places.filter(lambda where: "f" in where).map(made)


def parts(request: Request) -> tuple[set[Fact], set[Fact], set[Fact]]:
    for part in (request.forget, request.retain, request.evaluate):
        assert len({f.key for f in part}) == len(part)
    return set(request.forget), set(request.retain), set(request.evaluate)


@given(request=requests, chosen=choices.filter(bool))
def test_forgetting_moves_the_chosen_and_keeps_the_others(
    request: Request, chosen: list[Fact]
) -> None:
    forget, retain, evaluate = parts(request)
    found = forgetting(request, chosen)
    new_forget, new_retain, new_evaluate = parts(found)
    assert new_forget == set(chosen)
    assert new_retain == (retain | forget) - set(chosen)
    assert new_evaluate == evaluate - set(chosen)
    assert (found.name, found.behaviour) == ("my-athletes", Refuse(" No."))
    assert forgetting(found, chosen) == found


@given(request=requests, chosen=choices)
def test_keeping_takes_out_of_forget_and_leaves_the_held_back(
    request: Request, chosen: list[Fact]
) -> None:
    forget, retain, evaluate = parts(request)
    if not forget - set(chosen):
        with pytest.raises(WorkbenchError, match="Nothing would be left to forget"):
            keeping(request, chosen)
        return
    found = keeping(request, chosen)
    assert parts(found) == (
        forget - set(chosen),
        retain | (set(chosen) - evaluate),
        evaluate,
    )
    assert keeping(found, chosen) == found and found.name == "my-athletes"


@given(request=requests)
def test_choosing_what_was_chosen_changes_the_name_alone(request: Request) -> None:
    for found in (forgetting(request, request.forget), keeping(request, ())):
        assert found.fingerprint == request.fingerprint


def test_the_last_of_two_versions_of_a_fact_counts() -> None:
    """The same prompt and target are the same fact, whatever its other wordings."""
    newer = replace(EVERY[0], paraphrases=("Does A play?",))
    found = forgetting(made(["f", *"rrrrrrr"]), [EVERY[0], newer])
    assert found.forget == FactSet((newer,)) and newer not in found.retain


def test_mistakes_are_sentences() -> None:
    request = made(["f", *"rrrrrrr"])
    with pytest.raises(WorkbenchError, match="Nothing is chosen"):
        forgetting(request, [])
    lone = Fact("Q", "Q plays", " golf")
    with pytest.raises(WorkbenchError, match="no foil"):
        forgetting(replace(request, behaviour=Replace()), [lone])


@pytest.mark.parametrize(
    ("name", "own"), [("", "my-request"), ("athletes", "my-athletes"), ("my-own", "my-own")]
)
def test_names(name: str, own: str) -> None:
    request = replace(made(["f", "f", *"rrrrrr"]), name=name)
    assert forgetting(request, [EVERY[0]]).name == keeping(request, [EVERY[0]]).name == own
