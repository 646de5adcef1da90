"""UNDIAL: learn one's own distribution, with the answer's logit lowered.

    L = mean over answer tokens of  CE( softmax( z_base - beta onehot(y) ), p )

z_base are the base's logits and p the model's probabilities. The goal is fixed before training, so
nothing runs away.

Source: Dong et al. 2025 (arXiv 2402.10052), section 3; its beta is written gamma there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from workbench.edit.train.examples import Answers, answers, reference_logits
from workbench.edit.train.keeping import Loss, Unlearning, UnlearningConfig
from workbench.edit.train.lessons import Lessons
from workbench.edit.train.loop import Student
from workbench.models.model import Model


@dataclass(frozen=True)
class UndialConfig(UnlearningConfig):
    """Settings of UNDIAL.

    Attributes:
        beta: by how much the answer's logit is lowered.
    """

    beta: float = 10.0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        super().check()
        self.check_signs(positive=("beta",))


def lowered(
    said: Answers, reference: Float[Tensor, "token vocab"], beta: float
) -> Float[Tensor, ""]:
    """Return the cross-entropy with the reference's logits, those of the labels lowered by beta.

    Args:
        said: the model's answers.
        reference: logits of the reference at the same tokens.
        beta: how far to lower.
    """
    less = reference.new_full((len(said.labels), 1), -beta)
    goal = reference.scatter_add(1, said.labels[:, None], less).softmax(-1)
    return F.cross_entropy(said.logits, goal)


def _forget(student: Student, base: Model, taught: Lessons, config: UndialConfig) -> Loss:
    before = reference_logits(base, taught.forget)
    return lambda rows: lowered(
        answers(student.model, taught.forget.take(rows)), before(rows), config.beta
    )


undial = Unlearning("undial", UndialConfig, _forget)
