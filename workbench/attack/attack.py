"""What every attack returns, and how much of the removed knowledge that is.

An attack asks about the forget facts in several settings. One setting is a `Cell`: an outcome for
each question. The same attack runs on the edited model, on the base and, where there is one, on an
oracle that never learned the facts, with the same questions and seeds:

    known      = (value - chance) / (1 - chance)      correction for guessing
    recovered  = (known - before) / (base - before)

`before` and `base` are the plain accuracies of the edited model and of the base on the same facts:
their own prompts, free greedy generation, no attack. 0 = the attack brings nothing back, 1 =
everything that was removed. Guessing differs from model to model where it is measured, so each
model's cell is corrected by its own chance. What the oracle "recovers" was never there: that much
is guessing, or comes with the attack, and an edit is as good as it gets where its number is the
oracle's.

Source: Lynch et al. 2024 (arXiv 2402.16835), who ask an unlearned model in eight ways and compare
it with the original and with one that never knew; Deeb & Roger 2024 (arXiv 2410.08827), recovered
accuracy as a share of the accuracy before unlearning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact
from workbench.facts.readers import parse_json, read_text
from workbench.measure.statistics import score
from workbench.models.atomic import write_json

FORMAT = "workbench-attack-1"
MEASURES = (
    *("n", "value", "low", "high", "chance", "before", "base", "base_attacked"),
    *("oracle_attacked", "recovered", "oracle_recovered", "note"),
)
EXAMPLES = ("subject", "prompt", "target", "before", "after", "value")
Value = str | int | float


@dataclass(frozen=True)
class Outcome:
    """One question under attack.

    Attributes:
        fact: the fact to forget that it is about.
        prompt: what the model was given.
        answer: what it said or chose.
        value: 1 if that is right, 0 if not; between them a probability or a share.
    """

    fact: Fact
    prompt: str
    answer: str
    value: float


@dataclass(frozen=True)
class Cell:
    """One setting of an attack.

    Attributes:
        setting: what is varied, such as {"bits": 4, "group": "row"}; an attack's cells share the
            names, and a setting stands for one cell only.
        outcomes: one a question.
        chance: the value that blind guessing would have.
        note: what should be known about the cell, such as why it has no outcome.
    """

    setting: Mapping[str, Value]
    outcomes: tuple[Outcome, ...]
    chance: float = 0.0
    note: str = ""

    def __post_init__(self) -> None:
        """Make the setting read-only."""
        object.__setattr__(self, "setting", MappingProxyType(dict(self.setting)))

    @property
    def value(self) -> float:
        """Mean outcome, NaN if there is none."""
        return float(np.mean([o.value for o in self.outcomes])) if self.outcomes else math.nan


@dataclass(frozen=True)
class Plain:
    """What a model answers to the forget facts' own prompts, by the facts' keys."""

    outcomes: Mapping[tuple[str, str], Outcome]

    def value(self, cell: Cell) -> float:
        """Mean over a cell's questions of whether their facts are answered without an attack."""
        values = [self.outcomes[o.fact.key].value for o in cell.outcomes]
        return float(np.mean(values)) if values else math.nan


@dataclass(frozen=True, eq=False)
class AttackResult:
    """One attack on one edited model.

    Attributes:
        attack: its name.
        config: its settings.
        cells: one row a cell: the setting's columns, then `MEASURES`.
        examples: some answers of each cell: the setting's columns, then `EXAMPLES`.
        origin: names and fingerprints of model, base, oracle and request.
        seconds: wall time, base and oracle included.
        failed: why the attack could not run, in one sentence.
        diagnostic: whether the attack brings the base's knowledge along.
    """

    attack: str
    config: Mapping[str, Any]
    cells: pd.DataFrame
    examples: pd.DataFrame
    origin: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    failed: str = ""
    diagnostic: bool = False

    def __post_init__(self) -> None:
        """Make the mappings read-only."""
        object.__setattr__(self, "config", MappingProxyType(dict(self.config)))
        object.__setattr__(self, "origin", MappingProxyType(dict(self.origin)))

    @property
    def settings(self) -> tuple[str, ...]:
        """Names of the columns that are the cells' settings."""
        return tuple(c for c in self.cells.columns if c not in MEASURES)

    @property
    def worst(self) -> pd.Series | None:
        """The cell that brings most back; None if nothing could be measured."""
        measured = self.cells["recovered"].dropna()
        return None if measured.empty else self.cells.loc[measured.idxmax()]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "format": FORMAT,
            "attack": self.attack,
            "config": dict(self.config),
            "cells": frame_json(self.cells),
            "examples": frame_json(self.examples),
            "origin": dict(self.origin),
            "seconds": self.seconds,
            "failed": self.failed,
            "diagnostic": self.diagnostic,
        }

    @staticmethod
    def from_json(data: Any) -> AttackResult:
        """Read what `to_json` wrote.

        Raises:
            WorkbenchError: it is no attack's result of this format.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise WorkbenchError(
                "This is no result of an attack that this workbench wrote; attack again."
            )
        try:
            cells, examples = (frame_of(data[name]) for name in ("cells", "examples"))
            numbers = [m for m in MEASURES if m != "note"]
            cells[numbers] = cells[numbers].astype(float)
            rest = {k: v for k, v in data.items() if k not in ("format", "cells", "examples")}
            return AttackResult(cells=cells, examples=examples, **rest)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WorkbenchError(
                f"The attack's result is damaged ({error}); attack again."
            ) from error

    def save(self, path: str | Path) -> None:
        """Write a JSON file."""
        write_json(Path(path), self.to_json())

    @staticmethod
    def load(path: str | Path) -> AttackResult:
        """Read what `save` wrote.

        Raises:
            WorkbenchError: there is no such file, or it is no attack's result.
        """
        return AttackResult.from_json(parse_json(read_text(Path(path)), str(path)))


def frame_json(table: pd.DataFrame) -> dict[str, Any]:
    """Return a table as plain JSON types; what is missing becomes null."""
    plain = table.astype(object).where(table.notna(), None)
    return {"columns": list(plain.columns), "rows": plain.to_numpy().tolist()}


def frame_of(data: Mapping[str, Any]) -> pd.DataFrame:
    """Read what `frame_json` wrote."""
    return pd.DataFrame(data["rows"], columns=data["columns"]).infer_objects()


def recovered(known: float, before: float, base: float) -> float:
    """Return (known - before) / (base - before); NaN where nothing was removed."""
    removed = base - before
    return (known - before) / removed if removed > 0 else math.nan


def known(cell: Cell) -> float:
    """Return the value corrected for guessing, (value - chance) / (1 - chance)."""
    return (cell.value - cell.chance) / (1 - cell.chance) if cell.chance < 1 else math.nan


def cell_row(
    cell: Cell, on_base: Cell | None, on_oracle: Cell | None, before: Plain, base: Plain, seed: int
) -> dict[str, Any]:
    """Make the row of one cell from what edited model, base and oracle answered in it.

    Args:
        cell: the edited model's.
        on_base: the base's with the same setting.
        on_oracle: the oracle's, if there is one.
        before: the edited model's plain answers.
        base: the base's.
        seed: of the interval.
    """
    values = [o.value for o in cell.outcomes]
    subjects = [o.fact.subject for o in cell.outcomes]
    mean = score(values, subjects, proportion=set(values) <= {0.0, 1.0}, seed=seed)
    old, new = base.value(cell), before.value(cell)
    note = cell.note
    if mean is not None and not old > new:
        note = " ".join(filter(None, (note, _nothing_removed(old, new))))
    return {
        **cell.setting,
        "n": float(len(values)),
        "value": mean.value if mean else math.nan,
        "low": mean.low if mean else math.nan,
        "high": mean.high if mean else math.nan,
        "chance": cell.chance,
        "before": new,
        "base": old,
        "base_attacked": on_base.value if on_base else math.nan,
        "oracle_attacked": on_oracle.value if on_oracle else math.nan,
        "recovered": recovered(known(cell), new, old),
        "oracle_recovered": recovered(known(on_oracle), new, old) if on_oracle else math.nan,
        "note": note,
    }


def _nothing_removed(base: float, before: float) -> str:
    return (
        f"Without an attack the edited model answers {before:.2f} of these facts and the base "
        f"{base:.2f}, so nothing was removed that could come back."
    )


def example_rows(cell: Cell, before: Plain, count: int) -> list[dict[str, Any]]:
    """Return some of a cell's answers, those that came back first."""

    def returned(outcome: Outcome) -> float:
        return before.outcomes[outcome.fact.key].value - outcome.value

    chosen: Sequence[Outcome] = sorted(cell.outcomes, key=returned)[:count]
    return [
        {
            **cell.setting,
            "subject": o.fact.subject,
            "prompt": o.prompt,
            "target": o.fact.target,
            "before": before.outcomes[o.fact.key].answer,
            "after": o.answer,
            "value": o.value,
        }
        for o in chosen
    ]
