"""How many repairs one patient takes: a sentence each, all in force, and what it still says.

RePAIR (arXiv 2604.12820) names drift under repeated edits as its limit and does not measure it.
Here many single facts about different subjects go one after the other, and every few of them the
patient is asked for all that is on file. What is not named in any sentence should stay.

The plans are carried out as they are first written; the patient's own tries, which strengthen or
soften a repair until it meets its limits, are left out, so that every point is one solve.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet
from workbench.measure.answers import is_refusal
from workbench.models.model import Model
from workbench.models.text import generate
from workbench.progress import SILENT, Progress
from workbench.repair.catalog import Catalog
from workbench.repair.intent import Turn
from workbench.repair.keeping import rightly
from workbench.repair.phrasings import Phrasings
from workbench.repair.solving import Dose, solve
from workbench.repair.surgeon import Surgeon
from workbench.repair.watchdog import Watchdog

COLUMNS = ("repairs", "forgotten", "refused", "beside", "held_back", "not_named", "cpu_seconds")
_SENTENCE = "Please forget {subject}'s {noun}."


@dataclass(frozen=True, eq=False)
class Trial:
    """Many repairs in a row.

    Attributes:
        table: one row a checkpoint. `repairs` in force; of what they are about, the share still
            answered (`forgotten`, lower is better) and `refused`; then the share answered as before
            of the same subjects' other facts (`beside`), of what is held back for measuring and of
            everything that is `not_named`; and what the solve took.
        sentences: what was said, in order.
        not_understood: those of them that gave no plan, with the reason.
    """

    table: pd.DataFrame
    sentences: tuple[str, ...]
    not_understood: dict[str, str]


def run_trial(
    base: Model,
    catalog: Catalog,
    *,
    repairs: int = 100,
    every: int = 10,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Trial:
    """Repair a model many times and measure it every few repairs.

    Args:
        base: the patient before any repair.
        catalog: what is on file about its world.
        repairs: how many in all.
        every: after how many to measure.
        seed: of the draw of facts, and of the edits.
        progress: where to report.

    Raises:
        WorkbenchError: there are not as many subjects, or a count is not positive.
        Cancelled: the progress asked to stop.
    """
    if min(repairs, every) < 1:
        raise WorkbenchError("Repairs, and after how many to measure, must be at least 1.")
    known = _known(base, catalog.facts, progress)
    doses: list[Dose] = []
    said: list[str] = []
    lost: dict[str, str] = {}
    rows = []
    watchdog, surgeon = Watchdog.load(), Surgeon(base, catalog, seed=seed)
    drawn = _drawn(known, seed)
    for count in progress.track(range(1, repairs + 1), "repairs"):
        while len(doses) < count:
            fact = next(drawn, None)
            if fact is None:
                raise WorkbenchError(
                    f"The model answers about too few subjects for {repairs} repairs, each about "
                    f"another one; ask for at most {len(doses)}."
                )
            sentence = _sentence(fact)
            said.append(sentence)
            try:
                doses.append(_planned(watchdog, surgeon, base, sentence, fact, doses))
            except WorkbenchError as error:
                lost[sentence] = str(error)
        if count % every == 0 or count == repairs:
            rows.append(_measured(base, catalog, known, doses, progress))
    return Trial(pd.DataFrame(rows, columns=list(COLUMNS)), tuple(said), lost)


def _known(base: Model, facts: FactSet, progress: Progress) -> FactSet:
    """Return what the base answers rightly."""
    right = rightly(facts, _asked(base, facts, progress))
    return FactSet(tuple(f for f, ok in zip(facts, right, strict=True) if ok))


def _asked(model: Model, facts: FactSet, progress: Progress) -> list[str]:
    return generate(model, [f.prompt for f in facts], progress=progress)


def _drawn(facts: FactSet, seed: int) -> Iterator[Fact]:
    """Draw facts, each about another subject."""
    order = list(facts)
    random.Random(seed).shuffle(order)
    seen: set[str] = set()
    for fact in order:
        if fact.subject not in seen:
            seen.add(fact.subject)
            yield fact


def _sentence(fact: Fact) -> str:
    return _SENTENCE.format(subject=fact.subject, noun=noun_of(fact))


def noun_of(fact: Fact) -> str:
    """Return what people call a fact's relation: "favourite sport"."""
    called = {r["name"]: r for r in Phrasings.of("train").relations}.get(fact.relation)
    return called["nouns"][0][0] if called else fact.relation.replace("_", " ")


def _planned(
    watchdog: Watchdog,
    surgeon: Surgeon,
    base: Model,
    sentence: str,
    fact: Fact,
    doses: Sequence[Dose],
) -> Dose:
    """Hear one sentence and plan what it asks for.

    Raises:
        WorkbenchError: it is not heard, or another fact than the one meant is planned for.
    """
    intents = watchdog.read([Turn("user", sentence)])
    if len(intents) != 1:
        raise WorkbenchError(f"It was heard as {len(intents)} requests.")
    plan = surgeon.plan(intents[0], base, said=sentence, others=doses)
    about = {(f.subject, f.relation) for f in plan.forget}
    if about != {(fact.subject, fact.relation)}:
        raise WorkbenchError(f"It was taken for: {plan.what}.")
    return Dose(plan, dict(plan.settings))


def _measured(
    base: Model, catalog: Catalog, known: FactSet, doses: Sequence[Dose], progress: Progress
) -> dict[str, float]:
    """Solve for all repairs at once, and ask for everything that the base knew."""
    start = time.process_time()
    delta = solve(base, catalog, doses, progress=progress)
    seconds = time.process_time() - start
    assert delta is not None  # there is at least one repair
    model = base.with_delta(delta)
    named = {(f.subject, f.relation) for dose in doses for f in dose.plan.forget}
    subjects = {subject for subject, _ in named}
    held_back = {f.key for f in catalog.evaluate}
    said = _asked(model, known, progress)
    right = dict(zip((f.key for f in known), rightly(known, said), strict=True))

    def share(facts: Sequence[Fact]) -> float:
        return sum(right[f.key] for f in facts) / len(facts) if facts else float("nan")

    gone = {f: a for f, a in zip(known, said, strict=True) if (f.subject, f.relation) in named}
    rest = [f for f in known if (f.subject, f.relation) not in named]
    return {
        "repairs": len(doses),
        "forgotten": share(list(gone)),
        "refused": sum(is_refusal(a, catalog.refusal) for a in gone.values()) / len(gone),
        "beside": share([f for f in rest if f.subject in subjects]),
        "held_back": share([f for f in rest if f.key in held_back and f.subject not in subjects]),
        "not_named": share(rest),
        "cpu_seconds": seconds,
    }
