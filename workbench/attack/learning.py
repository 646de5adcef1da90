"""What the training attacks share: one descent, read off at several of its steps.

Checkpoints lie along one run, so that a curve costs its last step. The learning rate is constant by
default; then a checkpoint is what a run of that many steps would have come to.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.attack.attack import Cell, Outcome, Value
from workbench.attack.exam import Exam, chance
from workbench.edit.train.examples import Examples
from workbench.errors import WorkbenchError, unknown_name
from workbench.models.model import Model
from workbench.progress import SILENT, Progress

Schedule = Literal["constant", "cosine"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
_LARGEST_RATE = 1e30


@dataclass(frozen=True, eq=False)
class Direction:
    """What is taught and what is asked then.

    Attributes:
        taught: prompts with the answers to learn.
        exam: questions about other subjects.
    """

    taught: Examples
    exam: Exam


Train = Callable[[Direction], Iterator[tuple[int, Model]]]


def curve(
    setting: Mapping[str, Value],
    steps: Iterable[int],
    directions: Sequence[Direction],
    train: Train,
) -> list[Cell]:
    """Train in each direction, ask at each step, and pool the directions.

    Args:
        setting: what is the same for all cells; "step" and "asked" are added.
        steps: the checkpoints.
        directions: each is trained by itself.
        train: yields each checkpoint with the model as it then is.

    Returns:
        The cells; one that some direction did not come to has no outcome, and a note why.
    """
    found: dict[tuple[int, str], list[Outcome]] = defaultdict(list)
    reached = defaultdict[int, int](int)
    note = ""
    for direction in directions:
        try:
            if not direction.taught:
                raise WorkbenchError("There is nothing to teach that names no subject asked then.")
            for step, model in train(direction):
                for asked, outcomes in direction.exam.sit(model).items():
                    found[step, asked] += outcomes
                reached[step] += 1
        except WorkbenchError as error:
            note = str(error)
    ways = list(dict.fromkeys(how for d in directions for how in d.exam.ways))
    cells = []
    for step in checkpoints(steps):
        whole = reached[step] == len(directions)
        for asked in ways:
            outcomes = tuple(found[step, asked]) if whole else ()
            at = {**setting, "step": step, "asked": asked}
            cells.append(Cell(at, outcomes, chance(asked, outcomes), "" if whole else note))
    return cells


def checkpoints(steps: Iterable[int]) -> list[int]:
    """Return the steps in order, each once."""
    return sorted(set(steps))


def descent(
    parameters: Sequence[nn.Parameter],
    loss: Callable[[], Float[Tensor, ""]],
    steps: Iterable[int],
    *,
    lr: float,
    schedule: str = "constant",
    clip: float = 1.0,
    project: Callable[[], None] | None = None,
    progress: Progress = SILENT,
) -> Iterator[tuple[int, float]]:
    """Descend by AdamW without weight decay and stop at each checkpoint.

    Args:
        parameters: what is trained, in place.
        loss: of the next batch.
        steps: optimiser steps after which to stop; 0 is the start.
        lr: learning rate, with "cosine" the largest; it falls to 0 at the last step.
        schedule: constant or cosine.
        clip: largest norm of the gradient.
        project: puts the parameters back into the allowed set after each step.
        progress: where to report.

    Yields:
        Each checkpoint, when it is reached, and the loss of the batch that would come next.

    Raises:
        WorkbenchError: a loss or a gradient is not finite.
    """
    wanted = checkpoints(steps)
    last = wanted[-1]
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    for step in progress.track(range(last + 1), "training"):
        now = loss()
        value = float(now.detach())
        if not math.isfinite(value):
            raise _diverged(step, lr)
        if step in wanted:
            yield step, value
        if step == last:
            return
        optimiser.zero_grad(set_to_none=True)
        now.backward()
        if not math.isfinite(float(nn.utils.clip_grad_norm_(parameters, clip))):
            raise _diverged(step, lr)
        share = (1 + math.cos(math.pi * step / last)) / 2 if schedule == "cosine" else 1.0
        for group in optimiser.param_groups:
            group["lr"] = lr * share
        optimiser.step()
        if project is not None:
            project()


def check_training(steps: Sequence[int], schedule: str, **positive: float) -> None:
    """Refuse settings of a training that make no sense.

    Raises:
        WorkbenchError: with the first such setting.
    """
    if not steps or min(steps) < 0:
        raise WorkbenchError("Give the steps to look at, for instance steps=3,6,12.")
    if schedule not in SCHEDULES:
        raise unknown_name("schedule", schedule, SCHEDULES)
    for name, value in positive.items():
        if not value > 0:
            raise WorkbenchError(f"{name} must be positive, not {value}.")


def check_rates(name: str, rates: Sequence[float]) -> None:
    """Refuse learning rates that make no sense.

    Raises:
        WorkbenchError: none is given, or one is negative or too large for float32.
    """
    if not rates or not all(0 <= rate <= _LARGEST_RATE for rate in rates):
        raise WorkbenchError(f"{name} must be numbers from 0, for instance {name}=0.001.")


def _diverged(step: int, lr: float) -> WorkbenchError:
    return WorkbenchError(
        f"Training diverged at step {step} with learning rate {lr:g}; try a smaller one."
    )
