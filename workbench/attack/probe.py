"""Probe: can the answer still be read off the residual stream by a linear map?

For each relation and layer a multinomial logistic regression is trained on facts to keep and tested
on those to forget, at the subject's last token (where a fact is looked up) and at the prompt's last
token (where it is read out):

    train  facts of `retain` with the same relation, their targets as classes
    test   forget facts whose target is one of the classes
    value  share of these whose target is predicted

Features are standardised by the training facts. `chance` is the share of the most frequent class
in training. A probe finds what is there, which is not always what the model uses.

Source: Guo et al. 2024 (arXiv 2410.12949, latent knowledge); Lynch et al. 2024 (arXiv 2402.16835).
Cost: one forward pass of the training and test prompts, and one regression for each relation, all
layers and positions together.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.attack.activations import residuals
from workbench.attack.attack import Cell, Outcome
from workbench.attack.logistic import logistic_regression, predict
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, Request
from workbench.facts.prompts import tokenize
from workbench.models.model import Model
from workbench.progress import SILENT, Progress

POSITIONS = ("subject", "last")


@dataclass(frozen=True)
class ProbeConfig:
    """Settings of the probe.

    Attributes:
        train: most training facts of a relation.
        least: fewest training facts that a class needs; answers with fewer are left out.
        l2: weight of the penalty.
        seed: of the draw of training facts.
    """

    train: int = 400
    least: int = 3
    l2: float = 0.03
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        for name in ("train", "least", "l2"):
            if not getattr(self, name) > 0:
                raise WorkbenchError(f"{name} must be positive, not {getattr(self, name)}.")


@dataclass(frozen=True)
class _Problem:
    """One relation: what to train on, what to test, and the classes."""

    train: tuple[Fact, ...]
    test: tuple[Fact, ...]
    classes: tuple[str, ...]

    @property
    def chance(self) -> float:
        return max(Counter(f.target for f in self.train).values()) / len(self.train)


def probe(
    model: Model,
    request: Request,
    config: ProbeConfig,
    *,
    base: Model,
    progress: Progress = SILENT,
) -> tuple[Cell, ...]:
    """Predict the forget facts' answers from each layer.

    Raises:
        WorkbenchError: no relation has two answers with enough facts to keep.
    """
    config.check()
    problems = [p for r in request.forget.relations if (p := _problem(request, r, config))]
    if not problems:
        raise WorkbenchError(
            f"A probe needs facts to retain of the same relation, with at least two answers that "
            f"{config.least} of them share, and a fact to forget with such an answer; give the "
            "request more of them."
        )
    predicted: list[list[str]] = []
    for problem in progress.track(problems, "probes"):
        predicted.append(_predictions(model, problem, config.l2, progress))
    tested = [fact for problem in problems for fact in problem.test]
    chance = float(np.mean([p.chance for p in problems for _ in p.test]))
    left = len(request.forget) - len(tested)
    note = f"{left} facts have an answer that too few facts to retain share." if left else ""
    cells = []
    for i, (position, layer) in enumerate(_places(model)):
        answers = [a for parts in predicted for a in parts[i]]
        outcomes = tuple(
            Outcome(fact, fact.prompt, answer, float(answer == fact.target))
            for fact, answer in zip(tested, answers, strict=True)
        )
        cells.append(Cell({"position": position, "layer": layer}, outcomes, chance, note))
    return tuple(cells)


def _problem(request: Request, relation: str, config: ProbeConfig) -> _Problem | None:
    """Choose a relation's training and test facts; None if it has too few."""
    kept = [f for f in request.retain if f.relation == relation]
    drawn = random.Random(config.seed).sample(kept, min(config.train, len(kept)))
    count = Counter(f.target for f in drawn)
    classes = tuple(sorted(t for t, n in count.items() if n >= config.least))
    test = tuple(f for f in request.forget if f.relation == relation and f.target in classes)
    if len(classes) < 2 or not test:
        return None
    return _Problem(tuple(f for f in drawn if f.target in classes), test, classes)


def _places(model: Model) -> list[tuple[str, int]]:
    return [(position, layer) for position in POSITIONS for layer in range(model.n_layers)]


@torch.no_grad()
def _predictions(model: Model, problem: _Problem, l2: float, progress: Progress) -> list[list[str]]:
    """Return for each place the answers that its probe reads off the test facts."""
    prompts = [tokenize(model, fact) for fact in (*problem.train, *problem.test)]
    read = [(p.last_subject, len(p.ids) - 1) for p in prompts]
    states = residuals(model, [p.ids for p in prompts], read, progress=progress)
    x = states.permute(2, 0, 1, 3).flatten(0, 1)  # position-major, as `_places`
    train, test = _standardised(x[:, : len(problem.train)], x[:, len(problem.train) :])
    labels = [problem.classes.index(f.target) for f in problem.train]
    y = torch.tensor(labels, device=x.device)
    weights = logistic_regression(train, y, len(problem.classes), l2=l2)
    return [[problem.classes[c] for c in row] for row in predict(weights, test).tolist()]


def _standardised(
    train: Float[Tensor, "place row d"], test: Float[Tensor, "place row d"]
) -> tuple[Float[Tensor, "place row d"], Float[Tensor, "place row d"]]:
    """Shift and scale by the training rows."""
    mean, spread = train.mean(1, keepdim=True), train.std(1, keepdim=True)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    return (train - mean) / spread, (test - mean) / spread
