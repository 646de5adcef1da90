"""The training loop: gradient steps on the chosen components of a private copy, and nothing else.

The copy shares every parameter with the base but those that are trained; a gradient is asked of
those alone, masked where only some heads or neurons of a matrix were chosen. What comes out is a
`WeightDelta` like any other edit's.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.edit.edit import Edit, finish_by
from workbench.edit.stamp import Sites
from workbench.edit.train.config import TrainingConfig
from workbench.edit.train.lessons import Lessons, lessons
from workbench.errors import WorkbenchError
from workbench.facts.fact import Request
from workbench.models.components import ComponentSet
from workbench.models.delta import Dense
from workbench.models.model import Model, replace_parameter
from workbench.progress import SILENT, Progress

Rows = Sequence[int]


@dataclass(frozen=True)
class Objective:
    """What a method descends: losses of the student at some rows of its lessons.

    Attributes:
        forget: loss at rows of `Lessons.forget`.
        retain: loss at rows of `Lessons.retain + Lessons.neutral`; None for none.
        sharpness: radius of the step uphill at which the forget gradient is taken; 0 for none
            (sharpness-aware minimisation).
    """

    forget: Callable[[Rows], Float[Tensor, ""]]
    retain: Callable[[Rows], Float[Tensor, ""]] | None
    sharpness: float = 0.0


@dataclass(frozen=True, eq=False)
class Student:
    """A private copy of a model with some parameters to train.

    Attributes:
        model: the copy; its trained parameters ask for gradients.
        masks: trained parameter -> which of its values may change.
        start: trained parameter -> its value before training.
    """

    model: Model
    masks: Mapping[str, Bool[Tensor, "..."]]
    start: Mapping[str, Tensor]

    @staticmethod
    def of(base: Model, components: ComponentSet) -> Student:
        """Copy what the components may change, and share the rest.

        Raises:
            WorkbenchError: no component, or one this model does not have.
        """
        masks = base.structure.masks(components, base.parameters)
        copy = base.fork()
        for name in masks:
            replace_parameter(copy.hf, name, base.parameters[name].clone())
        for name in masks:
            copy.hf.get_parameter(name).requires_grad_(True)
        copy.__dict__.pop("fingerprint", None)  # it is another model from now on
        # The bridge that would be asked for it freezes every parameter of the module it is given.
        copy.__dict__["structure"] = base.structure
        return Student(copy, masks, {name: base.parameters[name] for name in masks})

    @property
    def trained(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: self.model.hf.get_parameter(name) for name in self.masks}

    def updates(self) -> dict[str, Dense]:
        """Return how far each trained parameter has come."""
        return {
            name: Dense((parameter.detach() - self.start[name]) * self.masks[name])
            for name, parameter in self.trained.items()
        }


def train_edit(
    method: str,
    model: Model,
    request: Request,
    components: ComponentSet | Sites,
    config: TrainingConfig,
    build: Callable[[Student, Model, Lessons], Objective],
    progress: Progress = SILENT,
) -> Edit:
    """Make an edit by training the components.

    Args:
        method: the method's name in the registry.
        model: the model to edit; nothing writes to it.
        request: what to forget and keep.
        components: what to train; given per site, all of them together.
        config: the method's settings.
        build: makes the objective, given the student, the base and the lessons.
        progress: where to report.

    Raises:
        WorkbenchError: settings that make no sense, nothing to keep, or training that diverged; the
            model is as it was.
    """
    started = time.perf_counter()
    config.check()
    chosen = union(components)
    student = Student.of(model, chosen)
    taught = lessons(
        model,
        request,
        most=config.kept,
        neutral=config.neutral,
        seed=config.seed,
        progress=progress,
    )
    objective = build(student, model, taught)
    steps = descend(
        student,
        objective,
        (len(taught.forget), len(taught.retain + taught.neutral)),
        config,
        progress,
    )
    return finish_by(
        method, model, request, chosen, student.updates(), config, steps=steps, started=started
    )


def union(components: ComponentSet | Sites) -> ComponentSet:
    """Return the components of all sites together."""
    if isinstance(components, ComponentSet):
        return components
    return ComponentSet(tuple(c for chosen in components.values() for c in chosen))


def descend(
    student: Student,
    objective: Objective,
    sizes: tuple[int, int],
    config: TrainingConfig,
    progress: Progress = SILENT,
) -> pd.DataFrame:
    """Take the steps: AdamW without weight decay, a cosine of the learning rate, a clipped norm.

    The hyperparameters' form is that of Guo et al. 2024 (arXiv 2410.12949).

    Returns:
        One row a step: losses, the gradient's norm before clipping, and the learning rate.

    Raises:
        WorkbenchError: a loss or gradient is not finite.
    """
    parameters = student.trained
    # Steps are taken in float32: most of them are too small for a half-precision value to move.
    values = {
        name: p if p.dtype.itemsize > 2 else p.detach().float() for name, p in parameters.items()
    }
    optimiser = torch.optim.AdamW(values.values(), lr=config.lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    forget = drawn(sizes[0], config.batch, config.seed)
    retain = drawn(sizes[1], config.retain_batch, config.seed + 1)
    rows: list[dict[str, Any]] = []
    for step in progress.track(range(config.steps), "training"):
        student.model.hf.zero_grad(set_to_none=True)
        lost = _backward(student, objective, next(forget), next(retain), config)
        for name, parameter in parameters.items():
            value, grad = values[name], parameter.grad
            value.grad = None if grad is None else (grad * student.masks[name]).to(value.dtype)
        norm = float(torch.nn.utils.clip_grad_norm_(values.values(), config.clip))
        rows.append({"step": step, **lost, "gradient": norm, "lr": schedule.get_last_lr()[0]})
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for name, value in values.items():
                if value is not parameters[name]:
                    parameters[name].copy_(value)
        if not all(map(math.isfinite, (norm, *lost.values()))) or not _finite(parameters):
            raise WorkbenchError(
                f"Training diverged at step {step + 1} of {config.steps}, so nothing was changed; "
                "lower lr or forget_weight."
            )
    return pd.DataFrame(rows)


def _finite(parameters: Mapping[str, Tensor]) -> bool:
    return all(bool(p.isfinite().all()) for p in parameters.values())


def drawn(count: int, batch: int, seed: int) -> Iterator[list[int]]:
    """Yield batches of rows for ever: every row once in a new order, then again."""
    order: list[int] = []
    rng = random.Random(seed)
    while True:
        while len(order) < min(batch, count):
            more = list(range(count))
            rng.shuffle(more)
            order += more
        yield order[:batch] if batch < count else sorted(order[:count])
        order = order[batch:] if batch < count else []


def _backward(
    student: Student, objective: Objective, forget: Rows, retain: Rows, config: TrainingConfig
) -> dict[str, float]:
    """Add the gradients of both losses; return the losses.

    One after the other, so that only one graph is in memory at a time.
    """
    lost = {}
    if config.forget_weight:
        lost["forget_loss"] = _forget_backward(student, objective, forget, config.forget_weight)
    if objective.retain is not None and config.retain_weight:
        loss = objective.retain(retain)
        _add_gradient(config.retain_weight * loss)
        lost["retain_loss"] = float(loss.detach())
    return lost


def _add_gradient(loss: Float[Tensor, ""]) -> None:
    """Add a loss's gradient; text alone gives none to what a model sees with."""
    if loss.requires_grad:
        loss.backward()


def _forget_backward(student: Student, objective: Objective, rows: Rows, weight: float) -> float:
    """Add the forget gradient, taken uphill of the current point if the objective asks for it.

    With radius rho it is the gradient at theta + rho g / |g| (Fan et al. 2025, arXiv 2502.05374,
    eq. 6; |.| over all trained values).
    """
    loss = objective.forget(rows)
    _add_gradient(weight * loss)
    if not objective.sharpness or not loss.requires_grad:
        return float(loss.detach())
    parameters = student.trained
    grads = {
        name: parameter.grad * student.masks[name]
        for name, parameter in parameters.items()
        if parameter.grad is not None
    }
    norm = torch.stack([g.norm() for g in grads.values()]).norm().clamp_min(1e-12)
    kept = {name: parameters[name].detach().clone() for name in grads}
    with torch.no_grad():
        for name, g in grads.items():
            parameters[name].add_(g, alpha=objective.sharpness / float(norm))
            parameters[name].grad = None
    _add_gradient(weight * objective.forget(rows))
    with torch.no_grad():
        for name, value in kept.items():
            parameters[name].copy_(value)
    return float(loss.detach())
