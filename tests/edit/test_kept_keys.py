"""Moments carried from one buffer to the next are those of the next buffer read anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_model

from workbench.edit import kept_keys
from workbench.edit.cost import metered
from workbench.edit.kept_keys import kept_moments, moments_of
from workbench.edit.matrix import Matrix, matrices
from workbench.edit.rows import Rows
from workbench.models import kept as kept_module
from workbench.models.components import ComponentSet
from workbench.models.kept import nothing_kept
from workbench.models.model import Model

SEQUENCES = [tuple(range(i + 1, i + 4 + i % 3)) for i in range(12)]


def rows(*sequences: tuple[int, ...], weight: float = 1.0) -> Rows:
    """Every position but the first, those of even places weighted by themselves."""
    picks = tuple(tuple(range(1, len(s))) for s in sequences)
    weights = tuple(tuple(weight if p % 2 else 3.0 for p in own) for own in picks)
    return Rows(tuple(sequences), picks, weights)


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kept_keys, "KEPT", {})
    monkeypatch.setattr(kept_module, "_folder", lambda: tmp_path / "kept")


def groups_of(model: Model, components: str = "mlp.0-1, attn.1") -> list[Matrix]:
    return matrices(model.structure, ComponentSet.parse(components))


def plainly(model: Model, asked: Rows, group: Matrix) -> torch.Tensor:
    """Sum w x x^T with a plain hook, a sequence at a time."""
    found: list[torch.Tensor] = []
    module = model.fork().hf
    module.get_submodule(group.writer.module).register_forward_hook(
        lambda m, args, out: found.append(args[0][0].double())
    )
    total = torch.zeros(())
    with torch.no_grad():
        for ids, picks, weights in zip(
            asked.sequences, asked.picks, asked.all_weights, strict=True
        ):
            module(input_ids=torch.tensor([ids]))
            x = found.pop()[list(picks)]
            total = total + x.T @ (x * torch.tensor(weights).double()[:, None])
    return total


def assert_right(model: Model, asked: Rows, components: str = "mlp.0-1, attn.1") -> None:
    groups = groups_of(model, components)
    for group, found in zip(groups, kept_moments(model, asked, groups), strict=True):
        wanted = plainly(model, asked, group)
        torch.testing.assert_close(found.second, wanted, atol=1e-5, rtol=1e-4)
        assert found.count == pytest.approx(sum(map(sum, asked.all_weights)))


def tokens_run(model: Model, asked: Rows) -> float:
    groups = groups_of(model)
    with metered(model) as cost:
        list(kept_moments(model, asked, groups))
    return cost.forward_tokens


def test_they_are_those_of_plain_hooks(family_model: Model) -> None:
    assert_right(family_model, rows(*SEQUENCES))


def test_of_the_next_buffer_only_what_differs_is_run(tiny: Model) -> None:
    whole = tokens_run(tiny, rows(*SEQUENCES))
    for asked in (
        rows(*SEQUENCES[1:]),
        rows(*SEQUENCES[2:], (90, 91, 92)),
        rows(*SEQUENCES, SEQUENCES[3]),  # twice: it weighs twice
    ):
        assert 0 < tokens_run(tiny, asked) < 0.5 * whole
        assert_right(tiny, asked)
    assert tokens_run(tiny, rows(*SEQUENCES[::-1])) == 0
    assert_right(tiny, rows(*SEQUENCES))  # what was added to it for others is not in it


def test_a_buffer_some_way_off_is_kept_beside(tiny: Model) -> None:
    """Two kinds of requests in turn cost what differs within each."""
    one, two = rows(*SEQUENCES), rows(*SEQUENCES[4:])
    list(kept_moments(tiny, one, groups_of(tiny)))
    assert tokens_run(tiny, two) > 0
    assert tokens_run(tiny, two) == tokens_run(tiny, one) == 0
    assert_right(tiny, two)
    near = rows(*SEQUENCES[1:])
    assert tokens_run(tiny, near) == tokens_run(tiny, near) > 0


def test_other_weights_are_another_buffer(tiny: Model) -> None:
    list(kept_moments(tiny, rows(*SEQUENCES), groups_of(tiny)))
    assert_right(tiny, rows(*SEQUENCES, weight=7.0))


def test_a_buffer_that_shares_little_is_read_whole(tiny: Model) -> None:
    list(kept_moments(tiny, rows(*SEQUENCES), groups_of(tiny)))
    other = rows(*[tuple(token + 100 for token in s) for s in SEQUENCES], SEQUENCES[0])
    assert_right(tiny, other)
    (held,) = kept_keys.KEPT.values()
    assert len(held) == 2
    assert tokens_run(tiny, other) == tokens_run(tiny, rows(*SEQUENCES)) == 0


def test_an_empty_buffer_has_empty_moments(tiny: Model) -> None:
    (found,) = kept_moments(tiny, Rows((), ()), groups_of(tiny, "mlp.1"))
    assert not found.second.any() and found.count == 0


def test_another_model_or_other_matrices_share_nothing(tiny: Model) -> None:
    asked = rows(*SEQUENCES)
    list(kept_moments(tiny, asked, groups_of(tiny)))
    assert_right(tiny, asked, "mlp.1")
    assert_right(make_model("qwen2", seed=7), asked)


def test_another_process_finds_them(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = rows(*SEQUENCES)
    first = [own.second for own in kept_moments(tiny, asked, groups_of(tiny))]
    kept_keys.KEPT.clear()
    assert tokens_run(tiny, asked) == 0
    again = [own.second for own in kept_moments(tiny, asked, groups_of(tiny))]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    kept_keys.KEPT.clear()
    with nothing_kept():
        assert tokens_run(tiny, asked) > 0


def test_a_damaged_file_is_as_good_as_none(tiny: Model, tmp_path: Path) -> None:
    asked = rows(*SEQUENCES)
    list(kept_moments(tiny, asked, groups_of(tiny)))
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    kept_keys.KEPT.clear()
    assert_right(tiny, asked)


def test_the_oldest_files_go(tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list(kept_moments(tiny, rows(*SEQUENCES), groups_of(tiny)))
    (first,) = (tmp_path / "kept").iterdir()
    size = first.stat().st_size
    monkeypatch.setattr(kept_module, "_MOST_BYTES", 5.5 * size)
    for shift in range(40, 340, 50):
        moved = [tuple(token + shift for token in s) for s in SEQUENCES]
        kept_keys.KEPT.clear()
        list(kept_moments(tiny, rows(*moved), groups_of(tiny)))
    left = list((tmp_path / "kept").iterdir())
    assert len(left) == 5 and first not in left
    monkeypatch.setattr(kept_module, "_MOST_BYTES", size)  # too large a share of it
    kept_keys.KEPT.clear()
    list(kept_moments(tiny, rows(*SEQUENCES[:6]), groups_of(tiny)))
    assert sorted((tmp_path / "kept").iterdir()) == sorted(left)


def test_moments_too_large_to_keep_are_made_one_by_one(
    tiny: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kept_keys, "_MOST_NUMBERS", 10)
    made: list[Any] = []
    asked, groups = rows(*SEQUENCES), groups_of(tiny)
    for own, wanted in zip(
        kept_moments(tiny, asked, groups), moments_of(tiny, asked, groups), strict=True
    ):
        made.append(own)
        assert torch.equal(own.second, wanted.second)
    assert len(made) == len(groups)
    assert not kept_keys.KEPT and not (tmp_path / "kept").exists()
