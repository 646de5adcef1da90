"""Multiple choice: the right answer has only to be likelier than the other choices.

    letter  choices with letters in front, answered by a letter
    listed  choices listed in front of the question, answered in words
    own     the fact's own prompt; the choices are compared as its continuations

An edit that refuses stays silent everywhere else; here it has to choose. Letters and words are
compared by likelihood, so chance is 1 / choices, and `recovered` is corrected for it. Each form is
read twice, for the likeliest choice and for the least likely one: an edit that pushes the right
answer below every other has hidden it where one only has to look.

Source: Guo et al. 2024 (arXiv 2410.12949, multiple-choice format); Lynch et al. 2024 (arXiv
2402.16835). Cost: one pass over choices, one generation pass for the answers shown, per form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.attack.attack import Cell, Outcome
from workbench.attack.exam import can_choose
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, Probe, Request
from workbench.facts.multiple_choice import letter_probe
from workbench.measure.judge import judged
from workbench.measure.questions import Question
from workbench.models.model import Model
from workbench.progress import SILENT, Progress

_PICKED = {"likeliest": "choice_right", "least": "choice_last"}


@dataclass(frozen=True)
class MultipleChoiceConfig:
    """Settings of multiple choice.

    Attributes:
        seed: of the order of the lettered choices.
    """

    seed: int = 0


def multiple_choice(
    model: Model,
    request: Request,
    config: MultipleChoiceConfig,
    *,
    base: Model,
    progress: Progress = SILENT,
) -> tuple[Cell, ...]:
    """Let the model choose among the forget facts' choices.

    Raises:
        WorkbenchError: no fact has at least two choices with its target among them.
    """
    facts = with_choices(request)
    forms = {
        "letter": [(f, p) for f in facts for p in letter_probe(model, f, seed=config.seed)],
        "listed": [(f, p) for f in facts for p in f.mcq if p.target.strip() in f.choices],
        "own": [(f, Probe(f.prompt, f.target)) for f in facts],
    }
    cells = []
    for form, asked in progress.track(forms.items(), "multiple choice"):
        if not asked:
            continue
        questions = [
            Question("forget", "mcq", fact, probe.prompt, probe.target, (probe.target,))
            for fact, probe in asked
        ]
        rows = judged(model, questions, request.behaviour, progress)
        chance = float(np.mean([1 / len(set(q.fact.choices)) for q in questions]))
        for picked, column in _PICKED.items():
            outcomes = tuple(
                Outcome(q.fact, q.prompt, row["answer"], float(row[column]))
                for q, row in zip(questions, rows, strict=True)
            )
            cells.append(Cell({"form": form, "picked": picked}, outcomes, chance))
    return tuple(cells)


def with_choices(request: Request) -> list[Fact]:
    """Return the forget facts that have other choices beside their target.

    Raises:
        WorkbenchError: there are none.
    """
    found = [f for f in request.forget if can_choose(f)]
    if not found:
        raise WorkbenchError(
            "No fact to forget has choices with its target among them; add the field choices."
        )
    return found
