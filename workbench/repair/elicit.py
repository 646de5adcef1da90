"""What a patient really knows about a subject: it is asked, in every wording there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from workbench.edit.forms import prompts_of
from workbench.facts.accepted import accepted
from workbench.facts.fact import Behaviour, Fact, FactSet
from workbench.facts.prompts import lead
from workbench.measure.answers import first_sentence, is_refusal, is_right, words
from workbench.models.kept import kept
from workbench.models.model import Model
from workbench.models.text import generate
from workbench.progress import SILENT, Progress

_LEAST = 0.5  # share of the wordings whose answers must agree
_ROOM = 24  # tokens of an answer


@dataclass(frozen=True)
class Known:
    """One thing that a patient knows.

    Attributes:
        fact: it, with the patient's own answer as the target.
        agreed: share of the wordings that it answers so.
        asked: how many wordings it was asked in.
    """

    fact: Fact
    agreed: float
    asked: int


def elicit(
    model: Model, facts: Sequence[Fact], behaviour: Behaviour, *, progress: Progress = SILENT
) -> tuple[Known, ...]:
    """Ask a model for some facts and return those it knows, as it knows them.

    It knows what it says in at least half of the wordings. What is on file is right if its answers
    hold it; else the target is what it says most often, and the rest of the fact follows that.

    Args:
        model: who is asked.
        facts: what to ask; their targets are what is on file, which need not be what it says.
        behaviour: how it refuses; a refusal is no knowledge.
        progress: where to report.
    """
    asked = [(fact, prompts_of(fact)) for fact in facts]
    prompts = [p for _, own in asked for p in own]
    answers = iter(generate(model, prompts, max_new_tokens=_ROOM, progress=progress))
    out = []
    for fact, own in asked:
        said = [next(answers) for _ in own]
        right = sum(is_right(a, accepted(fact), behaviour) for a in said) / len(said)
        if right >= _LEAST:
            out.append(Known(fact, right, len(said)))
            continue
        sentences = [first_sentence(a) for a in said if not is_refusal(a, behaviour)]
        counts = Counter(words(s) for s in sentences if words(s))
        most, n = counts.most_common(1)[0] if counts else ((), 0)
        if n / len(said) >= _LEAST:
            text = next(s for s in sentences if words(s) == most).strip().rstrip(".")
            own_answer = (lead(fact.target) or " ") + text
            told = replace(fact, target=own_answer, foil=None, choices=(), mcq=(), extra={})
            out.append(Known(told, n / len(said), len(said)))
    return tuple(out)


def told_in_most(
    model: Model, facts: FactSet, behaviour: Behaviour, *, progress: Progress = SILENT
) -> FactSet:
    """Leave the facts that a model tells in most wordings as they are on file; it is asked once.

    One that it tells in a single wording only is lost and found again by any change.
    """

    def make() -> list[list[str]]:
        known = elicit(model, list(facts), behaviour, progress=progress)
        return [list(k.fact.key) for k in known if k.fact in facts.facts]

    told = {tuple(key) for key in kept(model, "told", [facts.fingerprint], make)}
    return facts.where(lambda f: f.key in told)
