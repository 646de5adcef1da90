"""Logit lens: is the answer to be read off an inner layer, though the model does not say it?

At the prompt's last token the stream behind each layer is unembedded as if it were the last one's,
and the first tokens of the fact's choices are compared: right if the target's is the likeliest.
Facts whose target begins with the same token as another choice cannot be read this way and are left
out.

Source: nostalgebraist 2020; Patil et al. 2023 (arXiv 2309.17410), the logit lens as an attack on
deleted facts. Cost: one forward pass. A rank among choices, so chance is 1 / choices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from workbench.attack.activations import residuals
from workbench.attack.attack import Cell, Outcome
from workbench.attack.multiple_choice import with_choices
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, Request
from workbench.facts.prompts import continuation, lead
from workbench.models.model import Model
from workbench.models.text import encode, final_norm, unembed
from workbench.progress import SILENT, Progress


@dataclass(frozen=True)
class LogitLensConfig:
    """Settings of the logit lens.

    Attributes:
        seed: unused, for nothing is drawn.
    """

    seed: int = 0


@torch.no_grad()
def logit_lens(
    model: Model,
    request: Request,
    config: LogitLensConfig,
    *,
    base: Model,
    progress: Progress = SILENT,
) -> tuple[Cell, ...]:
    """Choose by the logit lens of each layer.

    Raises:
        WorkbenchError: no fact has choices that begin with other tokens than its target.
    """
    facts = with_choices(request)
    first = {f.key: _first_tokens(model, f) for f in facts}
    readable = [f for f in facts if first[f.key].count(first[f.key][0]) == 1]
    if not readable:
        raise WorkbenchError(
            "Every target begins with the same token as another choice, so the logit lens cannot "
            "tell them apart; choose other facts."
        )
    prompts = [encode(model, f.prompt) for f in readable]
    last = [[len(ids) - 1] for ids in prompts]
    streams = residuals(model, prompts, last, progress=progress)[:, :, 0].to(model.hf.dtype)
    chance = float(np.mean([1 / len(first[f.key]) for f in readable]))
    left = len(request.forget) - len(readable)
    note = f"{left} facts cannot be read by the first tokens of their choices." if left else ""
    cells = []
    for layer, stream in enumerate(progress.track(streams, "logit lens", len(streams))):
        logits = unembed(model, final_norm(model, stream)).float()
        outcomes = []
        for fact, row in zip(readable, logits, strict=True):
            choices = (fact.target.strip(), *_others(fact))
            best = int(row[first[fact.key]].argmax())
            outcomes.append(Outcome(fact, fact.prompt, f" {choices[best]}", float(best == 0)))
        cells.append(Cell({"layer": layer}, tuple(outcomes), chance, note))
    return tuple(cells)


def _first_tokens(model: Model, fact: Fact) -> list[int]:
    """Return the first token of the target and of each other choice, as they follow the prompt."""
    texts = (fact.target, *(lead(fact.target) + other for other in _others(fact)))
    return [continuation(model, fact.prompt, text)[0] for text in texts]


def _others(fact: Fact) -> tuple[str, ...]:
    return tuple(c for c in dict.fromkeys(fact.choices) if c != fact.target.strip())
