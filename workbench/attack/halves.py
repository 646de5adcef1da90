"""A forget set in two halves: one is taught again, the other is asked, and the other way round.

Facts about one subject stay together, and nothing that is taught names a subject that is asked. So
an answer that comes back was still there: nobody told it.

Source: Deeb & Roger 2024 (arXiv 2410.08827): what was unlearned is split into independent parts,
some are taught again, and the others are asked.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from workbench.edit.forms import prompts_of
from workbench.edit.train.examples import Examples, examples
from workbench.edit.train.lessons import answer_at, end_of_answer
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet
from workbench.models.model import Model


@dataclass(frozen=True)
class Half:
    """One direction of the split.

    Attributes:
        taught: facts whose true answers are given.
        tested: facts that are asked, about other subjects.
    """

    taught: FactSet
    tested: FactSet


def halves(facts: FactSet, *, seed: int = 0) -> tuple[Half, Half]:
    """Split facts in two by their subjects and return both directions.

    Args:
        facts: what to split; every fact is tested in exactly one direction.
        seed: of the draw of the subjects.

    Raises:
        WorkbenchError: there are fewer than two subjects.
    """
    subjects = list(facts.subjects)
    if len(subjects) < 2:
        raise WorkbenchError(
            f"The forget set is too small to split: it is about {subjects[0]!r} alone; forget "
            "facts about at least two subjects."
        )
    random.Random(seed).shuffle(subjects)
    first, second = facts.about(subjects[::2]), facts.about(subjects[1::2])
    return Half(first, second), Half(second, first)


def true_answers(
    model: Model, facts: Iterable[Fact], unnamed: Iterable[str], *, most: int = 0, seed: int = 0
) -> Examples:
    """Return facts' prompts with their true answers, in every wording that an edit may use.

    Args:
        model: whose tokenizer to use.
        facts: what to teach.
        unnamed: subjects that no example may name.
        most: most examples, drawn by the seed; 0 for all.
        seed: of the draw.

    Raises:
        WorkbenchError: an example is longer than the model's context.
    """
    hidden = tuple(unnamed)
    pairs = [(p, answer_at(f, p)) for f in facts for p in prompts_of(f)]
    pairs = [pair for pair in dict.fromkeys(pairs) if not any(s in "".join(pair) for s in hidden)]
    if most:
        random.Random(seed).shuffle(pairs)
        pairs = pairs[:most]
    return examples(model, pairs, end=end_of_answer(model))
