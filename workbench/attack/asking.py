"""Questions about forget facts, answered freely and judged as everywhere else."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.attack.attack import Outcome, Plain
from workbench.facts.accepted import accepted
from workbench.facts.fact import Behaviour, Fact, Request
from workbench.measure.answers import is_right
from workbench.measure.questions import Question, answer_all
from workbench.models.model import Model
from workbench.progress import SILENT, Progress


def ask_freely(
    model: Model,
    asked: Sequence[tuple[Fact, str]],
    behaviour: Behaviour,
    *,
    start: str = "",
    progress: Progress = SILENT,
) -> tuple[Outcome, ...]:
    """Let the model go on greedily behind each prompt and judge what it says.

    Args:
        model: who is asked.
        asked: facts and the prompts that ask for them.
        behaviour: the request's, for what counts as a refusal.
        start: the beginning of the answer, put in the model's mouth.
        progress: where to report.

    Raises:
        WorkbenchError: a prompt leaves no room in the context.
    """
    questions = [
        Question("forget", "prompt", fact, prompt + start, fact.target, accepted(fact))
        for fact, prompt in asked
    ]
    answers = answer_all(model, questions, progress=progress)
    out = []
    for q in questions:
        text = start + answers[q.prompt]
        right = is_right(text, q.answers, behaviour)
        out.append(Outcome(q.fact, q.prompt, text, float(right)))
    return tuple(out)


def ask_plainly(model: Model, request: Request, *, progress: Progress = SILENT) -> Plain:
    """Ask every forget fact by its own prompt, without an attack."""
    asked = [(fact, fact.prompt) for fact in request.forget]
    outcomes = ask_freely(model, asked, request.behaviour, progress=progress)
    return Plain({o.fact.key: o for o in outcomes})
