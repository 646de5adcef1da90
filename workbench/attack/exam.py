"""The same questions at every checkpoint of a training: tokens are made once, then only run.

    free    the model goes on greedily behind the prompt; judged as everywhere else
    choice  the fact's choices are compared as continuations of the prompt, by their likelihood

What a model says differs from what it would choose: a refusal hides the second no better than the
first, but training on other facts may free either alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.attack.attack import Outcome
from workbench.edit.forms import prompts_of
from workbench.edit.self_made import sample
from workbench.edit.train.examples import Examples, examples
from workbench.errors import WorkbenchError
from workbench.facts.accepted import accepted
from workbench.facts.fact import Behaviour, Fact, FactSet
from workbench.facts.prompts import continuation, lead
from workbench.measure.answers import is_right
from workbench.models.continuations import likelihoods
from workbench.models.model import Model
from workbench.models.text import encode

FREE, CHOICE = "free", "choice"
_SPARE, _STEP, _LONGEST = 8, 8, 128  # room of an answer, as `measure.questions.answer_all` gives


@dataclass(frozen=True, eq=False)
class Exam:
    """Questions about facts, as tokens.

    Attributes:
        asked: facts and the prompts that ask for them.
        prompts: their tokens; no answer follows.
        rooms: tokens that each answer may have.
        options: behind each prompt each of its fact's choices.
        chosen: index of the question and text of each option.
        behaviour: the request's, for what counts as a refusal.
    """

    asked: tuple[tuple[Fact, str], ...]
    prompts: Examples
    rooms: tuple[int, ...]
    options: Examples
    chosen: tuple[tuple[int, str], ...]
    behaviour: Behaviour

    @staticmethod
    def of(
        model: Model,
        facts: FactSet,
        behaviour: Behaviour,
        *,
        wordings: int = 1,
        front: Sequence[int] = (),
    ) -> Exam:
        """Make the tokens.

        Args:
            model: whose tokenizer to use.
            facts: what to ask.
            behaviour: the request's.
            wordings: prompts asked of each fact, its own first.
            front: tokens put in front of every prompt, behind a beginning of sequence.

        Raises:
            WorkbenchError: a prompt leaves no room in the context.
        """
        asked = tuple((f, p) for f in facts for p in prompts_of(f)[:wordings])
        rooms = tuple(_room(model, fact, prompt) for fact, prompt in asked)
        starts = [
            tuple(encode(model, prompt, room=room + len(front)))
            for (_, prompt), room in zip(asked, rooms, strict=True)
        ]
        prompts = Examples(tuple(starts), tuple(len(s) for s in starts))
        chosen = tuple(
            (i, choice)
            for i, (fact, _) in enumerate(asked)
            if can_choose(fact)
            for choice in dict.fromkeys(fact.choices)
        )
        pairs = [(asked[i][1], f"{lead(asked[i][0].target)}{choice}") for i, choice in chosen]
        options = Examples()
        for pair in pairs:  # one by one, for `examples` drops what two facts share
            options += examples(model, [pair])
        return Exam(
            asked,
            in_front(model, prompts, front),
            rooms,
            in_front(model, options, front),
            chosen,
            behaviour,
        )

    @property
    def ways(self) -> tuple[str, ...]:
        """How it asks: freely, and by choice if some fact has choices."""
        return (FREE, CHOICE) if self.chosen else (FREE,)

    def sit(self, model: Model) -> dict[str, tuple[Outcome, ...]]:
        """Ask a model; return the outcomes by how it was asked."""
        ask = {FREE: self._free, CHOICE: self._choice}
        return {how: ask[how](model) for how in self.ways}

    def _free(self, model: Model) -> tuple[Outcome, ...]:
        rows = sample(model, self.prompts.sequences, length=max(self.rooms))
        cut = [row[:room] for row, room in zip(rows, self.rooms, strict=True)]
        texts = model.tokenizer.batch_decode(cut, skip_special_tokens=True)
        out = []
        for (fact, prompt), text in zip(self.asked, texts, strict=True):
            answer = text.split("\n")[0]
            right = is_right(answer, accepted(fact), self.behaviour)
            out.append(Outcome(fact, prompt, answer, float(right)))
        return tuple(out)

    def _choice(self, model: Model) -> tuple[Outcome, ...]:
        heads = [s[:b] for s, b in zip(self.options.sequences, self.options.starts, strict=True)]
        tails = [s[b:] for s, b in zip(self.options.sequences, self.options.starts, strict=True)]
        found = likelihoods(model, heads, tails)
        best: dict[int, tuple[float, str]] = {}
        for (question, choice), of_choice in zip(self.chosen, found, strict=True):
            score = of_choice.log_probability
            if question not in best or score > best[question][0]:
                best[question] = (score, choice)
        out = []
        for question, (_, choice) in best.items():
            fact, prompt = self.asked[question]
            out.append(Outcome(fact, prompt, choice, float(choice == fact.target.strip())))
        return tuple(out)


def can_choose(fact: Fact) -> bool:
    """Whether a fact has other choices beside its target."""
    return len(set(fact.choices)) > 1 and fact.target.strip() in fact.choices


def chance(how: str, outcomes: Sequence[Outcome]) -> float:
    """Return the value of blind guessing: 0 in free answers, 1 / choices where they are given."""
    if how == FREE or not outcomes:
        return 0.0
    return float(np.mean([1 / len(set(o.fact.choices)) for o in outcomes]))


def in_front(model: Model, given: Examples, front: Sequence[int]) -> Examples:
    """Put tokens in front of every example, behind its beginning-of-sequence token if it has one.

    Raises:
        WorkbenchError: an example would be longer than the model's context.
    """
    longest = max(map(len, given.sequences), default=0) + len(front)
    if longest > model.n_ctx:
        raise WorkbenchError(
            f"With {len(front)} vectors in front a prompt has {longest} tokens, more than the "
            f"{model.n_ctx} of this model's context; use fewer vectors or shorter prompts."
        )
    bos = model.tokenizer.bos_token_id
    cuts = [int(bos is not None and s[0] == bos) for s in given.sequences]
    sequences = ((*s[:cut], *front, *s[cut:]) for s, cut in zip(given.sequences, cuts, strict=True))
    return Examples(tuple(sequences), tuple(start + len(front) for start in given.starts))


def _room(model: Model, fact: Fact, prompt: str) -> int:
    tokens = len(continuation(model, prompt, fact.target)) + _SPARE
    return min(-(-tokens // _STEP) * _STEP, _LONGEST)
