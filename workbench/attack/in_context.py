"""In context: solved examples in front of the question.

others     k true facts of the same relation about subjects to keep
forgotten  the forget set is split in two by its subjects; each half is asked behind the other
           half's true answers, of the same relation first
profile    each subject's facts are split in two; each half is asked behind the other half's true
           answers, so that the model sees that this subject is known

No example has the answer that is asked for: examples show which kind of answer is wanted, and that
questions are answered; they do not tell the answer.

Source: Lynch et al. 2024 (arXiv 2402.16835, in-context relearning); Shumailov et al. 2024 (arXiv
2407.00106). Cost: one generation pass a setting.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workbench.attack.asking import ask_freely
from workbench.attack.attack import Cell
from workbench.attack.halves import halves
from workbench.attack.prompts import fits, with_examples
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, Request
from workbench.facts.prompts import continuation
from workbench.models.model import Model
from workbench.progress import SILENT, Progress

_SPARE = 16  # tokens that an answer may be longer than its target
Choose = Callable[[Fact], Sequence[Fact]]


@dataclass(frozen=True)
class InContextConfig:
    """Settings of the attack in context.

    Attributes:
        examples: how many examples to show.
        seed: of the draw of examples and of the halves.
    """

    examples: tuple[int, ...] = (1, 4, 8)
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: no number of examples, or one below 1.
        """
        if not self.examples or min(self.examples) < 1:
            raise WorkbenchError("Show at least 1 example, for instance examples=1,4,8.")


def in_context(
    model: Model,
    request: Request,
    config: InContextConfig,
    *,
    base: Model,
    progress: Progress = SILENT,
) -> tuple[Cell, ...]:
    """Ask the forget facts behind solved examples.

    Raises:
        WorkbenchError: the request has no fact to show.
    """
    config.check()
    kept = [*request.retain, *request.evaluate]
    sources: dict[str, Choose] = {
        "others": lambda fact: [
            k for k in kept if k.relation == fact.relation and k.subject != fact.subject
        ],
        "forgotten": _other_subjects(request, config.seed),
        "profile": _same_subject(request, config.seed),
    }
    asked: dict[tuple[str, int], list[_Shown]] = {}
    for name, choose in sources.items():
        before: list[_Shown] = []
        for k in sorted(set(config.examples)):
            shown = [
                s for f in request.forget if (s := _shown(model, f, choose(f), k, config.seed))
            ]
            if shown != before:  # a source that has no more would be asked the same again
                asked[name, k] = before = shown
    if not asked:
        raise WorkbenchError(
            "There is no solved example to show; give the request facts to retain of the same "
            "relation, or forget more than one fact."
        )
    cells = []
    for (name, k), shown in progress.track(asked.items(), "in context"):
        prompts = [(s.fact, s.prompt) for s in shown]
        outcomes = ask_freely(model, prompts, request.behaviour, progress=progress)
        fewer = sum(s.examples < k for s in shown)
        note = f"{fewer} of {len(shown)} prompts have fewer examples." if fewer else ""
        cells.append(Cell({"examples": name, "k": k}, outcomes, note=note))
    return tuple(cells)


@dataclass(frozen=True)
class _Shown:
    """A fact's prompt behind its examples, and how many there are."""

    fact: Fact
    prompt: str
    examples: int


def _shown(model: Model, fact: Fact, found: Sequence[Fact], most: int, seed: int) -> _Shown | None:
    """Put as many examples in front as there are and as the context takes; None if it takes none.

    They are drawn by the fact, so that a few are the first of many; those of its own relation come
    first.
    """
    fitting = [other for other in found if other.target != fact.target]
    random.Random(f"{seed}|{fact.prompt}").shuffle(fitting)
    fitting.sort(key=lambda other: other.relation != fact.relation)
    room = len(continuation(model, fact.prompt, fact.target)) + _SPARE
    for count in range(min(most, len(fitting)), 0, -1):
        prompt = with_examples(model, fact, fitting[:count])
        if fits(model, prompt, room):
            return _Shown(fact, prompt, count)
    return None


def _other_subjects(request: Request, seed: int) -> Choose:
    """Split the subjects in two; examples are about those of the other half."""
    if len(request.forget.subjects) < 2:
        return lambda fact: ()
    taught = {f.key: half.taught for half in halves(request.forget, seed=seed) for f in half.tested}
    return lambda fact: tuple(taught[fact.key])


def _same_subject(request: Request, seed: int) -> Choose:
    """Split each subject's facts in two; examples are those of the other half."""
    rng = random.Random(seed)
    half: dict[tuple[str, str], int] = {}
    for subject in request.forget.subjects:
        facts = list(request.forget.about([subject]))
        rng.shuffle(facts)
        half |= {fact.key: i % 2 for i, fact in enumerate(facts)}
    return lambda fact: [
        o for o in request.forget.about([fact.subject]) if half[o.key] != half[fact.key]
    ]
