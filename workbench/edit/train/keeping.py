"""What unlearning methods share: they stay with the base on what is kept, and differ by a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar, get_args

from jaxtyping import Float
from torch import Tensor

from workbench.edit.edit import Edit
from workbench.edit.stamp import Sites
from workbench.edit.train.examples import answers, reference_logits
from workbench.edit.train.lessons import Lessons
from workbench.edit.train.loop import Objective, Rows, Student, TrainingConfig, train_edit
from workbench.edit.train.losses import kl, nll
from workbench.errors import unknown_name
from workbench.facts.fact import Request
from workbench.models.components import ComponentSet
from workbench.models.model import Model
from workbench.progress import SILENT, Progress

RetainName = Literal["nll", "kl"]
RETAIN: tuple[RetainName, ...] = get_args(RetainName)
Loss = Callable[[Rows], Float[Tensor, ""]]


@dataclass(frozen=True)
class UnlearningConfig(TrainingConfig):
    """Settings of a method that adds a loss of its own to the shared retain side.

    Attributes:
        retain: loss on what is kept: nll of the model's own answers, or kl to the base.
        sharpness: radius of the step uphill at which the forget gradient is taken; 0 for none.
    """

    retain: str = "nll"
    sharpness: float = 0.0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        super().check()
        self.check_signs(not_negative=("sharpness",))
        self.check_choice("retain", RETAIN)


Config = TypeVar("Config", bound=UnlearningConfig)


@dataclass(frozen=True)
class Unlearning(Generic[Config]):
    """An unlearning method, called like any other: a forget loss beside the shared retain side.

    Attributes:
        name: in the registry.
        config: the class of its settings.
        forget: makes its loss at rows of `Lessons.forget`, given the student, the base, the lessons
            and the settings.
    """

    name: str
    config: type[Config]
    forget: Callable[[Student, Model, Lessons, Config], Loss]

    def __call__(
        self,
        model: Model,
        request: Request,
        components: ComponentSet | Sites,
        config: Config | None = None,
        *,
        progress: Progress = SILENT,
    ) -> Edit:
        """Make an edit; see `train_edit` for arguments and errors."""
        chosen = config or self.config()

        def build(student: Student, base: Model, taught: Lessons) -> Objective:
            keep = None
            if chosen.retain_weight:
                keep = retain_loss(student, base, taught, chosen.retain)
            return Objective(self.forget(student, base, taught, chosen), keep, chosen.sharpness)

        return train_edit(self.name, model, request, components, chosen, build, progress)


def retain_loss(student: Student, base: Model, taught: Lessons, kind: str = "nll") -> Loss:
    """Return the loss at rows of `Lessons.retain + Lessons.neutral`.

    nll: of the model's own answers and texts. kl: KL(base || student) at their tokens; the base is
    run once.

    Raises:
        WorkbenchError: another kind.
    """
    if kind not in RETAIN:
        raise unknown_name("retain loss", kind, RETAIN)
    every = taught.retain + taught.neutral
    if kind == "nll":
        return lambda rows: nll(answers(student.model, every.take(rows)))
    before = reference_logits(base, every)
    return lambda rows: kl(answers(student.model, every.take(rows)), before(rows))
