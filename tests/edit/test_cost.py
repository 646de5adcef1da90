"""Tokens are counted where they pass a block; nothing stays behind."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from conftest import make_model
from torch.nn.modules import module as torch_module

from workbench.edit import covariance, kept_keys, read_once, retain, stream
from workbench.edit.cost import as_first, metered
from workbench.edit.train import lessons
from workbench.models.model import Model, share_parameters
from workbench.models.text import generate

IDS = torch.arange(1, 15).reshape(2, 7)
TOKENS = 2 * 7
KEEPERS = (covariance, kept_keys, lessons, read_once, retain, stream)


def test_a_forward_pass_is_its_tokens(family_model: Model) -> None:
    with metered(family_model) as cost, torch.no_grad():
        family_model.hf(input_ids=IDS)
    assert cost.forward_tokens == pytest.approx(TOKENS)
    assert cost.backward_tokens == 0


def test_a_pass_through_the_hooks_counts_alike(family_model: Model) -> None:
    with metered(family_model) as cost, torch.no_grad():
        family_model.bridge(IDS)
    assert cost.forward_tokens == pytest.approx(TOKENS)


def test_part_of_the_blocks_is_part_of_the_cost(tiny: Model) -> None:
    """Half of the blocks of a model with two of them; a third of one with three."""
    states = torch.zeros(2, 7, 32)
    where = (torch.zeros(1, 7, 8), torch.zeros(1, 7, 8))
    for blocks in (1, 2, 3):
        with metered(tiny) as cost, torch.no_grad():
            for block in tiny.hf.model.layers[:blocks]:
                block(states, position_embeddings=where, attention_mask=None)
        assert cost.forward_tokens == pytest.approx(TOKENS * blocks / 3)


def test_generation_counts_every_new_token(tiny: Model) -> None:
    """With a cache each step runs the new token alone; the last one is never run."""
    prompt = "The capital of France is"
    length = len(tiny.tokenizer(prompt)["input_ids"])
    steps = []
    hook = tiny.hf.register_forward_hook(lambda *_: steps.append(1))
    with metered(tiny) as cost:
        generate(tiny, [prompt, prompt], max_new_tokens=5)
    hook.remove()
    assert cost.forward_tokens == pytest.approx(2 * (length + len(steps) - 1))


def test_backward_is_counted_from_the_trained_block_on(tiny: Model) -> None:
    hf = share_parameters(tiny.hf)
    for trained, share in ((2, 1 / 3), (1, 2 / 3), (0, 1.0)):
        hf.requires_grad_(False)
        hf.model.layers[trained].mlp.down_proj.weight.requires_grad_(True)
        with metered(tiny) as cost:
            hf(input_ids=IDS)
        assert cost.forward_tokens == pytest.approx(TOKENS)
        assert cost.backward_tokens == pytest.approx(TOKENS * share)
        with metered(tiny) as cost, torch.no_grad():
            hf(input_ids=IDS)
        assert cost.backward_tokens == 0
    hf.requires_grad_(False)


def test_passes_of_another_thread_are_not_counted(tiny: Model) -> None:
    other = tiny.fork()
    thread = threading.Thread(target=lambda: other.hf(input_ids=IDS))
    with metered(tiny) as cost:
        thread.start()
        thread.join()
    assert cost.forward_tokens == 0


def hooks() -> int:
    return len(torch_module._global_forward_hooks)


def test_nothing_is_counted_afterwards(tiny: Model) -> None:
    before = hooks()
    with metered(tiny) as cost:
        assert hooks() == before + 1
    tiny.hf(input_ids=IDS)
    assert hooks() == before and cost.forward_tokens == 0


def test_an_error_leaves_no_hook_and_keeps_the_numbers(tiny: Model) -> None:
    before = hooks()
    with pytest.raises(ZeroDivisionError), metered(tiny) as cost:
        tiny.hf(input_ids=IDS)
        raise ZeroDivisionError
    assert hooks() == before
    assert cost.forward_tokens == pytest.approx(TOKENS) and cost.cpu_seconds > 0


def test_processor_time_is_not_wall_time(tiny: Model) -> None:
    with metered(tiny) as asleep:
        time.sleep(0.1)
    assert asleep.cpu_seconds < 0.09
    with metered(tiny) as busy:
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
    assert busy.cpu_seconds >= 0.05


def test_meters_may_be_nested(tiny: Model) -> None:
    with metered(tiny) as outer:
        tiny.hf(input_ids=IDS)
        with metered(tiny) as inner:
            tiny.hf(input_ids=IDS)
    assert (outer.forward_tokens, inner.forward_tokens) == pytest.approx((2 * TOKENS, TOKENS))


def test_an_edit_after_forgetting_costs_as_much_as_the_first() -> None:
    from tests.edit.requests import request
    from workbench.edit.stamp import StampConfig, stamp
    from workbench.models.components import ComponentSet

    model = make_model("qwen2", seed=3)
    config = StampConfig(counterparts=3, confusable=20, named=4, context=4, generations=2)

    def cost() -> float:
        with metered(model) as found:
            stamp(model, request(), ComponentSet.parse("mlp.1"), config)
        return found.forward_tokens

    with as_first():
        first = cost()
    assert cost() < first
    for kept_on_disk in (False, True):
        for module in KEEPERS:
            module.KEPT.clear()
        assert (cost() < first) == kept_on_disk
    with as_first():
        assert not any(module.KEPT for module in KEEPERS)
        assert cost() == first
