"""Token by token: continue a batch of texts, greedily or by drawing.

What the texts share is run once (`prefix`), and a text that has ended is run no further.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.models.caching import as_cache, cache_of, is_plain
from workbench.models.model import Model
from workbench.models.prefix import behind_shared, whole

_MANY = 0.25  # share of the rows that have ended, from which on they are left out


@torch.no_grad()
def new_tokens(
    model: Model,
    ids: Int[Tensor, "batch pos"],
    mask: Int[Tensor, "batch pos"],
    most: int,
    *,
    pixels: Mapping[str, Float[Tensor, "image channel height width"]] | None = None,
    stop: str | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "batch new"]:
    """Continue a left-padded batch; behind its end a row is filled with an end token.

    Greedily, or with a generator by drawing at temperature 1; then no image token is drawn, which
    would have no picture.

    Args:
        model: the model to run.
        ids: the texts' tokens.
        mask: 1 on tokens, 0 on padding.
        most: most tokens to add.
        pixels: of the texts' pictures.
        stop: a token that holds this ends its row too.
        generator: of the draws.
    """
    seen = dict(pixels or {})
    start = whole(ids, mask) if seen else behind_shared(model.hf, ids, mask)
    left, mask, position, cache = start.ids, start.mask, start.position, start.cache
    ends = end_tokens(model)
    fill = next(iter(ends), 0)
    new = ids.new_full((len(ids), most), fill)
    rows = torch.arange(len(ids), device=ids.device)  # those that are still run
    done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    for step in range(most):
        result = model.hf(
            input_ids=left,
            attention_mask=mask,
            position_ids=position,
            use_cache=True,
            logits_to_keep=1,
            **as_cache(cache),
            **seen,
        )
        cache, seen = cache_of(result), {}  # pictures stand in the prompt, read once
        logits = result.logits[:, -1]
        if generator is not None and model.vision is not None:
            logits[:, model.vision.token_id] = -torch.inf
        token = _pick(logits, generator)
        token = torch.where(done, torch.full_like(token, fill), token)
        new[rows, step] = token
        done = done | _ended(model, token, ends, stop)
        if bool(done.all()):
            return new[:, : step + 1]
        left, position = token[:, None], position[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        # A draw is one for all rows, so that leaving rows out would change what the others get.
        if generator is None and float(done.float().mean()) >= _MANY and is_plain(cache):
            on = (~done).nonzero()[:, 0]
            cache.batch_select_indices(on)
            left, position, mask, rows, done = (t[on] for t in (left, position, mask, rows, done))
    return new


def _ended(
    model: Model, token: Int[Tensor, " batch"], ends: set[int], stop: str | None
) -> Bool[Tensor, " batch"]:
    """Return which rows end with their latest token."""
    ended = torch.isin(token, token.new_tensor(sorted(ends)))
    if stop:
        texts = model.tokenizer.batch_decode(token[:, None].tolist())
        ended |= torch.tensor([stop in text for text in texts], device=token.device)
    return ended


def _pick(
    logits: Float[Tensor, "batch vocab"], generator: torch.Generator | None
) -> Int[Tensor, " batch"]:
    if generator is None:
        return logits.argmax(-1)
    drawn = torch.multinomial(logits.float().softmax(-1).cpu(), 1, generator=generator)
    return drawn[:, 0].to(logits.device)


def end_tokens(model: Model) -> set[int]:
    """Return the tokens that end an answer: the tokenizer's and the generation config's."""
    config = getattr(model.hf, "generation_config", None)
    ends: set[Any] = set()
    ends.add(model.tokenizer.eos_token_id)
    configured = getattr(config, "eos_token_id", None)
    ends |= set(configured) if isinstance(configured, (list, tuple)) else {configured}
    return {e for e in ends if isinstance(e, int)}
