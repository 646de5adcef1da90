"""A model with other weights in its linear maps, everything else shared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from workbench.models.model import Model, replace_parameter, share_parameters

Change = Callable[[Float[Tensor, "out in"]], Float[Tensor, "out in"]]


def linear_weights(model: Model) -> tuple[str, ...]:
    """Return the names of all matrices of MLPs and attentions; embeddings, norms and head are none.

    Raises:
        WorkbenchError: the model's structure cannot be read.
    """
    structure = model.structure
    names = (piece.name for part in structure.everything for piece in structure.slices(part))
    return tuple(n for n in dict.fromkeys(names) if len(structure.sizes[n]) == 2)


def with_weights(model: Model, change: Change) -> Model:
    """Return a model whose linear weights are `change` of this one's.

    Args:
        model: the model; it stays as it is.
        change: from a matrix, one output a row whatever the family stores, to the one instead.
    """
    hf = share_parameters(model.hf)
    for name in linear_weights(model):
        old = model.parameters[name]
        stored_by_input = type(hf.get_submodule(name.rpartition(".")[0])).__name__ == "Conv1D"
        new = change(old.T).T.contiguous() if stored_by_input else change(old)
        replace_parameter(hf, name, new.to(old.dtype))
    return replace(model, hf=hf)
