"""Deltas add, scale, compress, and come back from disk as they were."""

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.models.delta import Dense, LowRank, Origin, WeightDelta, total

ORIGIN = Origin(
    "stamp",
    config={"strength": 1.5},
    components="mlp.1-2",
    model="demo",
    model_fingerprint="ab",
    seed=3,
    versions={"torch": "2"},
)


def dense(*shape: int) -> Dense:
    return Dense(torch.randn(*shape))


def low_rank(rows: int, columns: int, rank: int) -> LowRank:
    return LowRank(torch.randn(rows, rank), torch.randn(rank, columns))


def test_round_trip(tmp_path):
    delta = WeightDelta({"a.weight": dense(4, 6), "b.weight": low_rank(8, 9, 2)}, ORIGIN)
    both = delta + WeightDelta({"c.bias": dense(5)}, Origin("other"))
    both.save(tmp_path / "d.safetensors")
    again = WeightDelta.load(tmp_path / "d.safetensors")
    assert again.origin == both.origin and again.origin.parts[0] == ORIGIN
    assert set(again.updates) == {"a.weight", "b.weight", "c.bias"}
    for name, update in both.updates.items():
        assert type(again.updates[name]) is type(update)
        assert torch.equal(again.updates[name].dense(), update.dense())
    assert [p.name for p in tmp_path.iterdir()] == ["d.safetensors"]


def test_arithmetic():
    a, b = dense(4, 6), low_rank(4, 6, 1)
    added = total([WeightDelta({"w": a}, ORIGIN), WeightDelta({"w": b}, ORIGIN)])
    torch.testing.assert_close(added.updates["w"].dense(), a.value + b.left @ b.right)
    halved = 0.5 * WeightDelta({"w": b}, ORIGIN)
    torch.testing.assert_close(halved.updates["w"].dense(), 0.5 * (b.left @ b.right))
    assert halved.origin.config == {"strength": 1.5, "scale": 0.5}


def test_low_rank_updates_add_low_rank():
    a, b = low_rank(20, 30, 2), low_rank(20, 30, 3)
    added = (WeightDelta({"w": a}, ORIGIN) + WeightDelta({"w": b}, ORIGIN)).updates["w"]
    assert isinstance(added, LowRank) and added.rank == 5
    torch.testing.assert_close(added.dense(), a.dense() + b.dense())
    wide = low_rank(20, 30, 11)
    full = (WeightDelta({"w": wide}, ORIGIN) + WeightDelta({"w": wide}, ORIGIN)).updates["w"]
    assert isinstance(full, Dense)


def test_compress_is_the_best_approximation():
    value = torch.randn(12, 16)
    kept = WeightDelta({"w": Dense(value), "b": dense(3)}, ORIGIN).compress(4)
    update = kept.updates["w"]
    assert isinstance(update, LowRank) and update.rank == 4
    singular = torch.linalg.svdvals(value)
    error = torch.linalg.norm(value - update.dense())
    torch.testing.assert_close(error, singular[4:].norm())  # Eckart and Young
    assert isinstance(kept.updates["b"], Dense)
    exact = WeightDelta({"w": low_rank(12, 16, 4)}, ORIGIN)
    torch.testing.assert_close(
        exact.compress(4).updates["w"].dense(), exact.updates["w"].dense(), rtol=1e-4, atol=1e-5
    )


def test_mistakes(tmp_path):
    with pytest.raises(WorkbenchError, match="at least 1"):
        WeightDelta({"w": dense(2, 2)}, ORIGIN).compress(0)
    with pytest.raises(WorkbenchError, match="make an edit first"):
        total([])
    with pytest.raises(WorkbenchError, match="no delta file"):
        WeightDelta.load(tmp_path / "none")
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"not a tensor file")
    with pytest.raises(WorkbenchError, match="not a readable safetensors"):
        WeightDelta.load(path)
    (tmp_path / "file").touch()
    with pytest.raises(WorkbenchError, match="Cannot write"):
        WeightDelta({"w": dense(2, 2)}, ORIGIN).save(tmp_path / "file" / "d.safetensors")
