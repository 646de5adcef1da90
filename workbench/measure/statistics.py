"""A mean, its n and its 95 % interval: percentile bootstrap over facts.

Prompts about one fact stand or fall together, so whole facts are drawn with replacement, not
prompts (cluster bootstrap; Davison & Hinkley 1997, sec. 3.8). Where every outcome of a proportion
is the same the bootstrap has no width; then the exact binomial bound for the number of facts is
given instead (Clopper & Pearson 1934): 0 of 8 facts is 0.00 with an upper bound of 0.37.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Score:
    """One measured mean.

    Attributes:
        value: the mean.
        n: outcomes behind it.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    value: float
    n: int
    low: float
    high: float


def score(
    values: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    weights: Sequence[float] | None = None,
    proportion: bool = False,
    seed: int = 0,
) -> Score | None:
    """Average outcomes and bootstrap the interval.

    Args:
        values: one outcome a prompt.
        groups: which outcomes belong together; each stands alone if not given.
        weights: weight of each outcome, equal if not given.
        proportion: whether the outcomes are wrong (0) or right (1).
        seed: of the resampling.

    Returns:
        The score, or None if there is no outcome.
    """
    n = len(values)
    if n == 0:
        return None
    outcomes = np.asarray(values, dtype=np.float64)
    weight = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    index = _group_index(range(n) if groups is None or len(set(groups)) < 2 else groups)
    sums = np.bincount(index, weights=outcomes * weight)
    sizes = np.bincount(index, weights=weight)
    mean = float(sums.sum() / sizes.sum())
    if proportion and mean in (0.0, 1.0):
        low, high = _exact_bound(len(sums), all_right=mean == 1.0)
        return Score(mean, n, low, high)
    draws = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    means = sums[draws].sum(1) / sizes[draws].sum(1)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Score(mean, n, float(low), float(high))


def _group_index(groups: Sequence[Hashable]) -> np.ndarray:
    """Number the groups in the order of their first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(g, len(numbers)) for g in groups], dtype=np.int64)


def _exact_bound(n: int, *, all_right: bool) -> tuple[float, float]:
    """Interval of a proportion whose n outcomes are all wrong or all right."""
    edge = ((1 - LEVEL) / 2) ** (1 / n)
    return (edge, 1.0) if all_right else (0.0, 1 - edge)
