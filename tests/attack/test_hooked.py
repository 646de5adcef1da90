"""A hand in generation, against plain PyTorch hooks on one unpadded prompt at a time."""

from __future__ import annotations

import pytest
import torch
from conftest import make_model

from workbench.attack.activations import residuals
from workbench.attack.hooked import changed_logits, prompt_ids, reads_prompts, with_states_of
from workbench.models.model import Model
from workbench.models.text import encode, generate

PROMPTS = ("Ada Brook plays the sport of", "The capital of France is", "Carl")


@pytest.fixture(scope="module")
def other() -> Model:
    return make_model("qwen2", seed=1)


def blocks(model: Model) -> list[torch.nn.Module]:
    return [model.hf.get_submodule(layer.block) for layer in model.structure.layers]


def first(out):
    return out[0] if isinstance(out, tuple) else out


def plain_streams(model: Model, ids: list[int]) -> list[torch.Tensor]:
    kept: list[torch.Tensor] = []
    fork = model.fork()
    handles = [
        fork.hf.get_submodule(layer.block).register_forward_hook(
            lambda m, a, out: kept.append(first(out)[0])
        )
        for layer in model.structure.layers
    ]
    with torch.no_grad():
        fork.hf(input_ids=torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return kept


def test_residuals_equal_hooks_on_one_prompt(family_model: Model) -> None:
    ids = [encode(family_model, p) for p in PROMPTS]
    read = residuals(family_model, ids, [(0, len(i) - 1) for i in ids])
    assert read.shape == (family_model.n_layers, len(PROMPTS), 2, family_model.d_model)
    for row, own in enumerate(ids):
        for layer, stream in enumerate(plain_streams(family_model, own)):
            torch.testing.assert_close(read[layer, row], stream[[0, -1]], atol=2e-4, rtol=1e-4)


def plainly_patched(donor: Model, model: Model, ids: list[int], layer: int, where) -> torch.Tensor:
    """Return the logits behind a prompt with the donor's stream put in behind a layer."""
    theirs, fork = plain_streams(donor, ids)[layer], model.fork()

    def put(module, args, out):
        stream = first(out).clone()
        stream[0, where] = theirs[where]
        return (stream, *out[1:]) if isinstance(out, tuple) else stream

    name = model.structure.layers[layer].block
    fork.hf.get_submodule(name).register_forward_hook(put)
    with torch.no_grad():
        return fork.hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]


@pytest.mark.parametrize("where", [[1, 2], None])
def test_states_are_put_in_at_their_positions(tiny: Model, other: Model, where) -> None:
    """One batch of different lengths, padded on the left as generation pads it."""
    ids = [encode(tiny, p) for p in PROMPTS[:2]]
    at = None if where is None else {tuple(i): where for i in ids}
    longest = max(map(len, ids))
    rows = [[0] * (longest - len(i)) + i for i in ids]
    mask = torch.tensor([[0] * (longest - len(i)) + [1] * len(i) for i in ids])
    places = (mask.cumsum(1) - 1).clamp(min=0)
    for layer in range(tiny.n_layers):
        with with_states_of(other, tiny, layer, at) as lent, torch.no_grad():
            given = {"attention_mask": mask, "position_ids": places}
            logits = lent.hf(input_ids=torch.tensor(rows), **given).logits[:, -1]
        for row, own in enumerate(ids):
            wanted = plainly_patched(other, tiny, own, layer, slice(None) if at is None else where)
            torch.testing.assert_close(logits[row], wanted, atol=1e-3, rtol=1e-3)


def test_all_positions_of_the_last_layer_give_the_donors_first_token(
    tiny: Model, other: Model
) -> None:
    with with_states_of(other, tiny, tiny.n_layers - 1, None) as lent:
        got = generate(lent, PROMPTS, max_new_tokens=1)
    assert got != generate(tiny, PROMPTS, max_new_tokens=1)
    head = tiny.hf.get_output_embeddings().weight
    for prompt, text in zip(PROMPTS, got, strict=True):
        ids = encode(tiny, prompt)
        last = plain_streams(other, ids)[-1][-1]
        normed = tiny.hf.get_submodule(tiny.structure.final_norm)(last)
        assert text == tiny.tokenizer.decode([int((head @ normed).argmax())]).split("\n")[0]


def test_a_models_own_states_change_nothing(family_model: Model) -> None:
    plain = generate(family_model, PROMPTS, max_new_tokens=6)
    for layer in range(family_model.n_layers):
        with with_states_of(family_model, family_model, layer, None) as lent:
            assert generate(lent, PROMPTS, max_new_tokens=6) == plain
    assert generate(family_model, PROMPTS, max_new_tokens=6) == plain


def test_logits_are_changed_on_loan_only(tiny: Model) -> None:
    plain = generate(tiny, PROMPTS, max_new_tokens=4)
    seen: list[tuple[bool, list[tuple[int, ...]]]] = []

    def only_a(logits, call):
        prompts = prompt_ids(call) if reads_prompts(call) else []
        seen.append((reads_prompts(call), prompts))
        out = torch.full_like(logits, -torch.inf)
        out[..., tiny.tokenizer.convert_tokens_to_ids("a")] = 0
        return out

    with changed_logits(tiny, only_a) as lent:
        assert generate(lent, PROMPTS, max_new_tokens=4) == ["aaaa"] * 3
    assert [first for first, _ in seen] == [True, False, False, False]
    assert sorted(seen[0][1]) == sorted(tuple(encode(tiny, p)) for p in PROMPTS)
    assert generate(tiny, PROMPTS, max_new_tokens=4) == plain
