"""Relearning: teach some of what was forgotten, and ask about the rest.

    half       the forget set is split in two by its subjects; the model is trained on the true
               answers of one half and asked about the other, then the other way round
    unrelated  it is trained on the true answers of facts to keep, and asked about all

    full       all weights of MLPs and attentions are trained
    lora       low-rank adapters beside them (Hu et al. 2021, arXiv 2106.09685)

Nobody tells the answers that come back: they were only hidden. A model that never knew them learns
to guess from the same training; the oracle, trained alike, shows how much of the number that is.
Training may also destroy: a setting in which the base itself forgets shows nothing about the edit.
Each learning rate is one training in each direction, read off at every one of `steps`.

Source: Deeb & Roger 2024 (arXiv 2410.08827, retraining on some facts); Guo et al. 2024 (arXiv
2410.12949, adversarial relearning with kept facts mixed in); Łucki et al. 2024 (arXiv 2409.18025,
unrelated data). Cost: per kind and learning rate three trainings of the largest number of steps,
and per step looked at one generation pass and one pass over the choices.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from workbench.attack.adapters import adapted
from workbench.attack.attack import Cell
from workbench.attack.exam import Exam
from workbench.attack.halves import halves, true_answers
from workbench.attack.learning import (
    Direction,
    check_rates,
    check_training,
    curve,
    descent,
)
from workbench.edit.train.examples import Examples, answers
from workbench.edit.train.loop import Student, drawn
from workbench.edit.train.losses import nll
from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.fact import FactSet, Request
from workbench.models.model import Model
from workbench.progress import SILENT, Progress

Kind = Literal["full", "lora"]
Data = Literal["half", "unrelated"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DATA: tuple[Data, ...] = get_args(Data)


@dataclass(frozen=True)
class RelearnConfig:
    """Settings of relearning.

    Attributes:
        kinds: what is trained, full or lora.
        data: what is taught, half (the other half of the forget set) or unrelated (kept facts).
        lrs: learning rates of full training.
        lora_lrs: learning rates of adapters.
        steps: optimiser steps after which the model is asked.
        schedule: of the learning rate, constant or cosine.
        batch: examples a step.
        keep: examples of kept facts mixed into each step of `half`, as a loss of equal weight, as
            far as there are any; without them a few facts taught make even the base forget.
        most: most examples of kept facts.
        rank: inner dimension of the adapters.
        alpha: their output is scaled by alpha / rank.
        clip: largest norm of the gradient.
        wordings: prompts asked of each fact, its own first.
        seed: of the halves, the adapters and every draw.
    """

    kinds: tuple[str, ...] = ("full",)
    data: tuple[str, ...] = DATA
    lrs: tuple[float, ...] = (3e-4,)
    lora_lrs: tuple[float, ...] = (3e-3,)
    steps: tuple[int, ...] = (6, 12, 24, 48)
    schedule: str = "constant"
    batch: int = 16
    keep: int = 16
    most: int = 256
    rank: int = 16
    alpha: float = 16.0
    clip: float = 1.0
    wordings: int = 1
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        for name, given, known in (("kind", self.kinds, KINDS), ("data", self.data, DATA)):
            for one in given or ("",):
                if one not in known:
                    raise unknown_name(name, one, known)
        names = ("batch", "most", "rank", "alpha", "clip", "wordings")
        check_training(self.steps, self.schedule, **{n: getattr(self, n) for n in names})
        if self.keep < 0:
            raise WorkbenchError(f"keep must not be negative, not {self.keep}.")
        check_rates("lrs", self.lrs)
        check_rates("lora_lrs", self.lora_lrs)


def relearn(
    model: Model,
    request: Request,
    config: RelearnConfig,
    *,
    base: Model,
    progress: Progress = SILENT,
) -> tuple[Cell, ...]:
    """Train on some of the forget facts, or on kept ones, and ask about the rest.

    Raises:
        WorkbenchError: settings that make no sense, or a forget set about one subject that is to be
            split.
    """
    config.check()
    kept = Examples()
    if config.keep or "unrelated" in config.data:
        hidden = request.forget.subjects
        kept = true_answers(model, request.retain, hidden, most=config.most, seed=config.seed)
    directions = {data: _directions(model, request, data, kept, config) for data in config.data}
    rates = {"full": config.lrs, "lora": config.lora_lrs}
    settings = [
        (kind, data, lr)
        for kind, data in product(dict.fromkeys(config.kinds), directions)
        for lr in dict.fromkeys(rates[kind])
    ]
    cells: list[Cell] = []
    for kind, data, lr in progress.track(settings, "relearning"):
        beside = kept if data == "half" and config.keep else Examples()
        train = partial(
            _train, model, kind=kind, lr=lr, kept=beside, config=config, progress=progress
        )
        at = {"kind": kind, "data": data, "lr": lr}
        cells += curve(at, config.steps, directions[data], train)
    return tuple(cells)


def _directions(
    model: Model, request: Request, data: str, kept: Examples, config: RelearnConfig
) -> list[Direction]:
    """Return what is taught and what is asked then."""

    def exam(facts: FactSet) -> Exam:
        return Exam.of(model, facts, request.behaviour, wordings=config.wordings)

    if data == "unrelated":
        return [Direction(kept, exam(request.forget))]
    return [
        Direction(true_answers(model, half.taught, half.tested.subjects), exam(half.tested))
        for half in halves(request.forget, seed=config.seed)
    ]


def _train(
    model: Model,
    direction: Direction,
    *,
    kind: str,
    lr: float,
    kept: Examples,
    config: RelearnConfig,
    progress: Progress,
) -> Iterator[tuple[int, Model]]:
    """Train a copy; yield it at each checkpoint.

    Raises:
        WorkbenchError: the training diverged.
    """
    taught = direction.taught
    pupil, parameters = _pupil(model, kind, config)
    rows = drawn(len(taught), config.batch, config.seed)
    beside = drawn(len(kept), config.keep, config.seed + 1)

    def loss() -> Float[Tensor, ""]:
        own = nll(answers(pupil, taught.take(next(rows))))
        return own + nll(answers(pupil, kept.take(next(beside)))) if kept else own

    reached = descent(
        parameters,
        loss,
        config.steps,
        lr=lr,
        schedule=config.schedule,
        clip=config.clip,
        progress=progress,
    )
    for step, _ in reached:
        yield step, pupil


def _pupil(model: Model, kind: str, config: RelearnConfig) -> tuple[Model, Sequence[nn.Parameter]]:
    """Return a copy and what is trained of it."""
    if kind == "lora":
        copied = adapted(model, rank=config.rank, alpha=config.alpha, seed=config.seed)
        return copied.model, copied.trained
    student = Student.of(_single_precision(model), model.structure.everything)
    return student.model, list(student.trained.values())


def _single_precision(model: Model) -> Model:
    """Return the model in float32 if it has less, in which small steps would be rounded away."""
    if all(p.dtype.itemsize >= 4 for p in model.parameters.values()):
        return model
    return replace(model, hf=copy.deepcopy(model.hf).float())
