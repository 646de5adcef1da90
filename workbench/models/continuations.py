"""How likely token sequences are behind others: each different beginning is run once.

Choices are compared behind one prompt, so most of what a pass over prompt and choice computes is
the prompt, again. Here the prompt's keys and values are kept while its continuations are read, and
a continuation's first token, which is all of a letter or a short name, costs nothing more.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.caching import as_cache, cache_of
from workbench.models.model import Model
from workbench.models.text import Batch, batches, pad, pad_id, unembed
from workbench.progress import SILENT, Progress

LOGIT_BUDGET = 1 << 25  # numbers in one batch of logits: 128 MB of float32
_TOKENS = 4096  # of beginnings with all their continuations, in one batch


@dataclass(frozen=True)
class Likelihood:
    """How likely one continuation is.

    Attributes:
        log_probability: of all its tokens, in nats.
        rank: of its first token, 1 for the most likely.
    """

    log_probability: float
    rank: int

    @property
    def probability(self) -> float:
        """Probability of the whole continuation."""
        return math.exp(self.log_probability)


@torch.no_grad()
def likelihoods(
    model: Model,
    heads: Sequence[Sequence[int]],
    tails: Sequence[Sequence[int]],
    *,
    progress: Progress = SILENT,
    label: str = "likelihoods",
) -> list[Likelihood]:
    """Return how likely each tail is behind its head, in their order.

    Args:
        model: the model to run.
        heads: token ids; those that are equal are run once.
        tails: token ids, at least one each.
        progress: where to report.
        label: what the progress calls this.

    Raises:
        WorkbenchError: head and tail together are longer than the model's context.
    """
    rows_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, (head, tail) in enumerate(zip(heads, tails, strict=True)):
        if len(head) + len(tail) > model.n_ctx:
            raise WorkbenchError(
                f"A prompt and its continuation have {len(head) + len(tail)} tokens, more than the "
                f"{model.n_ctx} of this model's context; shorten them."
            )
        rows_of[tuple(head)].append(row)
    different = list(rows_of)
    most = max(map(len, rows_of.values()), default=1)
    groups = list(batches(model, different, max_tokens=max(_TOKENS // most, 1), side="left"))
    out = [Likelihood(0.0, 0)] * len(tails)
    for batch in progress.track(groups, label):
        rows = [rows_of[different[i]] for i in batch.rows]
        for row, found in _behind(model, batch, rows, tails):
            out[row] = found
    return out


def _behind(
    model: Model, batch: Batch, rows: Sequence[Sequence[int]], tails: Sequence[Sequence[int]]
) -> list[tuple[int, Likelihood]]:
    """Run a left-padded batch of heads, then the tails of each; return each row's likelihood."""
    mask, device = batch.attention_mask, batch.input_ids.device
    run = model.hf.base_model(
        **batch.inputs,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        use_cache=True,
    )
    flat = [row for of_head in rows for row in of_head]
    head = torch.tensor([i for i, of_head in enumerate(rows) for _ in of_head], device=device)
    first = torch.tensor([tails[row][0] for row in flat], device=device)
    scores = unembed(model, run.last_hidden_state[:, -1]).float()
    own = scores[head, first]
    total = (own - scores.logsumexp(-1)[head]).double()
    ranks = [  # a head at a time: all rows' logits at once would be many times the batch's
        1 + int((scores[h] > value).sum())
        for h, value in zip(head.tolist(), own.tolist(), strict=True)
    ]
    longer = [i for i, row in enumerate(flat) if len(tails[row]) > 1]
    if longer:
        kept = head[longer]
        cache = cache_of(run)
        cache.batch_select_indices(kept)
        rest = _rest(model, cache, mask[kept], [tails[flat[i]] for i in longer])
        total[longer] += rest
    return [
        (row, Likelihood(value, rank))
        for row, value, rank in zip(flat, total.tolist(), ranks, strict=True)
    ]


def _rest(
    model: Model,
    cache: object,
    before: Int[Tensor, "row head"],
    tails: Sequence[Sequence[int]],
) -> Float[Tensor, " row"]:
    """Return the log-probability of each tail behind its first token.

    Args:
        model: the model.
        cache: keys and values of the heads, a row for each tail.
        before: their attention mask.
        tails: at least two tokens each.
    """
    ids, mask = (part.to(before.device) for part in pad([t[:-1] for t in tails], pad_id(model)))
    hidden = model.hf.base_model(
        input_ids=ids,
        attention_mask=torch.cat([before, mask], 1),
        position_ids=before.sum(1, keepdim=True) + torch.arange(ids.shape[1], device=ids.device),
        use_cache=True,
        **as_cache(cache),
    ).last_hidden_state
    row, at = mask.nonzero(as_tuple=True)
    labels = torch.tensor([token for t in tails for token in t[1:]], device=ids.device)
    states = hidden[row, at]
    found = torch.zeros(len(tails), dtype=torch.float64, device=ids.device)
    step = max(LOGIT_BUDGET // int(model.config.vocab_size), 1)
    for start in range(0, len(labels), step):
        part = slice(start, start + step)
        scores = unembed(model, states[part]).float()
        chosen = scores.gather(-1, labels[part, None])[:, 0] - scores.logsumexp(-1)
        found.index_add_(0, row[part], chosen.double())
    return found
