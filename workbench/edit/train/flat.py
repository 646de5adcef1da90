"""FLAT: maximise an f-divergence between what to say instead and what to forget.

    L = mean over prompts of  -g(P(y')) + f*(g(P(y)))

P is the mean probability of an answer's tokens, y' what to say instead of y, f* the divergence's
conjugate and g its best variational function. The divergence says how the two sides weigh; without
a retain side only the forget set is used.

    name     g(v)                   f*(u)
    kl       v                      exp(u - 1)
    tv       tanh(v) / 2            u
    js       log(2 / (1 + e^-v))    -log(2 - e^u)
    pearson  v                      u^2 / 4 + u

Source: Wang et al. 2025 (FLAT, arXiv 2410.11143), section 3; the functions are those of Nowozin et
al. 2016 (arXiv 1606.00709), table 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from workbench.edit.train.examples import Answers, answers
from workbench.edit.train.keeping import Loss, Unlearning, UnlearningConfig
from workbench.edit.train.lessons import Lessons
from workbench.edit.train.loop import Student
from workbench.edit.train.losses import label_log_probs, means
from workbench.models.model import Model

Function = Callable[[Tensor], Tensor]
_LOG2 = math.log(2)
DIVERGENCES: Mapping[str, tuple[Function, Function]] = {  # name -> g, f*(g)
    "kl": (lambda v: v, lambda v: (v - 1).exp()),
    "tv": (lambda v: v.tanh() / 2, lambda v: v.tanh() / 2),
    "js": (lambda v: _LOG2 - F.softplus(-v), lambda v: F.softplus(v) - _LOG2),
    "pearson": (lambda v: v, lambda v: v.square() / 4 + v),
}


@dataclass(frozen=True)
class FlatConfig(UnlearningConfig):
    """Settings of FLAT.

    Attributes:
        divergence: kl, tv (total variation), js (Jensen-Shannon) or pearson.
    """

    divergence: str = "kl"

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        super().check()
        self.check_choice("divergence", DIVERGENCES)


def flat_loss(instead: Answers, forget: Answers, divergence: str) -> Float[Tensor, ""]:
    """Return the negative variational bound of a divergence, averaged over prompts."""
    g, conjugate = DIVERGENCES[divergence]
    wanted, unwanted = (means(label_log_probs(said).exp(), said) for said in (instead, forget))
    return torch.mean(conjugate(unwanted) - g(wanted))


def _forget(student: Student, base: Model, taught: Lessons, config: FlatConfig) -> Loss:
    return lambda rows: flat_loss(
        answers(student.model, taught.instead.take(rows)),
        answers(student.model, taught.forget.take(rows)),
        config.divergence,
    )


flat = Unlearning("flat", FlatConfig, _forget)
