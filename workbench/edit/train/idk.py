"""Say something else: learn the refusal or the foil, or prefer it to the answer.

    idk  L = NLL(instead)
    dpo  L = -(2 / beta) mean over answers of
             log sigma( beta ( log [ p(y') / p_base(y') ] - log [ p(y) / p_base(y) ] ) )

y' is what to say instead of y, both behind one prompt, and p that of the whole answer. The factor
2 / beta is that of negative preference optimisation, which is the same loss without y'.

Source: idk, Maini et al. 2024 (TOFU, arXiv 2401.06121), section 4; dpo, Rafailov et al. 2023 (arXiv
2305.18290), eq. 7, for unlearning as in Zhang et al. 2024 (arXiv 2404.05868), section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from workbench.edit.train.examples import answers
from workbench.edit.train.keeping import Loss, Unlearning, UnlearningConfig
from workbench.edit.train.lessons import Lessons
from workbench.edit.train.loop import Rows, Student
from workbench.edit.train.losses import answer_log_probs, nll, preference, reference_log_probs
from workbench.edit.train.npo import NpoConfig
from workbench.models.model import Model


@dataclass(frozen=True)
class IdkConfig(UnlearningConfig):
    """Settings of learning to say something else."""

    steps: int = 30
    batch: int = 16


@dataclass(frozen=True)
class DpoConfig(NpoConfig):
    """Settings of preferring to say something else."""


def say_instead(student: Student, base: Model, taught: Lessons, config: UnlearningConfig) -> Loss:
    """Return the loss of learning the refusal or the foil behind forget prompts."""
    return lambda rows: nll(answers(student.model, taught.instead.take(rows)))


def _prefer(student: Student, base: Model, taught: Lessons, config: DpoConfig) -> Loss:
    before = reference_log_probs(base, taught.instead) - reference_log_probs(base, taught.forget)

    def loss(rows: Rows) -> Float[Tensor, ""]:
        wanted, unwanted = (
            answer_log_probs(answers(student.model, side.take(rows)))
            for side in (taught.instead, taught.forget)
        )
        return preference(wanted - unwanted - before[list(rows)], config.beta)

    return loss


idk = Unlearning("idk", IdkConfig, say_instead)
dpo = Unlearning("dpo", DpoConfig, _prefer)
