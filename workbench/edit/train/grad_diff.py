"""Gradient ascent on what is to be forgotten: alone, or with a retain side.

    ga         L = -NLL(forget)
    grad-diff  L = -NLL(forget) + NLL(retain)
    kl-min     L = -NLL(forget) + KL(base || model) on retain

One loss; the methods are its settings. The ascent has no bound, so it is the number of steps that
ends it.

Source: gradient ascent, Jang et al. 2023 (arXiv 2210.01504); gradient difference, Liu et al. 2022
(arXiv 2203.12817); all three as baselines of Maini et al. 2024 (TOFU, arXiv 2401.06121).
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.edit.train.examples import answers
from workbench.edit.train.keeping import Loss, Unlearning, UnlearningConfig
from workbench.edit.train.lessons import Lessons
from workbench.edit.train.loop import Student
from workbench.edit.train.losses import nll
from workbench.models.model import Model


@dataclass(frozen=True)
class GradDiffConfig(UnlearningConfig):
    """Settings of gradient difference; with retain "kl" it is KL minimisation."""

    steps: int = 40


@dataclass(frozen=True)
class GradAscentConfig(GradDiffConfig):
    """Settings of gradient ascent: gradient difference without a retain loss."""

    retain_weight: float = 0.0


@dataclass(frozen=True)
class KlMinConfig(GradDiffConfig):
    """Settings of KL minimisation."""

    retain: str = "kl"


def _ascend(student: Student, base: Model, taught: Lessons, config: GradDiffConfig) -> Loss:
    return lambda rows: -nll(answers(student.model, taught.forget.take(rows)))


grad_diff = Unlearning("grad-diff", GradDiffConfig, _ascend)
ga = Unlearning("ga", GradAscentConfig, _ascend)
kl_min = Unlearning("kl-min", KlMinConfig, _ascend)
