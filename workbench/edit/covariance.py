"""What a matrix usually reads: C = E[k k^T] of its input keys, from texts the model makes up.

ROME, MEMIT and AlphaEdit take C from a sample of Wikipedia (Meng et al. 2022, arXiv 2202.05262,
app. E). No corpus is asked for here: the keys are those of kept facts with the
model's own answers, and of texts and conversations that it makes up itself, at most ten for each
input of the matrix. Nothing about a subject to forget or one held back for measuring is among them
(`buffer.left_out`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.edit.buffer import chat_rows, context_rows
from workbench.edit.kept_keys import moments_of
from workbench.edit.matrix import Matrix
from workbench.edit.rows import Rows
from workbench.edit.solvers import Moments
from workbench.errors import WorkbenchError
from workbench.facts.fact import Request
from workbench.models.model import Model
from workbench.progress import SILENT, Progress
from workbench.recent import remember

MOST_KEYS = 10  # keys per input of the matrix
_MOST_KEPT = 8  # a covariance of a large model fills gigabytes
_ROUNDS = 6  # a model that says little is asked this often
_TEXT, _CHAT = 20, 40  # tokens to expect of a made-up text and of a conversation
KEPT: dict[tuple[Any, ...], Covariance] = {}


@dataclass(frozen=True, eq=False)
class Covariance:
    """The second moment of a matrix's input keys; not centred, as in ROME.

    Attributes:
        second: E[k k^T], with the ridge on its diagonal, in float64.
        count: keys it was taken from.
        condition: condition number of `second`.
    """

    second: Float[Tensor, "d_in d_in"]
    count: int
    condition: float

    @staticmethod
    def of(moments: Moments, ridge: float) -> Covariance:
        """Average streamed keys; `ridge` is in units of the mean squared key."""
        second = moments.second / max(moments.count, 1)
        loading = ridge * float(second.diagonal().mean())
        second = second + loading * torch.eye(len(second)).to(second)
        values = torch.linalg.eigvalsh(second)
        condition = float(values[-1] / values[0].clamp_min(1e-300))
        return Covariance(second, int(moments.count), condition)

    @cached_property
    def _factor(self) -> Float[Tensor, "d_in d_in"]:
        return torch.linalg.cholesky(self.second)

    def whiten(self, key: Float[Tensor, " d_in"]) -> Float[Tensor, " d_in"]:
        """Return C^-1 k."""
        return torch.cholesky_solve(key[:, None], self._factor)[:, 0]

    def length(self, matrix: Float[Tensor, "*rows d_in"]) -> float:
        """Return the root mean square of what a matrix makes of a usual key."""
        return float((matrix @ self._factor).norm())

    def scaled(self, factor: float) -> Moments:
        """Return it as the moments of `factor` keys."""
        return Moments(factor * self.second, factor)


def covariances(
    model: Model,
    request: Request,
    groups: Sequence[Matrix],
    *,
    samples: int,
    kept: int,
    ridge: float,
    seed: int,
    progress: Progress = SILENT,
) -> dict[str, Covariance]:
    """Return the covariance of each matrix's keys by its parameter; the last ones are kept.

    Args:
        model: whose texts and keys to take.
        request: its kept facts may join; nothing about what it forgets or measures does.
        groups: the matrices, in layer order.
        samples: keys for each input of a matrix, at most `MOST_KEYS`.
        kept: kept facts, in the prompts an edit may use, followed by the model's own answers.
        ridge: added to the diagonal, in units of its mean.
        seed: seed of every draw.
        progress: where to report.

    Raises:
        WorkbenchError: `samples` is out of range, or the model makes up nothing that may be used.
    """
    if not 1 <= samples <= MOST_KEYS:
        raise WorkbenchError(f"samples must be from 1 to {MOST_KEYS}, not {samples}.")
    source = (*model.identity, request.fingerprint, samples, kept, ridge, seed)
    keys = {g.writer.parameter: (*source, g.writer.parameter) for g in groups}
    missing = [g for g in groups if keys[g.writer.parameter] not in KEPT]
    fresh: dict[str, Covariance] = {}
    if missing:
        tokens = samples * model.structure.d_mlp
        rows = self_made_rows(model, request, tokens=tokens, kept=kept, seed=seed)
        if not len(rows):
            raise WorkbenchError(
                "The model makes up no text that does not name a subject to forget or to measure; "
                "give the request facts to retain, and let kept be at least 1."
            )
        moments = moments_of(model, rows, missing, progress=progress)
        fresh = {
            group.writer.parameter: Covariance.of(own, ridge)
            for group, own in zip(missing, moments, strict=True)
        }
    out = {p: KEPT[key] for p, key in keys.items() if key in KEPT}
    for parameter, made in fresh.items():
        out[parameter] = remember(KEPT, keys[parameter], lambda made=made: made, most=_MOST_KEPT)
    return out


def usual_keys(
    model: Model,
    request: Request,
    groups: Sequence[Matrix],
    config: Any,
    progress: Progress,
) -> dict[str, Covariance]:
    """Return `covariances` with the samples, kept, ridge and seed of a method's config."""
    return covariances(
        model,
        request,
        groups,
        samples=config.samples,
        kept=config.kept,
        ridge=config.ridge,
        seed=config.seed,
        progress=progress,
    )


def self_made_rows(model: Model, request: Request, *, tokens: int, kept: int, seed: int) -> Rows:
    """Return at most `tokens` positions: kept facts, then what the model makes up."""
    one = {"weight": 1.0, "seed": seed}
    rows = context_rows(model, request, count=kept, generations=0, **one) if kept else Rows((), ())
    for i in range(_ROUNDS):
        wanted = tokens - len(rows)
        if wanted <= 0:
            break
        one = {"weight": 1.0, "seed": seed + i}
        texts, chats = wanted // (2 * _TEXT) + 1, wanted // (2 * _CHAT) + 1
        rows += context_rows(model, request, count=0, generations=texts, **one)
        rows += chat_rows(model, request, "subject", count=chats, context_weight=1.0, **one)
    return _first(rows, tokens)


def _first(rows: Rows, tokens: int) -> Rows:
    """Cut rows behind the given number of positions."""
    sequences, left = [], tokens
    for ids in rows.sequences:
        if left > 0:
            sequences.append(ids[:left])
            left -= len(ids)
    return Rows(tuple(sequences), tuple(tuple(range(len(s))) for s in sequences))
