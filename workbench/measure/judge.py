"""From questions to judged rows: what the model answers, and what is measured of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from workbench.errors import WorkbenchError
from workbench.facts.fact import Behaviour, Replace
from workbench.facts.multiple_choice import LETTERS
from workbench.facts.prompts import continuation
from workbench.measure.answers import is_refusal, is_right, leaks, letter_of
from workbench.measure.questions import Question, answer_all
from workbench.measure.text_metrics import divergences, rouge_l, teacher_forced
from workbench.models.model import Model
from workbench.models.text import next_token_logits
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
    lettered = [i for i, q in enumerate(questions) if q.kind == "mcq" and _by_letter(q)]
    choices = _letters_by_logits(model, [questions[i] for i in lettered], progress)
    worded = [i for i, q in enumerate(questions) if q.kind == "mcq" and not _by_letter(q)]
    choices += _options_by_logits(model, [questions[i] for i in worded], progress)
    for i, choice in zip(lettered + worded, choices, strict=True):
        first, last = choice
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
    if question.kind == "mcq":
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


def _letters_by_logits(
    model: Model, questions: Sequence[Question], progress: Progress
) -> list[tuple[str, str]]:
    """Return the likeliest and the least likely option letter of each multiple-choice prompt."""
    out: list[tuple[str, str]] = []
    step = 64  # a vocabulary of logits for 64 prompts at a time
    for start in progress.track(range(0, len(questions), step), "letters"):
        part = questions[start : start + step]
        logits = next_token_logits(model, [q.prompt for q in part])
        for q, row in zip(part, logits, strict=True):
            right = q.target.strip()
            lead = q.target[: len(q.target) - len(q.target.lstrip())]
            n = max(len(q.fact.choices) or 4, LETTERS.find(right) + 1)
            ids = [continuation(model, q.prompt, lead + letter)[0] for letter in LETTERS[:n]]
            of_letters = row[torch.tensor(ids, device=row.device)]
            out.append((LETTERS[int(of_letters.argmax())], LETTERS[int(of_letters.argmin())]))
    return out


def _options_by_logits(
    model: Model, questions: Sequence[Question], progress: Progress
) -> list[tuple[str, str]]:
    """Return the likeliest and the least likely of the fact's choices behind each prompt."""
    options = [q.fact.choices or (q.target.strip(),) for q in questions]
    prompts = [q.prompt for q, own in zip(questions, options, strict=True) for _ in own]
    forced = teacher_forced(model, prompts, [f" {o}" for own in options for o in own])
    progress.step(len(questions), len(questions), "options")
    scores = iter(f.log_probability for f in forced)
    ranked = [sorted(own, key=dict(zip(own, scores, strict=False)).__getitem__) for own in options]
    return [(own[-1], own[0]) for own in ranked]


def add_divergence(
    rows: Sequence[dict[str, Any]], base: Model, model: Model, progress: Progress
) -> None:
    """Put KL(base || model) into the rows of the retained facts' own prompts."""
    wanted = [r for r in rows if r["side"] == "retain" and r["kind"] == "prompt"]
    values = divergences(base, model, [r["prompt"] for r in wanted], progress=progress)
    for row, value in zip(wanted, values, strict=True):
        row["kl"] = value
