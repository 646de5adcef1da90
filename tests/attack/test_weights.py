"""Rounded and pruned weights against matrices done by hand and plain loops."""

from __future__ import annotations

import pytest
import torch
from conftest import make_model
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

from workbench.attack.pruning import pruned
from workbench.attack.quantization import rounded_to
from workbench.attack.weights import linear_weights, with_weights
from workbench.models.model import Model


def test_three_bits_by_hand() -> None:
    """Three bits have the steps -3..3; the first row's step is 6 / 3 = 2, the second's 0.5."""
    weight = torch.tensor([[6.0, -2.9, 0.9, 3.1], [0.0, 1.5, -0.7, 0.2]])
    wanted = torch.tensor([[6.0, -2.0, 0.0, 4.0], [0.0, 1.5, -0.5, 0.0]])
    assert torch.equal(rounded_to(weight, 3), wanted)


def test_groups_have_steps_of_their_own() -> None:
    """Groups of two: [6, -2.9] has step 2, [0.9, 3.0] step 1."""
    weight = torch.tensor([[6.0, -2.9, 0.9, 3.0]])
    assert torch.equal(rounded_to(weight, 3, 2), torch.tensor([[6.0, -2.0, 1.0, 3.0]]))


def by_loops(weight, bits, group):
    out = weight.clone()
    for row in out:
        for start in range(0, len(row), group):
            block = row[start : start + group]
            step = block.abs().max() / (2 ** (bits - 1) - 1)
            if step > 0:
                row[start : start + group] = (block / step).round() * step
    return out


@given(
    bits=st.integers(2, 8),
    group=st.integers(1, 9),
    width=st.integers(1, 8),
    seed=st.integers(0, 999),
)
def test_any_groups_equal_plain_loops(bits, group, width, seed) -> None:
    weight = torch.randn(3, width, generator=torch.Generator().manual_seed(seed))
    weight[0] = 0
    rounded = rounded_to(weight, bits, group)
    torch.testing.assert_close(rounded, by_loops(weight, bits, group))
    torch.testing.assert_close(rounded_to(rounded, bits, group), rounded)
    assert all(len(row.unique()) <= 2**bits - 1 for row in rounded_to(weight, bits))


def test_many_bits_change_next_to_nothing() -> None:
    weight = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    step = weight.abs().amax(1, keepdim=True) / (2**15 - 1)
    assert ((rounded_to(weight, 16) - weight).abs() <= step / 2 * 1.01).all()


def test_the_smallest_weights_go() -> None:
    weight = torch.tensor([[0.1, -4.0, 0.3], [2.0, -0.2, 5.0]])
    assert torch.equal(pruned(weight, 0.5), torch.tensor([[0.0, -4.0, 0.0], [2.0, 0.0, 5.0]]))
    assert torch.equal(pruned(weight, 0.17), torch.tensor([[0.0, -4.0, 0.3], [2.0, -0.2, 5.0]]))
    assert torch.equal(pruned(weight, 0.1), weight)  # floor(0.6) weights


def linear_maps(model: Model) -> set[str]:
    head = model.hf.get_output_embeddings()
    return {
        f"{name}.weight"
        for name, module in model.hf.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head
    }


def test_linear_maps_are_all_but_embeddings_and_head(family_model: Model) -> None:
    assert set(linear_weights(family_model)) == linear_maps(family_model)


def test_everything_else_is_shared_and_the_model_is_as_before(family_model: Model) -> None:
    before = family_model.fingerprint
    changed = with_weights(family_model, lambda w: w * 2)
    for name, parameter in changed.parameters.items():
        old = family_model.parameters[name]
        if name in linear_maps(family_model):
            assert torch.equal(parameter, old * 2)
        else:
            assert parameter.data_ptr() == old.data_ptr()
    assert Model(family_model.hf, family_model.tokenizer, "again").fingerprint == before


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_row_is_one_output_whatever_is_stored(family: str) -> None:
    model = make_model(family)
    seen: list[tuple[int, ...]] = []

    def keep(weight: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(weight.shape))
        return weight / weight.abs().amax(1, keepdim=True)

    changed = with_weights(model, keep)
    for name, shape in zip(linear_weights(model), seen, strict=True):
        module = changed.hf.get_submodule(name.removesuffix(".weight"))
        one = torch.ones(1, shape[1])
        assert module(one).shape[-1] == shape[0]  # the map has as many outputs as the matrix rows
        by_output = module.weight.T if isinstance(module, Conv1D) else module.weight
        torch.testing.assert_close(by_output.abs().amax(1), torch.ones(shape[0]))
