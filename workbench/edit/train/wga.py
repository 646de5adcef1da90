"""Weighted gradient ascent: what the model is unsure of already is ascended less.

    L = mean over answer tokens of  w log p,   w = p^alpha without gradient

Source: Wang et al. 2025 (arXiv 2502.19301), section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from workbench.edit.train.examples import Answers, answers
from workbench.edit.train.keeping import Loss, Unlearning, UnlearningConfig
from workbench.edit.train.lessons import Lessons
from workbench.edit.train.loop import Student
from workbench.edit.train.losses import label_log_probs
from workbench.models.model import Model


@dataclass(frozen=True)
class WgaConfig(UnlearningConfig):
    """Settings of weighted gradient ascent.

    Attributes:
        alpha: power of the token's probability that is its weight; 0 is gradient difference.
    """

    alpha: float = 1.0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        super().check()
        self.check_signs(not_negative=("alpha",))


def weighted_ascent(said: Answers, alpha: float) -> Float[Tensor, ""]:
    """Return the mean of p^alpha log p over answer tokens, with no gradient through p^alpha."""
    log_probs = label_log_probs(said)
    return ((alpha * log_probs.detach()).exp() * log_probs).mean()


def _forget(student: Student, base: Model, taught: Lessons, config: WgaConfig) -> Loss:
    return lambda rows: weighted_ascent(
        answers(student.model, taught.forget.take(rows)), config.alpha
    )


wga = Unlearning("wga", WgaConfig, _forget)
