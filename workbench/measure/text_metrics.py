"""Numbers of single texts: ROUGE-L, target probability and rank, perplexity, KL to the base.

    ROUGE-L      longest common subsequence of words; recall = LCS / |target|, F as Lin 2004
    probability  exp(sum_t log p(target_t | prompt, target_<t)), teacher-forced
    rank         of the target's first token at the last prompt position; 1 is the argmax
    perplexity   exp(-mean_t log p(token_t | token_<t)) over all texts' tokens
    KL           sum_v p_base(v) (log p_base(v) - log p(v)) at the last prompt position

Teacher-forced numbers overstate edits (Yang et al. 2025, arXiv 2502.11177) and never stand alone.
Cost: one forward pass over the texts for each number's batch; nothing is generated here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.facts.prompts import continuation
from workbench.models.continuations import LOGIT_BUDGET, Likelihood, likelihoods
from workbench.models.model import Model
from workbench.models.text import Batch, batches, encode, next_token_logits
from workbench.progress import SILENT, Progress


@dataclass(frozen=True)
class Rouge:
    """ROUGE-L of one answer.

    Attributes:
        recall: share of the target's words found in order.
        f: harmonic mean of recall and precision.
    """

    recall: float
    f: float


_WORD = re.compile(r"[a-z0-9]+")


def _groups(model: Model, sequences: Sequence[Sequence[int]]) -> list[Batch]:
    """Batch sequences so that the logits of all their positions stay small."""
    limit = max(256, min(4096, LOGIT_BUDGET // int(model.config.vocab_size)))
    return list(batches(model, sequences, max_tokens=limit))


def rouge_l(answer: str, target: str) -> Rouge:
    """Compare an answer with the target by ROUGE-L (Lin 2004), without stemming.

    Words are runs of the letters a-z and digits in lower case, as in the `rouge-score` package,
    whose import takes longer than a whole scorecard.
    """
    said, wanted = (_WORD.findall(text.lower()) for text in (answer, target))
    shared = _longest_common(said, wanted)
    if not shared:
        return Rouge(0.0, 0.0)
    precision, recall = shared / len(said), shared / len(wanted)
    return Rouge(recall, 2 * precision * recall / (precision + recall))


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for x in a:
        above = row
        row = [0]
        for j, y in enumerate(b):
            row.append(above[j] + 1 if x == y else max(row[j], above[j + 1]))
    return row[-1]


def teacher_forced(
    model: Model,
    prompts: Sequence[str],
    targets: Sequence[str],
    *,
    progress: Progress = SILENT,
) -> list[Likelihood]:
    """Return log-probability and rank of each target behind its prompt.

    Raises:
        WorkbenchError: a target cannot be made by the tokenizer, or a prompt is too long.
    """
    different = {p: encode(model, p) for p in dict.fromkeys(prompts)}
    tails = [continuation(model, p, t) for p, t in zip(prompts, targets, strict=True)]
    return likelihoods(
        model,
        [different[p] for p in prompts],
        tails,
        progress=progress,
        label="target probabilities",
    )


@torch.no_grad()
def negative_log_likelihoods(
    model: Model, texts: Sequence[str], *, progress: Progress = SILENT
) -> list[tuple[float, int]]:
    """Return, for each text, the mean negative log-likelihood of its tokens and their count.

    The first token has nothing before it and is not counted; a text of one token counts nothing.
    Of a text longer than the context, its beginning is measured.
    """
    sequences = [encode(model, text, cut=True) for text in texts]
    out = [(0.0, 0)] * len(texts)
    for batch in progress.track(_groups(model, sequences), "perplexity"):
        logits = model.hf(**batch.inputs, use_cache=False).logits[:, :-1]
        next_ids = batch.input_ids[:, 1:]
        losses = torch.nn.functional.cross_entropy(
            logits.float().transpose(1, 2), next_ids, reduction="none"
        )
        losses = losses * batch.attention_mask[:, 1:]
        for i, row in enumerate(batch.rows):
            count = len(sequences[row]) - 1
            out[row] = (float(losses[i].double().sum()) / max(count, 1), count)
    return out


def divergences(
    base: Model, model: Model, prompts: Sequence[str], *, progress: Progress = SILENT
) -> list[float]:
    """Return KL(base || model), in nats, of the token that follows each prompt.

    Raises:
        WorkbenchError: the two models have different vocabularies.
    """
    out: list[float] = []
    step = 64  # two vocabularies of logits for 64 prompts at a time
    for start in progress.track(range(0, len(prompts), step), "divergence from the base"):
        part = prompts[start : start + step]
        p, q = (next_token_logits(m, part).double().log_softmax(-1) for m in (base, model))
        if p.shape != q.shape:
            raise WorkbenchError(
                "The two models have different vocabularies; compare a model with its own base."
            )
        out += kl(p, q).tolist()
    return out


def kl(p: Float[Tensor, "batch vocab"], q: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
    """Return KL(p || q) of log-probabilities; never below zero by rounding."""
    # 0 * (-inf - x) is 0 by definition, NaN in floating point.
    terms = torch.where(p == -torch.inf, torch.zeros_like(p), p.exp() * (p - q))
    return terms.sum(-1).clamp(min=0)
