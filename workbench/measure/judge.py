"""From questions to judged rows: what the model answers, and what is measured of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from workbench.errors import WorkbenchError
from workbench.facts.fact import Behaviour, Replace
from workbench.facts.multiple_choice import LETTERS
from workbench.facts.prompts import lead
from workbench.measure.answers import is_refusal, is_right, leaks, letter_of
from workbench.measure.questions import MULTIPLE_CHOICE, Question, answer_all
from workbench.measure.text_metrics import divergences, rouge_l, teacher_forced
from workbench.models.model import Model
from workbench.progress import Progress


def judged(
    model: Model, questions: Sequence[Question], behaviour: Behaviour, progress: Progress
) -> list[dict[str, Any]]:
    """Answer and judge every question; return one row each.

    Raises:
        WorkbenchError: the model's output is not finite.
    """
    answers = answer_all(model, questions, progress=progress)
    rows = [_judge(q, answers[q.prompt], behaviour) for q in questions]
    main = [i for i, q in enumerate(questions) if q.kind == "prompt"]
    forced = teacher_forced(
        model,
        [questions[i].prompt for i in main],
        [questions[i].target for i in main],
        progress=progress,
    )
    for i, result in zip(main, forced, strict=True):
        if not math.isfinite(result.probability):
            raise WorkbenchError(
                f"{model.name} computes values that are not finite, so nothing can be measured; "
                "lower the edit's strength."
            )
        rows[i] |= {"probability": result.probability, "rank": result.rank}
    asked = [i for i, q in enumerate(questions) if q.kind in MULTIPLE_CHOICE]
    choices = _by_likelihood(model, [questions[i] for i in asked], progress)
    for i, (first, last) in zip(asked, choices, strict=True):
        target = questions[i].target.strip()
        rows[i] |= {"choice_right": first == target, "choice_last": last == target}
    return rows


def _by_letter(question: Question) -> bool:
    """Whether a multiple-choice question is answered by a letter or in the options' words."""
    target = question.target.strip()
    return len(target) == 1 and target in LETTERS


def _judge(question: Question, answer: str, behaviour: Behaviour) -> dict[str, Any]:
    """Judge one generated answer."""
    fact = question.fact
    row: dict[str, Any] = {
        "side": question.side,
        "kind": question.kind,
        "subject": fact.subject,
        "relation": fact.relation,
        "prompt": question.prompt,
        "target": question.target,
        "answer": answer,
        "refused": is_refusal(answer, behaviour),
    }
    if question.kind in MULTIPLE_CHOICE:
        if _by_letter(question):
            return row | {"right": letter_of(answer) == question.target.strip()}
        return row | {"right": is_right(answer, question.answers, behaviour)}
    rouge = rouge_l(answer, question.target)
    row |= {
        "right": is_right(answer, question.answers, behaviour),
        "leaked": leaks(answer, question.answers),
        "rouge_l": rouge.f,
        "rouge_l_recall": rouge.recall,
    }
    if isinstance(behaviour, Replace) and question.side == "forget" and fact.foil:
        row["replaced"] = is_right(answer, (fact.foil,))
    return row


def _by_likelihood(
    model: Model, questions: Sequence[Question], progress: Progress
) -> list[tuple[str, str]]:
    """Return the likeliest and the least likely choice behind each multiple-choice prompt."""
    options = [_options(q) for q in questions]
    prompts = [q.prompt for q, own in zip(questions, options, strict=True) for _ in own]
    texts = [lead(q.target) + o for q, own in zip(questions, options, strict=True) for o in own]
    scores = iter(teacher_forced(model, prompts, texts, progress=progress))
    ranked = [sorted(own, key=lambda _: next(scores).log_probability) for own in options]
    return [(own[-1], own[0]) for own in ranked]


def _options(question: Question) -> tuple[str, ...]:
    """Return what a multiple-choice question is answered with: letters, or the choices' words."""
    right, choices = question.target.strip(), question.fact.choices
    if not _by_letter(question):
        return choices or (right,)
    return tuple(LETTERS[: max(len(choices) or 4, LETTERS.find(right) + 1)])


def add_divergence(
    rows: Sequence[dict[str, Any]], base: Model, model: Model, progress: Progress
) -> None:
    """Put KL(base || model) into the rows of the retained facts' own prompts."""
    wanted = [r for r in rows if r["side"] == "retain" and r["kind"] == "prompt"]
    values = divergences(base, model, [r["prompt"] for r in wanted], progress=progress)
    for row, value in zip(wanted, values, strict=True):
        row["kl"] = value
