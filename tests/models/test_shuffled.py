"""A seeded order in which every item's place hangs on itself alone."""

from __future__ import annotations

from workbench.models.shuffled import number, shuffled


def test_leaving_one_out_moves_no_other():
    items = [f"name {i}" for i in range(50)]
    whole = shuffled(items, lambda x: x, seed=0)
    assert sorted(whole) == sorted(items) and whole != items
    for left in items[:5]:
        rest = shuffled((i for i in items if i != left), lambda x: x, seed=0)
        assert rest == [i for i in whole if i != left]
    assert shuffled(items[::-1], lambda x: x, seed=0) == whole
    assert shuffled(items, lambda x: x, seed=1) != whole


def test_numbers_spread_evenly():
    numbers = [number(["a", i], seed=3) / 2**64 for i in range(2000)]
    assert abs(sum(numbers) / len(numbers) - 0.5) < 0.03
    assert all(150 < sum(k <= 10 * x < k + 1 for x in numbers) < 250 for k in range(10))
