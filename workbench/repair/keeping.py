"""Many repairs at once: what they lose is asked for and weighed more, until little is lost.

A solve in least squares spends as much on an answer that is in no danger as on one that is lost. So
whatever is on file to keep is asked after a solve, what is no longer answered rightly is weighed
more in the next, and so on for a few rounds. Held-back facts gain from it too, though nobody asks
them: those that are lost lie together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from workbench.facts.accepted import accepted
from workbench.facts.fact import Fact, FactSet, Request
from workbench.measure.answers import is_right
from workbench.models.delta import WeightDelta
from workbench.models.kept import kept_each
from workbench.models.model import Model
from workbench.models.text import generate
from workbench.progress import SILENT, Progress

_ROUNDS = 5  # solves behind the first
_TIMES = 4.0  # as much weight for what is lost
_SAID = 5  # how many lost facts one that is still said counts for
_LITTLE = 0.005  # share of what is to be kept that may be lost
Solve = Callable[[Request], WeightDelta]


def solve_keeping(
    model: Model, request: Request, solve: Solve, *, progress: Progress = SILENT
) -> WeightDelta:
    """Solve for a request, again and again with more weight on what was lost.

    Args:
        model: the patient before the solve.
        request: what to forget and what to keep.
        solve: makes the change for a request.
        progress: where to report.

    Returns:
        The change after which the fewest facts are lost, or still said, which counts more.
    """
    known = _known(model, request.retain, progress)
    best: tuple[int, WeightDelta] | None = None
    for _ in progress.track(range(_ROUNDS + 1), "rounds"):
        delta = solve(request)
        after = model.with_delta(delta)
        left = {f.key for f in _right(after, known, progress)}
        lost = known.where(lambda f, left=left: f.key not in left)
        said = _right(after, request.forget, progress)
        wrong = len(lost) + _SAID * len(said)
        if best is None or wrong < best[0]:
            best = (wrong, delta)
        if not lost or (not said and len(lost) <= _LITTLE * len(known)):
            break
        more = {f.key: _TIMES * request.heavier.get(f.key, 1.0) for f in lost}
        request = replace(request, heavier={**request.heavier, **more})
    assert best is not None  # there is at least one round
    return best[1]


def rightly(facts: Iterable[Fact], answers: Iterable[str]) -> list[bool]:
    """Return whether each fact's own prompt is answered rightly."""
    return [is_right(a, accepted(f)) for f, a in zip(facts, answers, strict=True)]


def _known(model: Model, facts: FactSet, progress: Progress) -> FactSet:
    """Leave what the model answers rightly; it is asked each thing once."""

    def answers(prompts: list[str]) -> list[str]:
        return generate(model, prompts, progress=progress)

    return _told(facts, kept_each(model, "said", [], [f.prompt for f in facts], answers))


def _right(model: Model, facts: FactSet, progress: Progress) -> FactSet:
    """Leave the facts whose own prompts are answered rightly."""
    return _told(facts, generate(model, [f.prompt for f in facts], progress=progress))


def _told(facts: FactSet, answers: Sequence[str]) -> FactSet:
    """Leave the facts that these answers tell."""
    told = zip(facts, rightly(facts, answers), strict=True)
    return FactSet(tuple(fact for fact, right in told if right))
