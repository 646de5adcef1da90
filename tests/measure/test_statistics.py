from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from workbench.measure.statistics import score


def test_nothing_is_none_not_zero() -> None:
    assert score([]) is None


def test_mean_and_interval_of_independent_outcomes() -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, 400)
    s = score(values.tolist(), seed=1)
    assert s is not None and s.n == 400
    assert s.value == pytest.approx(values.mean())
    half = norm.ppf(0.975) * values.std() / 20
    assert (s.low, s.high) == pytest.approx((s.value - half, s.value + half), abs=0.015)


def test_equal_seeds_give_equal_intervals() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert score(values, seed=3) == score(values, seed=3)
    assert score(values, seed=3) != score(list(np.linspace(0, 1, 5)), seed=3)


def test_whole_facts_are_drawn() -> None:
    """Copies of an outcome add nothing: the interval is that of the facts."""
    outcomes = np.random.default_rng(1).integers(0, 2, 30).astype(float)
    once = score(outcomes.tolist(), list(range(30)), seed=5)
    copied = score(np.repeat(outcomes, 9).tolist(), np.repeat(range(30), 9).tolist(), seed=5)
    naive = score(np.repeat(outcomes, 9).tolist(), seed=5)
    assert once is not None and copied is not None and naive is not None
    assert (copied.value, copied.low, copied.high) == (once.value, once.low, once.high)
    assert naive.high - naive.low < 0.5 * (copied.high - copied.low)


def test_weights_make_a_weighted_mean() -> None:
    s = score([1.0, 4.0], weights=[3, 1])
    assert s is not None and s.value == pytest.approx(1.75)
    assert 1.0 <= s.low <= s.value <= s.high <= 4.0


@pytest.mark.parametrize("n", [1, 8, 100])
@pytest.mark.parametrize("right", [0, 1])
def test_equal_outcomes_get_the_exact_binomial_bound(n: int, right: int) -> None:
    s = score([float(right)] * n, list(range(n)), proportion=True)
    exact = binomtest(right * n, n).proportion_ci(0.95, "exact")
    assert s is not None
    assert (s.value, s.low, s.high) == pytest.approx((right, exact.low, exact.high), abs=1e-9)


def test_one_group_falls_back_to_its_outcomes() -> None:
    s = score([0.0, 1.0, 0.0, 1.0], ["x"] * 4)
    assert s is not None and s.low < s.value < s.high
