"""Whether a repair did what its plan asks for, and nothing else."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from workbench.attack.attack import Cell
from workbench.attack.relearn import RelearnConfig, relearn
from workbench.facts.fact import FactSet, Request
from workbench.measure.scorecard import Scorecard
from workbench.models.model import Model
from workbench.models.text import generate
from workbench.progress import SILENT, Progress
from workbench.repair.beside import share_alike
from workbench.repair.exam import RepairExam
from workbench.repair.keeping import rightly
from workbench.repair.plan import Check, RepairPlan

AT_MOST: tuple[Check, ...] = ("forgotten", "perplexity", "relearned")  # the other limits: at least
_OPEN = ("prompt", "paraphrase", "statement", "held_out", "held_out_statement")
_EARLIER = 60  # facts of earlier repairs that are asked for again
_SHORT = RelearnConfig(data=("unrelated",), kinds=("full",), steps=(6,), lrs=(3e-4,), most=96)
_BATCH, _CHATS = 16, 8  # examples a step; those of a chat model are several times as long


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


def examine_repair(
    base: Model,
    repaired: Model,
    plan: RepairPlan,
    exam: RepairExam,
    *,
    earlier: FactSet,
    progress: Progress = SILENT,
) -> Examination:
    """Ask a repaired model all that its plan's checks need.

    Whether a short training brings the facts back is looked at only where all else is well.

    Args:
        base: the patient before any repair.
        repaired: the patient with every repair in force.
        plan: the latest repair.
        exam: what is asked.
        earlier: the facts of the other repairs, which must stay gone.
        progress: where to report.
    """
    before, after = exam.before, exam.card(repaired, progress=progress)
    values = {
        "forgotten": max(
            _right(after, "forget") or 0.0, _still_there(repaired, earlier, plan.seed)
        ),
        "instead": after.value(after.outcome),
        "beside": _ratio(_right(before, "retain"), _right(after, "retain")),
        "aside": share_alike(repaired, exam.asides, exam.request.behaviour),
        "kept": _ratio(exam.base_kept, exam.share_kept(repaired, progress=progress)),
        "neighbors": _ratio(before.value("neighborhood"), after.value("neighborhood")),
        "perplexity": _ratio(exam.base_perplexity, exam.perplexity(repaired, progress=progress)),
    }
    limits = plan.limits.model_dump()

    def found(check: Check) -> Found:
        return Found(check, values[check], limits[check], check in AT_MOST)

    checks = [found(check) for check in dict.fromkeys(plan.checks) if check in values]
    if "relearned" in plan.checks and all(one.met for one in checks):
        values["relearned"] = _brought_back(repaired, base, exam.request, plan.seed, progress)
        checks.append(found("relearned"))
    return Examination(tuple(checks), before, after)


def _right(card: Scorecard, side: str) -> float | None:
    """Return the share of all open wordings that are answered rightly, None without one."""
    table = card.answers
    own = table[(table["side"] == side) & table["kind"].isin(_OPEN)]
    return float(own["right"].mean()) if len(own) else None


def _still_there(model: Model, facts: FactSet, seed: int) -> float:
    """Return the share of earlier repairs' facts that are answered again."""
    if not facts:
        return 0.0
    asked = random.Random(seed).sample(list(facts), min(len(facts), _EARLIER))
    return sum(rightly(asked, generate(model, [f.prompt for f in asked]))) / len(asked)


def _ratio(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None or before == 0 else after / before


def _brought_back(
    model: Model, base: Model, exam: Request, seed: int, progress: Progress
) -> float | None:
    """Return the share of the forgotten prompts right after a short training on kept facts."""
    config = replace(_SHORT, seed=seed, batch=_CHATS if base.tokenizer.chat_template else _BATCH)
    cells: Sequence[Cell] = relearn(model, exam, config, base=base, progress=progress)
    free = [c for c in cells if c.setting.get("asked", "free") == "free" and c.outcomes]
    return max((sum(o.value for o in c.outcomes) / len(c.outcomes) for c in free), default=None)
