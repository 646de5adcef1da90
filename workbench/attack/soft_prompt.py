"""Soft prompt: vectors in front of the prompt, trained to bring hidden answers out.

`vectors` embeddings stand before every prompt, behind a beginning-of-sequence token if there is
one. They alone are trained, on the true answers of one half of the forget set, split by subjects;
the same vectors then stand before the other half's prompts, and the other way round. No weight
changes: what comes back was in the model, and a few words in front could bring it back.

    |v_i| <= epsilon * m        m: mean norm of the model's token embeddings

after each step each vector is scaled back into that ball. They begin as embeddings of random tokens
(Lester et al. 2021, arXiv 2104.08691).

Source: Schwinn et al. 2024 (arXiv 2402.09063, attacks in embedding space, on unlearned models);
Guo et al. 2024 (arXiv 2410.12949, four universal soft prompts trained on half of the forget set).
Cost: per learning rate two trainings of the largest number of steps, and per step looked at one
generation pass and one pass over the choices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench.attack.attack import Cell
from workbench.attack.exam import Exam, in_front
from workbench.attack.halves import Half, halves, true_answers
from workbench.attack.learning import (
    Direction,
    check_rates,
    check_training,
    curve,
    descent,
)
from workbench.edit.train.examples import answers
from workbench.edit.train.loop import drawn
from workbench.edit.train.losses import nll
from workbench.facts.fact import Request
from workbench.models.model import Model
from workbench.progress import SILENT, Progress


@dataclass(frozen=True)
class SoftPromptConfig:
    """Settings of the soft prompt.

    Attributes:
        vectors: how many embeddings stand in front.
        epsilon: largest norm of each, in mean norms of the model's token embeddings.
        lrs: learning rates, in root mean squares of the embeddings' values.
        steps: optimiser steps after which the model is asked.
        schedule: of the learning rate, constant or cosine.
        batch: examples a step.
        clip: largest norm of the gradient.
        wordings: prompts asked of each fact, its own first.
        seed: of the halves, the first vectors and every draw.
    """

    vectors: int = 4
    epsilon: float = 6.0
    lrs: tuple[float, ...] = (0.1,)
    steps: tuple[int, ...] = (16, 48)
    schedule: str = "constant"
    batch: int = 16
    clip: float = 1.0
    wordings: int = 1
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        names = ("vectors", "epsilon", "batch", "clip", "wordings")
        check_training(self.steps, self.schedule, **{n: getattr(self, n) for n in names})
        check_rates("lrs", self.lrs)


class Embedding(nn.Module):
    """A model's embedding with further tokens behind its vocabulary: the soft prompt.

    Attributes:
        table: the model's own embedding.
        vectors: the further ones.
        count: tokens of the vocabulary.
    """

    def __init__(self, table: nn.Module, vectors: Float[Tensor, "k d_model"], count: int):
        super().__init__()
        self.table = table
        self.vectors = nn.Parameter(vectors)
        self.count = count

    def forward(self, ids: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        """Look every token up."""
        soft = ids >= self.count
        known = self.table(ids.masked_fill(soft, 0))
        own = self.vectors[(ids - self.count).clamp(min=0)].to(known.dtype)
        return torch.where(soft[..., None], own, known)


@dataclass(frozen=True, eq=False)
class SoftPrompt:
    """A parameter-sharing copy of a model that knows further tokens, its soft prompt.

    Attributes:
        model: the copy; nothing but the vectors asks for gradients.
        vectors: what is trained.
        tokens: the tokens that stand for them.
        norm: mean norm of the model's own embeddings.
    """

    model: Model
    vectors: Float[nn.Parameter, "k d_model"]
    tokens: tuple[int, ...]
    norm: float

    @staticmethod
    def of(model: Model, count: int, *, seed: int = 0) -> SoftPrompt:
        """Begin with the embeddings of random tokens.

        Args:
            model: the model; it stays as it is.
            count: number of vectors.
            seed: of the draw.
        """
        copy = model.fork()
        table = copy.hf.get_input_embeddings()
        size = table.weight.shape[0]
        generator = torch.Generator().manual_seed(seed)
        drawn_tokens = torch.randperm(size, generator=generator)[:count].to(model.device)
        with torch.no_grad():  # what the module returns, for some families scale in it
            norm = float(table(torch.arange(size, device=model.device)).float().norm(dim=-1).mean())
            start = table(drawn_tokens).float().clone()
        embedding = Embedding(table, start, size)
        copy.hf.set_input_embeddings(embedding)
        embedding.vectors.requires_grad_(True)
        return SoftPrompt(copy, embedding.vectors, tuple(range(size, size + count)), norm)

    @torch.no_grad()
    def bound(self, epsilon: float) -> None:
        """Scale vectors that are longer than epsilon mean norms back to that."""
        norms = self.vectors.norm(dim=-1, keepdim=True)
        self.vectors.mul_((epsilon * self.norm / norms.clamp(min=1e-12)).clamp(max=1.0))


def soft_prompt(
    model: Model,
    request: Request,
    config: SoftPromptConfig,
    *,
    base: Model,
    progress: Progress = SILENT,
) -> tuple[Cell, ...]:
    """Train vectors on one half of the forget facts and put them before the other half's prompts.

    Raises:
        WorkbenchError: settings that make no sense, a forget set about one subject, or a prompt
            that leaves no room.
    """
    config.check()
    tokens = SoftPrompt.of(model, config.vectors).tokens
    directions = [
        _direction(model, request, half, tokens, config)
        for half in halves(request.forget, seed=config.seed)
    ]
    cells: list[Cell] = []
    for lr in progress.track(dict.fromkeys(config.lrs), "soft prompts"):
        train = partial(_train, model, lr=lr, config=config, progress=progress)
        cells += curve({"lr": lr}, config.steps, directions, train)
    return tuple(cells)


def _direction(
    model: Model, request: Request, half: Half, tokens: tuple[int, ...], config: SoftPromptConfig
) -> Direction:
    """Return what is taught and asked, the soft prompt's tokens in front."""
    taught = true_answers(model, half.taught, half.tested.subjects)
    exam = Exam.of(model, half.tested, request.behaviour, wordings=config.wordings, front=tokens)
    return Direction(in_front(model, taught, tokens), exam)


def _train(
    model: Model,
    direction: Direction,
    *,
    lr: float,
    config: SoftPromptConfig,
    progress: Progress,
) -> Iterator[tuple[int, Model]]:
    """Train vectors; yield the model with them at each checkpoint.

    Raises:
        WorkbenchError: the training diverged.
    """
    soft = SoftPrompt.of(model, config.vectors, seed=config.seed)
    soft.bound(config.epsilon)
    rows = drawn(len(direction.taught), config.batch, config.seed)
    reached = descent(
        [soft.vectors],
        lambda: nll(answers(soft.model, direction.taught.take(next(rows)))),
        config.steps,
        lr=lr * soft.norm / model.d_model**0.5,
        schedule=config.schedule,
        clip=config.clip,
        project=lambda: soft.bound(config.epsilon),
        progress=progress,
    )
    for step, _ in reached:
        yield step, soft.model
