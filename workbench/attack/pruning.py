"""Pruning: set the smallest weights to 0 and ask again.

In each matrix of MLPs and attentions the given share of the weights, those of least magnitude. An
edit made of many small changes to weights that mattered little goes first; knowledge that it only
hid is then uncovered.

Source: Wei et al. 2024 (arXiv 2402.05162) and Jain et al. 2023 (arXiv 2311.12786) prune behaviour
learned late away and find what lies under it. Cost: one generation pass a setting.
"""

from __future__ import annotations

from dataclasses import dataclass

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
class PruningConfig:
    """Settings of pruning.

    Attributes:
        shares: shares of each matrix's weights that are set to 0.
        seed: unused, for nothing is drawn.
    """

    shares: tuple[float, ...] = (0.1, 0.3, 0.5)
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: no share, or one that is not between 0 and 1.
        """
        if not self.shares or not all(0 < share < 1 for share in self.shares):
            raise WorkbenchError("Shares must be between 0 and 1, for instance shares=0.1,0.3.")


def pruning(
    model: Model,
    request: Request,
    config: PruningConfig,
    *,
    base: Model,
    progress: Progress = SILENT,
) -> tuple[Cell, ...]:
    """Ask the forget facts' own prompts with the smallest weights gone."""
    config.check()
    asked = [(fact, fact.prompt) for fact in request.forget]
    cells = []
    for share in progress.track(config.shares, "pruning"):
        thin = with_weights(model, lambda w, s=share: pruned(w, s))
        outcomes = ask_freely(thin, asked, request.behaviour, progress=progress)
        cells.append(Cell({"share": share}, outcomes))
    return tuple(cells)


def pruned(weight: Float[Tensor, "out in"], share: float) -> Float[Tensor, "out in"]:
    """Set the floor(share * size) entries of least magnitude to 0."""
    count = int(share * weight.numel())
    gone = weight.abs().flatten().topk(count, largest=False).indices
    new = weight.flatten().clone()
    new[gone] = 0
    return new.view_as(weight)
