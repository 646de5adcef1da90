"""A beginning that many texts share is run once: the system prompt of a chat form, for instance.

Texts to be continued are padded on the left. Where most of them begin with the same tokens, these
are run by themselves and their keys and values stand before every row; a row that begins otherwise
has them masked out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from workbench.models.caching import as_cache, is_plain

_WORTH = 0.8  # share of the tokens that may be left to run for a shared beginning to be worth it


@dataclass(frozen=True, eq=False)
class Start:
    """What is left to run of texts, before they are continued.

    Attributes:
        ids: tokens to run next, padded on the left.
        mask: 1 on tokens, 0 on padding, over what was run and what is left.
        position: place of each token to run in its own text.
        cache: keys and values of what was run; None if nothing was.
    """

    ids: Int[Tensor, "batch left"]
    mask: Int[Tensor, "batch pos"]
    position: Int[Tensor, "batch left"]
    cache: Any = None


def whole(ids: Int[Tensor, "batch pos"], mask: Int[Tensor, "batch pos"]) -> Start:
    """Return the start of a left-padded batch of which nothing was run."""
    return Start(ids, mask, (mask.cumsum(1) - 1).clamp(min=0))


@torch.no_grad()
def behind_shared(
    hf: PreTrainedModel, ids: Int[Tensor, "batch pos"], mask: Int[Tensor, "batch pos"]
) -> Start:
    """Run what the texts of a left-padded batch share, if that saves enough of the work.

    Only where every layer keeps plain keys and values: a window counts the padding that would stand
    behind the shared tokens.
    """
    texts = [row[row_mask == 1].tolist() for row, row_mask in zip(ids, mask, strict=True)]
    cache = DynamicCache(config=hf.config)
    length = _shared(texts) if is_plain(cache) else 0
    if not length:
        return whole(ids, mask)
    shared = max(texts, key=len)[:length]
    hf(input_ids=ids.new_tensor([shared]), use_cache=True, logits_to_keep=1, **as_cache(cache))
    cache.batch_repeat_interleave(len(texts))
    has = mask.new_tensor([_begins(t, shared) for t in texts])
    width = max(len(t) - length * h for t, h in zip(texts, has.tolist(), strict=True))
    lengths = mask.sum(1) - length * has
    place = torch.arange(width, device=ids.device) - (width - lengths)[:, None]
    own = (place >= 0).to(mask.dtype)
    return Start(
        ids[:, -width:] * own,
        torch.cat([has[:, None].expand(-1, length), own], 1),
        (place + length * has[:, None]).clamp(min=0),
        cache,
    )


def worth_sharing(texts: Sequence[Sequence[int]]) -> int:
    """Return how many first tokens all texts share, 0 if running them once saves too little.

    At least one token of every text is left to run.
    """
    shortest, longest = min(texts, key=len), max(texts, key=len)
    length = min(_common(shortest, text) for text in texts)
    length = min(length, len(shortest) - 1)
    cost = length + len(texts) * (len(longest) - length)
    return length if cost < _WORTH * len(texts) * len(longest) else 0


def _common(text: Sequence[int], other: Sequence[int]) -> int:
    """Return how many first tokens two texts share."""
    pairs = zip(text, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _begins(text: Sequence[int], shared: Sequence[int]) -> bool:
    """Whether a text begins so and goes on: its last token has to be run by itself."""
    return len(text) > len(shared) and list(text[: len(shared)]) == list(shared)


def _shared(texts: Sequence[Sequence[int]]) -> int:
    """Return how many tokens are worth running by themselves, 0 for none.

    They are the beginning of a longest text. Run are these, and the rest of every text, padded to
    the longest rest.
    """
    longest = max(texts, key=len)
    shares = [min(_common(text, longest), len(text) - 1) for text in texts]
    best, least = 0, _WORTH * len(texts) * len(longest)
    for length in set(shares) - {0}:
        rests = (len(t) - length * (n >= length) for t, n in zip(texts, shares, strict=True))
        cost = length + len(texts) * max(rests)
        if cost < least:
            best, least = length, cost
    return best
