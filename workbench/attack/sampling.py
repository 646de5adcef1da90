"""Sampling: draw several answers; what greedy generation hides may still be likely.

    any   right if any of the samples is
    mean  share of the samples that are

Many draws from few possible answers hit by luck. So the same samples are judged as answers to other
facts of the relation; `chance` is the mean of that, and `recovered` is corrected for it.

Source: Scholten et al. 2024 (arXiv 2410.03523): greedy answers understate what is left. Cost: one
generation pass over `samples` copies of each prompt, per temperature.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from workbench.attack.attack import Cell, Outcome
from workbench.attack.hooked import changed_logits
from workbench.edit.self_made import sample
from workbench.errors import WorkbenchError
from workbench.facts.accepted import accepted
from workbench.facts.fact import Fact, Request
from workbench.facts.prompts import continuation
from workbench.measure.answers import is_right
from workbench.models.model import Model
from workbench.models.text import encode
from workbench.progress import SILENT, Progress

_SPARE = 8  # tokens that an answer may be longer than its target
_OTHERS = 20  # other answers that chance is measured with


@dataclass(frozen=True)
class SamplingConfig:
    """Settings of sampling.

    Attributes:
        temperatures: what the logits are divided by.
        samples: answers drawn to each prompt.
        seed: of the draws.
    """

    temperatures: tuple[float, ...] = (0.7, 1.0)
    samples: int = 8
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        if not self.temperatures or not min(self.temperatures) > 0:
            raise WorkbenchError("Temperatures must be positive, for instance temperatures=0.7,1.")
        if self.samples < 1:
            raise WorkbenchError(f"Draw at least 1 sample, not {self.samples}.")


def sampling(
    model: Model,
    request: Request,
    config: SamplingConfig,
    *,
    base: Model,
    progress: Progress = SILENT,
) -> tuple[Cell, ...]:
    """Draw answers to the forget facts' own prompts."""
    config.check()
    others = [_other_answers(request, fact, config.seed) for fact in request.forget]
    cells: list[Cell] = []
    for temperature in progress.track(config.temperatures, "sampling"):
        drawn = _draw(model, request, temperature, config)
        right = [
            _judged(request, texts, [accepted(fact)])[0]
            for fact, texts in zip(request.forget, drawn, strict=True)
        ]
        lucky = np.concatenate(
            [_judged(request, t, other) for t, other in zip(drawn, others, strict=True)]
        )
        for name, reduce in (("any", np.max), ("mean", np.mean)):
            outcomes = tuple(
                Outcome(fact, fact.prompt, texts[int(own.argmax())], float(reduce(own)))
                for fact, texts, own in zip(request.forget, drawn, right, strict=True)
            )
            chance = float(reduce(lucky, axis=1).mean()) if len(lucky) else 0.0
            cells.append(Cell({"temperature": temperature, "right": name}, outcomes, chance))
    return tuple(cells)


def _draw(
    model: Model, request: Request, temperature: float, config: SamplingConfig
) -> list[list[str]]:
    """Return the samples of each fact's own prompt."""
    room = _SPARE + max(len(continuation(model, f.prompt, f.target)) for f in request.forget)
    starts = [encode(model, f.prompt, room=room) for f in request.forget]
    generator = torch.Generator().manual_seed(config.seed)
    with changed_logits(model, lambda logits, call: logits / temperature) as lent:
        copies = [start for start in starts for _ in range(config.samples)]
        rows = sample(lent, copies, length=room, generator=generator)
    texts = model.tokenizer.batch_decode(rows, skip_special_tokens=True)
    lines = [text.split("\n")[0] for text in texts]
    n = config.samples
    return [lines[i : i + n] for i in range(0, len(lines), n)]


def _other_answers(request: Request, fact: Fact, seed: int) -> list[tuple[str, ...]]:
    """Draw other answers of the fact's relation, as often as they occur in the request."""
    found = [
        accepted(other)
        for other in (*request.forget, *request.retain, *request.evaluate)
        if other.relation == fact.relation and other.target != fact.target
    ]
    return random.Random(f"{seed}|{fact.prompt}").sample(found, min(_OTHERS, len(found)))


def _judged(
    request: Request, texts: Sequence[str], answers: Sequence[Sequence[str]]
) -> Float[np.ndarray, "answer text"]:
    """Judge every text by every answer."""
    known = {
        text: [float(is_right(text, answer, request.behaviour)) for answer in answers]
        for text in dict.fromkeys(texts)
    }
    return np.array([known[text] for text in texts]).reshape(len(texts), len(answers)).T
