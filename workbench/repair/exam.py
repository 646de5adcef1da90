"""What is asked after a repair, and what the patient said to it before any."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from workbench.edit.forms import prompts_of
from workbench.facts.accepted import accepted
from workbench.facts.fact import Behaviour, Fact, FactSet, Request
from workbench.measure.answers import is_right
from workbench.measure.scorecard import Scorecard, measure, perplexity
from workbench.models.kept import kept, kept_each
from workbench.models.model import Model
from workbench.models.text import generate
from workbench.progress import SILENT, Progress
from workbench.repair.beside import said_beside
from workbench.repair.catalog import Catalog
from workbench.repair.plan import RepairPlan
from workbench.repair.solving import WHOLE, Dose

_KEPT = 40  # held-back facts that are asked for
_ASKED = 72  # most questions about them, where they are too few to be asked in one wording only
_TEXTS = 60  # neutral texts
_ROOM = 24  # tokens of an answer

Questions = tuple[tuple[Fact, str], ...]


@dataclass(frozen=True, eq=False)
class RepairExam:
    """What is asked after one repair.

    Attributes:
        request: the facts to be gone with what stands near them, and what is to be kept.
        before: the base's scorecard of what is on file about their subject.
        kept: held-back facts about others, each with a wording to ask it in.
        base_kept: share of these that the base answers rightly.
        asides: other questions about the subject that no edit used, with the base's answers.
        neutral: texts for the perplexity.
        base_perplexity: the base's; None without a text.
    """

    request: Request
    before: Scorecard
    kept: Questions
    base_kept: float | None
    asides: FactSet
    neutral: tuple[str, ...]
    base_perplexity: float | None

    @staticmethod
    def of(
        base: Model,
        catalog: Catalog,
        plan: RepairPlan,
        gone: FactSet,
        *,
        progress: Progress = SILENT,
    ) -> RepairExam:
        """Write the exam of a plan and let the base take it; what others need too is asked once.

        Args:
            base: the patient before any repair: what stays is measured by it, so that many small
                losses cannot add up unseen.
            catalog: what is on file.
            plan: the repair.
            gone: the facts of earlier repairs, which nobody need answer any more.
            progress: where to report.
        """
        whole = catalog.request(plan.forget, replaced=plan.action == "correct", gone=gone)
        names = set(gone.subjects)
        spared = tuple(
            replace(f, neighbors=tuple(p for p in f.neighbors if not _names(p.prompt, names)))
            for f in plan.forget
        )
        request = replace(whole, forget=FactSet(spared))
        asked = questions(whole.evaluate, plan.seed)
        neutral = catalog.neutral[:_TEXTS]
        asides = FactSet()
        if catalog.wider and Dose(plan, {}).kind != WHOLE:
            asides = said_beside(base, catalog.wider, plan.forget, whole.behaviour, held_back=True)
        return RepairExam(
            request,
            measure(base, _own(request), seed=plan.seed, progress=progress),
            asked,
            share_right(asked, _said(base, asked, progress), whole.behaviour),
            asides,
            neutral,
            kept(base, "perplexity", list(neutral), lambda: _perplexity(base, neutral, progress)),
        )

    def card(self, model: Model, *, progress: Progress = SILENT) -> Scorecard:
        """Return a repaired model's scorecard of the same."""
        seed = int(self.before.config["seed"])
        return measure(
            model, _own(self.request), base_card=self.before, seed=seed, progress=progress
        )

    def share_kept(self, model: Model, *, progress: Progress = SILENT) -> float | None:
        """Return the share of the held-back questions that a model answers rightly."""
        answers = generate(
            model, [p for _, p in self.kept], max_new_tokens=_ROOM, progress=progress
        )
        return share_right(self.kept, answers, self.request.behaviour)

    def perplexity(self, model: Model, *, progress: Progress = SILENT) -> float | None:
        """Return a model's perplexity on the neutral texts."""
        return _perplexity(model, self.neutral, progress)


def questions(facts: FactSet, seed: int) -> Questions:
    """Choose what is asked of held-back facts.

    Of many, each is asked once, in its own wording. A few are asked in several: one that a model
    tells in one wording only by a hair would otherwise weigh too much.
    """
    rng = random.Random(seed)
    if len(facts) > _KEPT:
        chosen = rng.sample(range(len(facts)), _KEPT)
        return tuple((facts[i], facts[i].prompt) for i in sorted(chosen))
    out = []
    for fact in facts:
        own, *others = prompts_of(fact)
        more = min(_ASKED // len(facts) - 1, len(others))
        out += [(fact, prompt) for prompt in (own, *rng.sample(others, more))]
    return tuple(out)


def share_right(asked: Questions, answers: Sequence[str], behaviour: Behaviour) -> float | None:
    """Return the share of right answers, None without a question."""
    right = [
        is_right(answer, accepted(fact), behaviour)
        for (fact, _), answer in zip(asked, answers, strict=True)
    ]
    return sum(right) / len(right) if right else None


def _own(request: Request) -> Request:
    """Leave what is on file about the subjects to forget."""
    beside = request.retain.about(request.forget.subjects)
    return replace(request, retain=beside, evaluate=FactSet())


def _said(base: Model, asked: Questions, progress: Progress) -> list[str]:
    def answers(prompts: list[str]) -> list[str]:
        return generate(base, prompts, max_new_tokens=_ROOM, progress=progress)

    return kept_each(base, "exam", [_ROOM], [prompt for _, prompt in asked], answers)


def _perplexity(model: Model, texts: Sequence[str], progress: Progress) -> float | None:
    found = perplexity(model, texts, progress=progress)
    return found.value if found else None


def _names(text: str, subjects: set[str]) -> bool:
    return any(subject in text for subject in subjects)
