"""What else a patient says about a subject, read from it, so that a repair can keep it.

Where a country's capital goes, everything else about the country is nearer to it than anything
about others, and no fact file lists what a chat model would say. So it is asked: some questions are
for the edit, which keeps the patient's own answers, and others for measuring only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workbench.edit.self_made import own_answers
from workbench.facts.accepted import accepted
from workbench.facts.capitals import ELSE, ELSE_HELD_BACK, countries
from workbench.facts.fact import Behaviour, Fact, FactSet
from workbench.facts.prompts import chat
from workbench.measure.answers import is_refusal, leaks
from workbench.measure.text_metrics import rouge_l
from workbench.models.model import Model
from workbench.models.text import generate

RELATION = "anything else"
_ROOM = 12  # tokens of an answer
_ALIKE = 0.5  # ROUGE-L of two answers that say much the same
_ANYTHING = (
    *("Tell me about {s}.", "What is {s} known for?", "Describe {s} in one sentence."),
    *("Why is {s} important?", "What do you know about {s}?", "Write a short poem about {s}."),
    *("What would you like to say about {s}?", "What is the history of {s}?"),
    *("{s} is", "Most people think that {s}", "My friend told me a story about {s}, and"),
)
_ANYTHING_HELD_BACK = (
    *("What do people think of {s}?", "Write a sentence with the name {s} in it."),
    "{s} is famous for",
)


@dataclass(frozen=True)
class Wider:
    """Questions about anybody or anything; those that end with a mark are asked in chat form.

    Attributes:
        asked: what an edit may use, with {s} for the subject.
        held_back: what is asked to see whether the rest stayed, and used for nothing else.
        phrases: how subjects stand in a sentence where that differs from their names.
    """

    asked: tuple[str, ...] = _ANYTHING
    held_back: tuple[str, ...] = _ANYTHING_HELD_BACK
    phrases: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def about_countries() -> Wider:
        """Return what countries may be asked about besides."""
        return Wider(
            _ANYTHING + ELSE,
            _ANYTHING_HELD_BACK + ELSE_HELD_BACK,
            {c.name: c.phrase for c in countries()},
        )

    def prompts(self, model: Model, subject: str, *, held_back: bool) -> list[str]:
        """Write the questions about one subject as the model is asked."""
        texts = self.held_back if held_back else self.asked
        filled = [text.format(s=self.phrases.get(subject, subject)) for text in texts]
        return [chat(model, text) if text[-1] in "?." else text for text in filled]


def said_beside(
    model: Model,
    wider: Wider,
    forget: FactSet,
    behaviour: Behaviour,
    *,
    held_back: bool = False,
) -> FactSet:
    """Return what else a model says about the subjects of some facts, as facts to keep.

    Left out is what tells what is to be forgotten, and what the model does not know.

    Args:
        model: the patient before any repair.
        wider: what to ask.
        forget: the facts that are to be forgotten.
        behaviour: how the model refuses.
        held_back: whether to ask what is for measuring only.
    """
    asked = [
        (subject, prompt)
        for subject in forget.subjects
        for prompt in wider.prompts(model, subject, held_back=held_back)
    ]
    answers = own_answers(model, [prompt for _, prompt in asked], length=_ROOM)
    secret = {s: [a for f in forget.about([s]) for a in accepted(f)] for s in forget.subjects}
    return FactSet(
        tuple(
            Fact(subject=subject, prompt=prompt, target=answer, relation=RELATION)
            for (subject, prompt), answer in zip(asked, answers, strict=True)
            if answer.strip()
            and not is_refusal(answer, behaviour)
            and not leaks(answer, secret[subject])
        )
    )


def share_alike(model: Model, asides: FactSet, behaviour: Behaviour) -> float | None:
    """Return the share of questions that a model still answers in much the same words.

    Args:
        model: the repaired patient.
        asides: the questions with the answers before, from `said_beside`.
        behaviour: how the model refuses, which is not the same.
    """
    if not asides:
        return None
    prompts = [fact.prompt for fact in asides]
    answers = generate(model, prompts, max_new_tokens=_ROOM, stop=None)
    alike = [
        rouge_l(answer, fact.target).f >= _ALIKE and not is_refusal(answer, behaviour)
        for fact, answer in zip(asides, answers, strict=True)
    ]
    return sum(alike) / len(alike)
