"""What many repairs lose is weighed more until little is lost, and the best round counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.edit.requests import request
from tests.repair_plan import tiny_edit
from workbench.facts.fact import FactSet, Request
from workbench.models.delta import WeightDelta
from workbench.models.model import Model
from workbench.repair import keeping
from workbench.repair.keeping import solve_keeping

Rounds = Sequence[tuple[int, int]]  # how many kept facts are lost, how many are still said


@pytest.fixture
def play(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> Callable[[Rounds], list[Request]]:
    """Let each solve lose so many of the first kept facts, and leave so many said."""

    def run(rounds: Rounds) -> list[Request]:
        asked, made = request(), []
        deltas: dict[int, int] = {}
        monkeypatch.setattr(keeping, "_known", lambda model, facts, progress: facts)

        def solve(changed: Request) -> WeightDelta:
            made.append(changed)
            delta = tiny_edit(tiny, layer=1)
            deltas[id(delta)] = len(made) - 1
            run.made.append(delta)  # type: ignore[attr-defined]
            return delta

        def right(model: Model, facts: FactSet, progress: object) -> FactSet:
            lost, said = rounds[deltas[id(model.deltas[-1])]]
            if facts == asked.retain:
                return FactSet(facts.facts[lost:])
            return FactSet(facts.facts[:said])

        monkeypatch.setattr(keeping, "_right", right)
        run.made = []  # type: ignore[attr-defined]
        run.best = solve_keeping(tiny, asked, solve)  # type: ignore[attr-defined]
        return made

    return run


def test_nothing_lost_and_nothing_said_is_one_round(play) -> None:
    (first,) = play([(0, 0)])
    assert first.heavier == {}


def test_what_is_lost_weighs_more_every_time(play) -> None:
    first, second, third = play([(2, 0), (1, 0), (0, 0)])
    one, two = (f.key for f in first.retain.facts[:2])
    assert first.heavier == {}
    assert second.heavier == {one: 4.0, two: 4.0}
    assert third.heavier == {one: 16.0, two: 4.0}
    assert third.retain == first.retain and third.forget == first.forget


def test_with_nothing_lost_another_round_would_be_the_same(play) -> None:
    assert len(play([(1, 0), (0, 2)])) == 2
    assert play.best is play.made[0]


def test_the_best_round_counts_and_what_is_said_most(play) -> None:
    rounds = [(4, 0), (2, 0), (1, 1), (3, 0), (3, 0), (3, 0)]
    made = play(rounds)
    assert len(made) == keeping._ROUNDS + 1 == 6
    assert play.best is play.made[1]


def test_the_facts_that_are_asked_are_those_the_model_knows(
    tiny: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    asked = request()
    known = asked.retain.facts[0]
    monkeypatch.setattr(
        keeping,
        "generate",
        lambda model, prompts, **_: [known.target if p == known.prompt else "?" for p in prompts],
    )
    made: list[Request] = []

    def solve(changed: Request) -> WeightDelta:
        made.append(changed)
        return tiny_edit(tiny, layer=1)

    solve_keeping(tiny, asked, solve)
    assert len(made) == 1  # the others were not known before either
