"""Generation with a hand in it: logits changed, or the states of another model put in.

Hooks live on a parameter-sharing copy and as long as a `with` block, so that all generation code
serves unchanged and the model stays as it is. Which prompt a row is, is read off its tokens, so
that batches may be made in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.localize.runs import Parts, before, behind, first_of, with_first
from workbench.models.caching import cache_in
from workbench.models.model import Model

Ids = tuple[int, ...]
_READ = ("input_ids", "attention_mask", "position_ids", "pixel_values")
LogitChange = Callable[[Float[Tensor, "batch pos vocab"], Mapping[str, Any]], Tensor]


@contextmanager
def changed_logits(model: Model, change: LogitChange) -> Iterator[Model]:
    """Lend a model whose logits are `change` of this one's.

    Args:
        model: the model; it stays as it is.
        change: from logits, and the keywords of the call that made them, to those instead.
    """
    lent = model.fork()

    def hook(module: nn.Module, args: tuple, kwargs: dict, out: Any) -> Any:
        out.logits = change(out.logits, kwargs)
        return out

    with ExitStack() as hooks:
        hooks.enter_context(lent.hf.register_forward_hook(hook, with_kwargs=True))
        yield lent


@contextmanager
def with_states_of(
    donor: Model, model: Model, layer: int, positions: Mapping[Ids, Sequence[int]] | None
) -> Iterator[Model]:
    """Lend a model that reads prompts with the donor's residual stream behind one layer.

    The donor reads each batch of prompts itself; what is generated behind the prompt is the model's
    own.

    Args:
        donor: whose states are put in.
        model: the model; it stays as it is.
        layer: behind which block.
        positions: by the prompt's tokens, which of them to patch; None for all.
    """
    theirs, ours = Parts.of(donor), Parts.of(model)
    states: list[Tensor] = []  # the donor's, of the prompts that are being read

    def read(module: nn.Module, args: tuple, kwargs: dict) -> None:
        states.clear()
        if not reads_prompts(kwargs):
            return
        theirs.hf.base_model(
            **{k: kwargs[k] for k in _READ if k in kwargs},
            use_cache=False,
        )
        if positions is not None:
            states.append(_mask(kwargs, positions))

    def put(module: nn.Module, args: tuple, out: Any) -> Any:
        if not states:
            return out
        stream = first_of(out)
        mixed = states[0] if positions is None else torch.where(states[1], states[0], stream)
        return with_first(out, mixed.to(stream.dtype))

    with ExitStack() as hooks:
        behind(hooks, theirs.blocks[layer], lambda m, a, out: states.append(first_of(out)))
        before(hooks, ours.hf, read)
        behind(hooks, ours.blocks[layer], put)
        yield replace(model, hf=ours.hf)


def reads_prompts(kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of the model reads whole prompts, not one token behind them."""
    return cache_in(kwargs) is None


def prompt_ids(kwargs: Mapping[str, Any]) -> list[Ids]:
    """Return the tokens of each row of a call, padding left out."""
    pairs = zip(kwargs["input_ids"].tolist(), kwargs["attention_mask"].tolist(), strict=True)
    return [tuple(i for i, real in zip(*row, strict=True) if real) for row in pairs]


def _mask(kwargs: Mapping[str, Any], positions: Mapping[Ids, Sequence[int]]) -> Tensor:
    """Mark each row's positions, [batch, pos, 1]; padding is on the left."""
    ids = kwargs["input_ids"]
    mask = torch.zeros(*ids.shape, 1, dtype=torch.bool, device=ids.device)
    for row, own in enumerate(prompt_ids(kwargs)):
        mask[row, [ids.shape[1] - len(own) + i for i in positions[own]]] = True
    return mask
