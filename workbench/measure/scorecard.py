"""The scorecard: every measure of one model under one request, each with n and an interval.

Answers are free greedy generations, judged by `answers.py`: `_f` is over the forget facts, `_r`
over the evaluation facts (the retain facts if the request holds none back), `everyday` over
questions about nothing in the request. `MEASURES` says of which questions each is the mean.
Besides: `perplexity` on neutral texts (RePAIR's utility) and
`kl_r`, KL(base || model) at the last position of the retained prompts.

`mcq_*` is by logits over the options (their letters, or their words), the harder test for an edit
that only refuses; `mcq_generated_*` is by generation. `leak_f` counts the forgotten answer anywhere
in the text.
Measures without a question are None, never 0. Cost: one generation pass over all different prompts,
one forward pass over prompts with targets, one over the letter questions and one over the texts.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, Request
from workbench.measure.judge import add_divergence, judged
from workbench.measure.measures import MEASURES, PICTURED
from workbench.measure.questions import ask, asked_in
from workbench.measure.statistics import Score, score
from workbench.measure.text_metrics import negative_log_likelihoods
from workbench.models.model import Model
from workbench.models.pictured import pictures_of
from workbench.progress import SILENT, Progress

FORMAT = "workbench-scorecard-1"
NO_OP = "failed: no-op"
EPSILON = 1e-3  # least mean change of the target's probability that counts as an edit

COLUMNS = (
    *("side", "kind", "subject", "relation", "prompt", "target", "base_answer", "answer"),
    *("right", "refused", "leaked", "choice_right", "replaced", "rouge_l", "rouge_l_recall"),
    *("probability", "rank", "kl"),
)
_TEXT_COLUMNS = 8
_PROPORTIONS = frozenset({"right", "refused", "leaked", "choice_right", "replaced"})


@dataclass(frozen=True, eq=False)
class Scorecard:
    """What one model answers to one request's questions.

    Attributes:
        model: name of the measured model.
        model_fingerprint: SHA-256 of its parameters.
        request: name of the request.
        request_fingerprint: SHA-256 of its facts and behaviour.
        scores: measure -> score, None where there was nothing to measure.
        answers: one row a question, with the base's answer beside the model's.
        config: seed and limit, all that is needed to measure again.
        verdict: "base" without a base to compare with, "changed", or "failed: no-op".
    """

    model: str
    model_fingerprint: str
    request: str
    request_fingerprint: str
    scores: Mapping[str, Score | None]
    answers: pd.DataFrame
    config: Mapping[str, Any] = field(default_factory=dict)
    verdict: str = "base"

    def __post_init__(self) -> None:
        """Make the mappings read-only."""
        object.__setattr__(self, "scores", MappingProxyType(dict(self.scores)))
        object.__setattr__(self, "config", MappingProxyType(dict(self.config)))

    @property
    def no_op(self) -> bool:
        """Whether the edit changed nothing about the forget facts."""
        return self.verdict == NO_OP

    @property
    def utility(self) -> float | None:
        """Harmonic mean of the retained accuracies that were measured."""
        names = ("acc_r", "paraphrase_r", "statement_r", "held_out_r", "neighborhood")
        values = [v for v in map(self.value, names) if v is not None]
        if not values:
            return None
        return 0.0 if 0 in values else len(values) / sum(1 / v for v in values)

    @property
    def outcome(self) -> str:
        """Name of the measure of what is to be said instead: `replaced_f` or `refusal_f`."""
        return "replaced_f" if self.scores.get("replaced_f") else "refusal_f"

    def value(self, measure: str) -> float | None:
        """Return the mean of one measure, None if there was nothing to measure."""
        found = self.scores.get(measure)
        return found.value if found else None

    def summary(self) -> dict[str, float | None]:
        """Return every mean by name, utility included."""
        return {**{name: self.value(name) for name in self.scores}, "utility": self.utility}

    def to_frame(self) -> pd.DataFrame:
        """Return one row a measure: value, n, low, high; unmeasured ones left out."""
        rows = [{"measure": name, **asdict(s)} for name, s in self.scores.items() if s]
        return pd.DataFrame(rows, columns=["measure", "value", "n", "low", "high"])

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        plain = self.answers.astype(object).where(self.answers.notna(), None)
        return {
            "format": FORMAT,
            "model": self.model,
            "model_fingerprint": self.model_fingerprint,
            "request": self.request,
            "request_fingerprint": self.request_fingerprint,
            "config": dict(self.config),
            "verdict": self.verdict,
            "scores": {name: asdict(s) if s else None for name, s in self.scores.items()},
            "answers": {"columns": list(plain.columns), "rows": plain.to_numpy().tolist()},
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Scorecard:
        """Read what `to_json` wrote.

        Raises:
            WorkbenchError: it is not a scorecard of this format.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise WorkbenchError(
                "This is not a scorecard that this workbench wrote; measure again."
            )
        keys = ("model", "model_fingerprint", "request", "request_fingerprint")
        try:
            scores = {name: Score(**s) if s else None for name, s in data["scores"].items()}
            answers = _frame(data["answers"]["rows"], data["answers"]["columns"])
            named = {key: data[key] for key in keys}
            return Scorecard(
                **named,
                scores=scores,
                answers=answers,
                config=data["config"],
                verdict=data["verdict"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WorkbenchError(f"The scorecard is damaged ({error}); measure again.") from error


def measure(
    model: Model,
    request: Request,
    *,
    base: Model | None = None,
    base_card: Scorecard | None = None,
    neutral: Sequence[str] = (),
    everyday: Iterable[Fact] = (),
    limit: int | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Scorecard:
    """Measure a model under a request.

    Args:
        model: the model, edited or not.
        request: what was to be forgotten and kept.
        base: the model before the edit; measured too unless `base_card` is given.
        base_card: what `measure` returned for the base under the same request, seed and limit.
        neutral: texts for the perplexity.
        everyday: questions about nothing in the request, whose answers must stay.
        limit: most retained facts to ask about, drawn by the seed; None for all of them.
        seed: of that draw, of the order of choices and of the intervals.
        progress: where to report.

    Raises:
        WorkbenchError: `base_card` belongs to other questions, the limit is not positive, or the
            model's output is not finite.
    """
    if limit is not None and limit < 1:
        raise WorkbenchError(f"The limit of retained facts must be at least 1, not {limit}.")
    config = {"seed": seed, "limit": limit, "n_neutral": len(neutral)}
    everyday = tuple(everyday)
    config["n_everyday"] = len(everyday)
    _check_base(base_card, request, config)
    if base is not None and base_card is None:
        base_card = measure(
            base,
            request,
            neutral=neutral,
            everyday=everyday,
            limit=limit,
            seed=seed,
            progress=progress,
        )
    questions = ask(model, request, _retained(request, limit, seed), everyday, seed=seed)
    rows = judged(model, questions, request.behaviour, progress)
    if base is not None:
        add_divergence(rows, base, model, progress)
    table = _frame([[row.get(c) for c in COLUMNS] for row in rows], COLUMNS)
    if base_card is not None:
        known = dict(zip(asked_in(base_card.answers), base_card.answers["answer"], strict=True))
        table["base_answer"] = [known.get(question) for question in asked_in(table)]
    scores = {name: _score(table, *where, seed) for name, where in MEASURES.items()}
    # A text before a prompt may show pictures too; the fact says whether its subject is shown.
    shown = np.array([bool(q.fact.image and pictures_of(q.prompt)) for q in questions], dtype=bool)
    if shown.any():
        for name, (*where, pictured) in PICTURED.items():
            part = table if pictured is None else table[shown == pictured]
            scores[name] = _score(part, *where, seed)
    scores["perplexity"] = perplexity(model, neutral, seed=seed, progress=progress)
    return Scorecard(
        model.name,
        model.fingerprint,
        request.name,
        request.fingerprint,
        scores,
        table,
        config,
        _verdict(table, base_card),
    )


def _check_base(card: Scorecard | None, request: Request, config: Mapping[str, Any]) -> None:
    """Refuse a base card whose answers are to other questions."""
    if card is None:
        return
    drawn = {k: card.config.get(k) for k in ("seed", "limit")}
    if card.request_fingerprint != request.fingerprint or any(drawn[k] != config[k] for k in drawn):
        raise WorkbenchError(
            "The base's scorecard was measured under another request, seed or limit; measure the "
            "base again."
        )


def _retained(request: Request, limit: int | None, seed: int) -> list[Fact]:
    """Return the facts that must stay, at most `limit`, in their own order."""
    facts = list(request.evaluate or request.retain)
    if limit is None or limit >= len(facts):
        return facts
    drawn = random.Random(seed).sample(range(len(facts)), limit)
    return [facts[i] for i in sorted(drawn)]


def _frame(rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Make the table of answers; judgements are floats, missing where a kind has none."""
    table = pd.DataFrame(list(rows), columns=list(columns), dtype=object)
    for column in columns[_TEXT_COLUMNS:]:
        table[column] = pd.Series(table[column]).astype(float)
    return table


def _score(table: pd.DataFrame, side: str, kind: str, column: str, seed: int) -> Score | None:
    part = table[(table["side"] == side) & (table["kind"] == kind) & table[column].notna()]
    groups = list(zip(part["subject"], part["relation"], strict=True))
    return score(part[column].tolist(), groups, proportion=column in _PROPORTIONS, seed=seed)


def perplexity(
    model: Model, texts: Sequence[str], *, seed: int = 0, progress: Progress = SILENT
) -> Score | None:
    """Return a model's perplexity on texts, None if there is no token to predict in them."""
    measured = negative_log_likelihoods(model, texts, progress=progress) if texts else []
    measured = [(loss, n) for loss, n in measured if n]
    mean = score([x for x, _ in measured], weights=[n for _, n in measured], seed=seed)
    if mean is None:
        return None
    value, low, high = (math.exp(min(x, 700.0)) for x in (mean.value, mean.low, mean.high))
    return Score(value, mean.n, low, high)


def _verdict(table: pd.DataFrame, base_card: Scorecard | None) -> str:
    """Say whether the forget facts' answers or probabilities moved at all."""
    if base_card is None:
        return "base"
    mine, theirs = (
        t[(t["side"] == "forget") & (t["kind"] != "neighbor")] for t in (table, base_card.answers)
    )
    same = mine["answer"].tolist() == theirs["answer"].tolist()
    before, after = (np.asarray(t["probability"], dtype=float) for t in (theirs, mine))
    moved = float(np.nanmean(np.abs(after - before)))
    return NO_OP if same and moved < EPSILON else "changed"
