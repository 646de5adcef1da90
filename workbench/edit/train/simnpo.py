"""SimNPO: negative preference optimisation without a reference, normalised by length.

    L = -(2 / beta) mean over answers of  log sigma( -(beta / |y|) log p(y | x) - margin )

Short answers count as much as long ones, and one that the base found unlikely is not pushed on.

Source: Fan et al. 2024 (arXiv 2410.07163), eq. 4; its margin is written gamma there.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from workbench.edit.train.examples import answers
from workbench.edit.train.keeping import Loss, Unlearning, UnlearningConfig
from workbench.edit.train.lessons import Lessons
from workbench.edit.train.loop import Rows, Student
from workbench.edit.train.losses import label_log_probs, means, preference
from workbench.models.model import Model


@dataclass(frozen=True)
class SimNpoConfig(UnlearningConfig):
    """Settings of SimNPO.

    Attributes:
        beta: how soon an answer that has become unlikely is left alone; near 0, never.
        margin: how unlikely an answer is to become, in nats a token times beta.
    """

    beta: float = 4.5
    margin: float = 0.0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        super().check()
        self.check_signs(positive=("beta",), not_negative=("margin",))


def _forget(student: Student, base: Model, taught: Lessons, config: SimNpoConfig) -> Loss:
    def loss(rows: Rows) -> Float[Tensor, ""]:
        said = answers(student.model, taught.forget.take(rows))
        now = means(label_log_probs(said), said)
        return preference(-now - config.margin / config.beta, config.beta)

    return loss


simnpo = Unlearning("simnpo", SimNpoConfig, _forget)
