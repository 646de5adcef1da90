"""Everyday questions to a chat model: what an edit about something else must not touch."""

from __future__ import annotations

import csv
from io import StringIO

from workbench.facts.fact import Fact, FactSet
from workbench.facts.prompts import chat
from workbench.facts.readers import read_text
from workbench.models.model import Model
from workbench.models.paths import data_dir


def everyday_questions(model: Model) -> FactSet:
    """Return the bundled questions in the model's chat form; none if it has no such form."""
    if not model.tokenizer.chat_template:
        return FactSet()
    table = csv.DictReader(StringIO(read_text(data_dir() / "everyday.csv")))
    return FactSet(
        tuple(
            Fact(
                subject=row["question"],
                prompt=chat(model, row["question"]),
                target=row["answer"],
                relation="everyday",
                extra={
                    "question": row["question"],
                    "answer": [row["answer"], *filter(None, row["also"].split("|"))],
                },
            )
            for row in table
        )
    )
