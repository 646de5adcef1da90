"""Negative preference optimisation: the answer to forget is the loser of a pair without a winner.

    L = -(2 / beta) mean over answers of  log sigma( -beta log [ p(y | x) / p_base(y | x) ] )

p(y | x) is that of the whole answer. The gradient is that of gradient ascent times
2 p^beta / (p^beta + p_base^beta), so an answer that is already unlikely is left alone.

Its sharpness-aware form takes the forget gradient at the worst point within a radius, which makes
what was forgotten harder to learn again.

Source: Zhang et al. 2024 (arXiv 2404.05868), eq. 3; sharpness-aware: Fan et al. 2025 (arXiv
2502.05374), eq. 6.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from workbench.edit.train.examples import answers
from workbench.edit.train.keeping import Loss, Unlearning, UnlearningConfig
from workbench.edit.train.lessons import Lessons
from workbench.edit.train.loop import Rows, Student
from workbench.edit.train.losses import answer_log_probs, preference, reference_log_probs
from workbench.models.model import Model


@dataclass(frozen=True)
class NpoConfig(UnlearningConfig):
    """Settings of negative preference optimisation.

    Attributes:
        beta: how soon an answer that has become unlikely is left alone; near 0, never.
    """

    steps: int = 30
    beta: float = 0.1

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        super().check()
        self.check_signs(positive=("beta",))


@dataclass(frozen=True)
class SamNpoConfig(NpoConfig):
    """Settings of sharpness-aware negative preference optimisation."""

    sharpness: float = 0.01


def _forget(student: Student, base: Model, taught: Lessons, config: NpoConfig) -> Loss:
    before = reference_log_probs(base, taught.forget)

    def loss(rows: Rows) -> Float[Tensor, ""]:
        now = answer_log_probs(answers(student.model, taught.forget.take(rows)))
        return preference(before[list(rows)] - now, config.beta)

    return loss


npo = Unlearning("npo", NpoConfig, _forget)
sam_npo = Unlearning("sam-npo", SamNpoConfig, _forget)
