"""Low-rank adapters on all linear maps of a model, to train instead of its weights.

    y = W x + (alpha / rank) B A x        A: [rank, in], uniform in ±1/sqrt(in);  B: [out, rank], 0

(Hu et al. 2021, arXiv 2106.09685, eq. 3.) They are hooks behind the maps, which see inputs and
outputs alone: how a family stores its weights does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.attack.weights import linear_weights
from workbench.models.model import Model


@dataclass(frozen=True, eq=False)
class Adapted:
    """A parameter-sharing copy of a model with adapters.

    Attributes:
        model: the copy; nothing but the factors asks for gradients.
        factors: A and B by the name of the weight that they stand beside.
        scale: alpha / rank.
    """

    model: Model
    factors: dict[str, tuple[Float[nn.Parameter, "rank in"], Float[nn.Parameter, "out rank"]]]
    scale: float

    @property
    def trained(self) -> list[nn.Parameter]:
        """All factors."""
        return [factor for pair in self.factors.values() for factor in pair]


def adapted(model: Model, *, rank: int, alpha: float, seed: int = 0) -> Adapted:
    """Put adapters behind every linear map of MLPs and attentions.

    Args:
        model: the model; it stays as it is.
        rank: inner dimension.
        alpha: the sum is scaled by alpha / rank.
        seed: of the draw of A.
    """
    copy = model.fork()
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for name in linear_weights(model):
        module = copy.hf.get_submodule(name.rpartition(".")[0])
        n_out, n_in = model.structure.sizes[name]
        if type(module).__name__ == "Conv1D":
            n_out, n_in = n_in, n_out
        down = torch.empty(rank, n_in).uniform_(-(n_in**-0.5), n_in**-0.5, generator=generator)
        pair = (
            nn.Parameter(down.to(model.device)),
            nn.Parameter(torch.zeros(n_out, rank, device=model.device)),
        )
        module.register_forward_hook(_adding(*pair, alpha / rank))
        factors[name] = pair
    return Adapted(copy, factors, alpha / rank)


def _adding(down: Tensor, up: Tensor, scale: float):
    def hook(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return out + (scale * (args[0].to(down.dtype) @ down.T @ up.T)).to(out.dtype)

    return hook
