"""Quantisation: round the weights to fewer bits, as for deployment, and ask again.

Round to nearest, symmetric, in blocks of a row (one output) or of `group` inputs of a row:

    s = max |w| / (2^(bits-1) - 1),    w' = s round(w / s)

all matrices of MLPs and attentions, not embeddings, norms and head; the rounded weights are used as
floats, so only their values change. An edit whose changes are smaller than half a step is undone
where the old weights round to the same values.

Source: Zhang et al. 2024 (arXiv 2410.16454): unlearned models keep 21 % of the knowledge in full
precision and 83 % in 4 bits. Cost: one generation pass a setting; no data is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.attack.asking import ask_freely
from workbench.attack.attack import Cell
from workbench.attack.weights import with_weights
from workbench.errors import WorkbenchError
from workbench.facts.fact import Request
from workbench.models.model import Model
from workbench.progress import SILENT, Progress


@dataclass(frozen=True)
class QuantizationConfig:
    """Settings of quantisation.

    Attributes:
        bits: bits of a weight, sign included.
        group: inputs that share a scale; rows are tried as well.
        seed: unused, for nothing is drawn.
    """

    bits: tuple[int, ...] = (8, 4)
    group: int = 64
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        wrong = [b for b in self.bits if not 2 <= b <= 16]
        if wrong or not self.bits:
            raise WorkbenchError(f"Weights have 2 to 16 bits, not {wrong[0] if wrong else 'none'}.")
        if self.group < 1:
            raise WorkbenchError(f"A group has at least 1 input, not {self.group}.")


def quantization(
    model: Model,
    request: Request,
    config: QuantizationConfig,
    *,
    base: Model,
    progress: Progress = SILENT,
) -> tuple[Cell, ...]:
    """Ask the forget facts' own prompts after rounding the weights."""
    config.check()
    asked = [(fact, fact.prompt) for fact in request.forget]
    sizes = {"row": None, str(config.group): config.group}
    settings = [(bits, name) for bits in config.bits for name in sizes]
    cells = []
    for bits, name in progress.track(settings, "quantisation"):
        rounded = with_weights(model, lambda w, b=bits, g=sizes[name]: rounded_to(w, b, g))
        outcomes = ask_freely(rounded, asked, request.behaviour, progress=progress)
        cells.append(Cell({"bits": bits, "group": name}, outcomes))
    return tuple(cells)


def rounded_to(
    weight: Float[Tensor, "out in"], bits: int, group: int | None = None
) -> Float[Tensor, "out in"]:
    """Round to the nearest of 2^bits - 1 evenly spaced values around 0.

    Args:
        weight: one output a row.
        bits: bits of a weight.
        group: inputs that share a scale, the last group perhaps fewer; None for whole rows.
    """
    width = weight.shape[1]
    size = min(group or width, width)
    padded = torch.nn.functional.pad(weight.float(), (0, -width % size))
    blocks = padded.unflatten(1, (-1, size))
    step = blocks.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    step = torch.where(step > 0, step, torch.ones_like(step))
    return ((blocks / step).round() * step).flatten(1)[:, :width]
