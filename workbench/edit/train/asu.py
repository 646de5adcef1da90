"""Attention smoothing unlearning: learn to answer as with blurred attention.

    teacher  the base with every attention softmax( Q K^T / (temperature sqrt(d)) )
    L        mean over answer tokens of  KL( p_teacher || p )

A blurred attention no longer finds what a fact hangs on, and still finds how a sentence goes on, so
the teacher forgets facts and stays fluent. It is run once, on the forget set alone.

Source: Zare Zade et al. 2026 (arXiv 2603.01285), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.edit.train.examples import answers, reference_logits
from workbench.edit.train.keeping import Loss, Unlearning, UnlearningConfig
from workbench.edit.train.lessons import Lessons
from workbench.edit.train.loop import Student
from workbench.edit.train.losses import kl
from workbench.errors import WorkbenchError
from workbench.models.model import Model


@dataclass(frozen=True)
class AsuConfig(UnlearningConfig):
    """Settings of attention smoothing unlearning.

    Attributes:
        temperature: of the teacher's attention; 1 is the base itself. At the paper's 2 to 2.8 the
            bundled model still finds its facts.
    """

    temperature: float = 1000.0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        super().check()
        self.check_signs(positive=("temperature",))


def smoothed(model: Model, temperature: float) -> Model:
    """Return a copy whose attention scores are divided by a temperature; no parameter is copied.

    Raises:
        WorkbenchError: the model's attention has no scale to divide.
    """
    copy = model.fork()
    attentions: list[Any] = [
        m for m in copy.hf.modules() if isinstance(getattr(m, "scaling", None), float)
    ]
    if len(attentions) != model.n_layers:
        raise WorkbenchError(
            f"The attention of {model.name} cannot be smoothed, because its scale is not found; "
            "use another method."
        )
    for attention in attentions:
        attention.scaling /= temperature
    return copy


def _forget(student: Student, base: Model, taught: Lessons, config: AsuConfig) -> Loss:
    teacher = reference_logits(smoothed(base, config.temperature), taught.forget)
    return lambda rows: kl(answers(student.model, taught.forget.take(rows)), teacher(rows))


asu = Unlearning("asu", AsuConfig, _forget)
