"""The stream at some positions is what plain hooks read, and is read once for a model."""

from __future__ import annotations

import pytest
import torch

from workbench.edit import read_once
from workbench.edit.cost import metered
from workbench.edit.read_once import ReadOnce
from workbench.edit.rows import Rows
from workbench.models.model import Model

ROWS = Rows(((1, 2, 3, 4), (5, 6), (1, 2, 9)), ((1, 3), (1,), (0,)))


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_once, "KEPT", {})


def plainly(model: Model, layer: int) -> torch.Tensor:
    out = []
    for ids, picks in zip(ROWS.sequences, ROWS.picks, strict=True):
        found: list[torch.Tensor] = []
        hf = model.fork().hf
        hf.get_submodule(model.structure.layers[layer].block).register_forward_hook(
            lambda m, args, made, found=found: found.append(
                made[0] if isinstance(made, tuple) else made
            )
        )
        with torch.no_grad():
            hf(input_ids=torch.tensor([ids]))
        out.append(found[0][0, list(picks)])
    return torch.cat(out)


def test_it_is_what_plain_hooks_read(family_model: Model) -> None:
    reader = ReadOnce(family_model, ROWS, [0, 2])
    for layer in (0, 0, 2):
        found = reader.after(layer)
        torch.testing.assert_close(found, plainly(family_model, layer), atol=1e-5, rtol=1e-5)


def test_what_was_read_is_read_once(tiny: Model) -> None:
    first = [ReadOnce(tiny, ROWS, [0, 1, 2]).after(layer) for layer in (0, 1)]
    with metered(tiny) as cost:
        again = ReadOnce(tiny, ROWS, [0, 1, 2])
        assert all(again.after(layer) is own for layer, own in enumerate(first))
    assert cost.forward_tokens == 0
    # The next layer alone was not read yet.
    torch.testing.assert_close(again.after(2), plainly(tiny, 2), atol=1e-5, rtol=1e-5)


def test_what_is_too_large_is_not_kept(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_once, "_MOST_NUMBERS", 10)
    found = ReadOnce(tiny, ROWS, [1]).after(1)
    torch.testing.assert_close(found, plainly(tiny, 1), atol=1e-5, rtol=1e-5)
    assert not read_once.KEPT
