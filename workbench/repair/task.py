"""A whole request from plain sentences: one for each subject, repaired and verified one by one.

RePAIR's three tasks (arXiv 2604.12820, Table 2) are harmful knowledge, misinformation and personal
data. Here each is carried out as a user would: a sentence is heard, planned, tried until it meets
its limits, and kept or refused; then the whole request is measured as any edit is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, Replace, Request
from workbench.measure.scorecard import Scorecard, measure
from workbench.models.model import Model
from workbench.progress import SILENT, Progress
from workbench.repair.intent import Turn
from workbench.repair.service import NOTHING_ASKED, Service
from workbench.repair.trial import noun_of

COLUMNS = ("sentence", "repaired", "tried", "cpu_seconds", "reason")


@dataclass(frozen=True, eq=False)
class Task:
    """What came of the sentences of one request.

    Attributes:
        table: one row a sentence: whether it was repaired, after how many tries, what it took from
            the sentence to the verified edit, and the reason where it was refused.
        card: the patient at the end, with every repair in force, under the request.
    """

    table: pd.DataFrame
    card: Scorecard

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all sentences."""
        return float(self.table["cpu_seconds"].sum())

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "cpu_seconds": self.cpu_seconds,
            "sentences": self.table.to_dict("records"),
            "scores": self.card.to_json()["scores"],
        }


def run_task(
    base: Model,
    request: Request,
    *,
    neutral: tuple[str, ...] = (),
    facts: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Task:
    """Say what a request asks for, a sentence a subject, and measure what is left.

    Args:
        base: the patient before any repair; its own ledger is left alone.
        request: what to forget, or to correct where it wants the foils said.
        neutral: texts for the perplexity.
        facts: a fact file about the model's world; by default what the workbench knows of it.
        limit: most kept facts to ask about.
        seed: of every draw.
        progress: where to report.

    Raises:
        WorkbenchError: nothing is on file about the model's world.
        Cancelled: the progress asked to stop.
    """
    rows = []
    with TemporaryDirectory() as folder:
        service = Service.open(
            base, folder=Path(folder) / "ledger", facts=facts, seed=seed, progress=progress
        )
        for sentence in progress.track(sentences(request), "sentences"):
            start = time.process_time()
            tried, reason = 0, ""
            try:
                tried = _carried_out(service, sentence, progress)
            except WorkbenchError as error:
                reason = str(error)
            seconds = time.process_time() - start
            rows.append((sentence, not reason, tried, seconds, reason))
        card = measure(
            *(service.patient.model, request),
            neutral=neutral,
            limit=limit,
            seed=seed,
            progress=progress,
        )
    return Task(pd.DataFrame(rows, columns=list(COLUMNS)), card)


def _carried_out(service: Service, sentence: str, progress: Progress) -> int:
    """Repair what one sentence asks for; return how many tries it took.

    Raises:
        WorkbenchError: it is not heard, or refused.
    """
    proposals = service.hear([Turn("user", sentence)], progress=progress)
    if not proposals:
        raise WorkbenchError(NOTHING_ASKED)
    return sum(service.carry_out(p.plan, progress=progress)[0].tried for p in proposals)


def sentences(request: Request) -> list[str]:
    """Return what a user would say for a request: a sentence a subject, or one for each correction.

    Everything about a subject is named at once where the request keeps nothing about it.
    """
    if isinstance(request.behaviour, Replace):
        return [_correction(fact) for fact in request.forget]
    kept = set(request.retain.subjects) | set(request.evaluate.subjects)
    out = {}
    for fact in request.forget:
        if fact.subject in kept:
            out[f"Please forget {fact.subject}'s {noun_of(fact)}."] = None
        else:
            out[f"Please forget everything about {fact.subject}."] = None
    return list(out)


def _correction(fact: Fact) -> str:
    right, wrong = (fact.foil or "").strip(), fact.target.strip()
    return f"The {noun_of(fact)} of {fact.subject} is {right}, not {wrong}."
