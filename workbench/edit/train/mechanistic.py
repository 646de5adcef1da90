"""Mechanistic unlearning: train the localized components only, to say something else.

L = w (injection or -log(1 - p)) + NLL(retain) + NLL(neutral text)

Injection learns the refusal or foil behind every forget prompt; `log1mp` only lowers the
probability of the answer. Components come from a localization, at equal parameter budget where
several are compared.

Source: Guo et al. 2024 (arXiv 2410.12949): the loss of its editing and unlearning tasks, AdamW
without weight decay, 50 steps along a cosine, norm clipped at 1. The neutral texts here are the
model's own, not the Pile's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from workbench.edit.train.examples import answers
from workbench.edit.train.idk import say_instead
from workbench.edit.train.keeping import Loss, Unlearning, UnlearningConfig
from workbench.edit.train.lessons import Lessons
from workbench.edit.train.loop import Student
from workbench.edit.train.losses import log_one_minus_p
from workbench.models.model import Model

ForgetName = Literal["injection", "log1mp"]
FORGET: tuple[ForgetName, ...] = get_args(ForgetName)


@dataclass(frozen=True)
class MechanisticConfig(UnlearningConfig):
    """Settings of mechanistic unlearning.

    Attributes:
        forget: injection, which learns the refusal or foil, or log1mp, which lowers the answer.
    """

    steps: int = 40
    lr: float = 1e-3
    forget: str = "injection"

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        super().check()
        self.check_choice("forget", FORGET)


def _forget(student: Student, base: Model, taught: Lessons, config: MechanisticConfig) -> Loss:
    if config.forget == "injection":
        return say_instead(student, base, taught, config)
    return lambda rows: -log_one_minus_p(answers(student.model, taught.forget.take(rows))).mean()


mechanistic = Unlearning("mechanistic", MechanisticConfig, _forget)
