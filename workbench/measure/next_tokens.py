"""What two models would say next: probabilities and ranks of the likeliest tokens, side by side."""

from __future__ import annotations

import pandas as pd
import torch

from workbench.models.model import Model
from workbench.models.text import decode, next_token_logits

COLUMNS = ("token", "p_before", "p_after", "rank_before", "rank_after", "rise")


@torch.no_grad()
def next_tokens(before: Model, after: Model, prompt: str, *, k: int = 10) -> pd.DataFrame:
    """Compare the k likeliest next tokens of either model.

    Args:
        before: the base.
        after: the edited model, or the base again.
        prompt: what they continue.
        k: tokens of each.

    Returns:
        One row a token that is among the k likeliest of either, best of `after` first: token,
        p_before, p_after, rank_before and rank_after (1 is the likeliest), and rise, the ranks it
        rose by (negative: fell).

    Raises:
        WorkbenchError: the prompt is empty or too long.
    """
    logits = [next_token_logits(model, [prompt])[0].float() for model in (before, after)]
    chances = [x.softmax(-1) for x in logits]
    best = [x.topk(min(k, len(x))).indices.tolist() for x in logits]
    rows = []
    for token in dict.fromkeys([*best[1], *best[0]]):
        # Equal logits share a rank, so that a model held against itself rises by 0 everywhere.
        ranks = [int((x > x[token]).sum()) + 1 for x in logits]
        p_before, p_after = (float(p[token]) for p in chances)
        rows.append((decode(after, [token]), p_before, p_after, *ranks, ranks[0] - ranks[1]))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values("rank_after", kind="stable", ignore_index=True)
