"""Whether a repair did what its plan asks for, and nothing else."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from workbench.attack.attack import Cell
from workbench.attack.relearn import RelearnConfig, relearn
from workbench.facts.accepted import accepted
from workbench.facts.fact import Fact, FactSet, Request
from workbench.measure.answers import is_right
from workbench.measure.scorecard import Scorecard, measure
from workbench.models.model import Model
from workbench.models.text import generate
from workbench.progress import SILENT, Progress
from workbench.repair.catalog import Catalog
from workbench.repair.plan import Check, RepairPlan

AT_MOST: tuple[Check, ...] = ("forgotten", "perplexity", "relearned")  # the other limits: at least
_OPEN = ("prompt", "paraphrase", "statement", "held_out", "held_out_statement")
_KEPT = 40  # held-back facts that are asked for
_TEXTS = 60  # neutral texts
_EARLIER = 60  # facts of earlier repairs that are asked for again
_SHORT = RelearnConfig(data=("unrelated",), kinds=("full",), steps=(6,), lrs=(3e-4,), most=96)


@dataclass(frozen=True)
class Found:
    """One limit of a plan, and what was found.

    Attributes:
        check: which.
        value: what was found; None where there was nothing to ask.
        limit: what the plan asks for.
        low: whether it must not be above the limit, rather than not below it.
    """

    check: Check
    value: float | None
    limit: float
    low: bool

    @property
    def met(self) -> bool:
        """Whether the limit is met; what cannot be asked is."""
        if self.value is None:
            return True
        if math.isnan(self.value):
            return False
        near = 1e-9
        return self.value <= self.limit + near if self.low else self.value >= self.limit - near

    def __str__(self) -> str:
        """Say it in a few words."""
        if self.value is None:
            return f"{self.check}: nothing to ask"
        sign = "at most" if self.low else "at least"
        return f"{self.check} {self.value:.2f} ({sign} {self.limit:.2f})"


@dataclass(frozen=True, eq=False)
class Examination:
    """What a repaired model says.

    Attributes:
        found: every check.
        before: the base's scorecard.
        after: the repaired model's.
    """

    found: tuple[Found, ...]
    before: Scorecard
    after: Scorecard

    @property
    def failed(self) -> tuple[Found, ...]:
        """The limits that are not met."""
        return tuple(f for f in self.found if not f.met)

    @property
    def answers(self) -> pd.DataFrame:
        """The forgotten facts' questions with the base's answers and the model's, side by side."""
        table = self.after.answers
        own = table[(table["side"] == "forget") & table["kind"].isin(_OPEN)]
        columns = ["kind", "prompt", "base_answer", "answer"]
        return pd.DataFrame(own, columns=columns).reset_index(drop=True)

    def to_json(self) -> list[dict[str, Any]]:
        """Return every check in plain JSON types."""
        return [{**asdict(f), "met": f.met} for f in self.found]


def exam_of(catalog: Catalog, plan: RepairPlan, gone: FactSet) -> Request:
    """Return what is asked after a repair: its facts, the rest of its subject, some held-back ones.

    Args:
        catalog: what is on file.
        plan: the repair.
        gone: the facts of earlier repairs, which nobody need answer any more.
    """
    forget = plan.forget
    request = catalog.request(forget, replaced=plan.action == "correct", gone=gone)
    beside = request.retain.about([plan.subject])
    held_back = request.evaluate
    if len(held_back) > _KEPT:
        chosen = random.Random(plan.seed).sample(range(len(held_back)), _KEPT)
        held_back = FactSet(tuple(held_back[i] for i in sorted(chosen)))
    names = set(gone.subjects)
    held_back = FactSet(tuple(_asked_once(f) for f in held_back))
    spared = FactSet(
        tuple(
            replace(f, neighbors=tuple(p for p in f.neighbors if not _names(p.prompt, names)))
            for f in forget
        )
    )
    return replace(request, forget=spared, evaluate=beside + held_back)


def exam_options(catalog: Catalog, plan: RepairPlan, progress: Progress) -> dict[str, Any]:
    """Return how an exam is measured."""
    return {"neutral": catalog.neutral[:_TEXTS], "seed": plan.seed, "progress": progress}


def _asked_once(fact: Fact) -> Fact:
    """Leave a fact's own prompt only: there are many others."""
    nothing: dict[str, Any] = {"paraphrases": (), "statements": (), "held_out": (), "choices": ()}
    return replace(fact, **nothing, mcq=())


def _names(text: str, subjects: set[str]) -> bool:
    return any(subject in text for subject in subjects)


def examine_repair(
    base: Model,
    repaired: Model,
    catalog: Catalog,
    plan: RepairPlan,
    exam: Request,
    before: Scorecard,
    *,
    earlier: FactSet,
    progress: Progress = SILENT,
) -> Examination:
    """Ask a repaired model all that its plan's checks need.

    Args:
        base: the patient before any repair: what stays is measured by it, so that many small
            losses cannot add up unseen.
        repaired: the patient with every repair in force.
        catalog: what is on file.
        plan: the latest repair.
        exam: what is asked, by `exam_of`.
        before: the base's scorecard of the exam.
        earlier: the facts of the others, which must stay gone.
        progress: where to report.
    """
    after = measure(repaired, exam, base_card=before, **exam_options(catalog, plan, progress))
    values = {
        "forgotten": max(_right(after, "forget"), _still_there(repaired, earlier, plan.seed)),
        "instead": after.value(after.outcome),
        "beside": _share(before, after, plan.subject, beside=True),
        "kept": _share(before, after, plan.subject, beside=False),
        "neighbors": _ratio(before.value("neighborhood"), after.value("neighborhood")),
        "perplexity": _ratio(before.value("perplexity"), after.value("perplexity")),
    }
    if "relearned" in plan.checks:
        values["relearned"] = _brought_back(repaired, base, exam, plan.seed, progress)
    limits = plan.limits.model_dump()
    return Examination(
        tuple(Found(c, values[c], limits[c], c in AT_MOST) for c in dict.fromkeys(plan.checks)),
        before,
        after,
    )


def _right(card: Scorecard, side: str) -> float:
    """Return the share of all open wordings that are answered rightly."""
    table = card.answers
    own = table[(table["side"] == side) & table["kind"].isin(_OPEN)]
    return float(own["right"].mean())


def _still_there(model: Model, facts: FactSet, seed: int) -> float:
    """Return the share of earlier repairs' facts that are answered again."""
    if not facts:
        return 0.0
    asked = random.Random(seed).sample(list(facts), min(len(facts), _EARLIER))
    return sum(rightly(asked, generate(model, [f.prompt for f in asked]))) / len(asked)


def rightly(facts: Iterable[Fact], answers: Iterable[str]) -> list[bool]:
    """Return whether each fact's own prompt is answered rightly."""
    return [is_right(a, accepted(f)) for f, a in zip(facts, answers, strict=True)]


def _share(before: Scorecard, after: Scorecard, subject: str, *, beside: bool) -> float | None:
    """Return kept facts' accuracy as a share of the base's, about the subject or the others."""

    def mean(card: Scorecard) -> float | None:
        table = card.answers
        own = table[(table["side"] == "retain") & table["kind"].isin(_OPEN)]
        own = own[(own["subject"] == subject) == beside]
        return float(own["right"].mean()) if len(own) else None

    return _ratio(mean(before), mean(after))


def _ratio(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None or before == 0 else after / before


def _brought_back(
    model: Model, base: Model, exam: Request, seed: int, progress: Progress
) -> float | None:
    """Return the share of the forgotten prompts right after a short training on kept facts."""
    config = replace(_SHORT, seed=seed)
    cells: Sequence[Cell] = relearn(model, exam, config, base=base, progress=progress)
    free = [c for c in cells if c.setting.get("asked", "free") == "free" and c.outcomes]
    return max((sum(o.value for o in c.outcomes) / len(c.outcomes) for c in free), default=None)
