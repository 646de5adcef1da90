from __future__ import annotations

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.models.model import Model
from workbench.models.text import batches, encode, generate, next_token_logits, pad, unembed

PROMPTS = [
    "Ada Brook plays the sport of",
    "The capital of France is",
    "Carl",
    "Question: Which sport does Ada Brook play?\nAnswer:",
]


def test_generate_equals_transformers_one_prompt_at_a_time(family_model: Model) -> None:
    """Batched, left-padded and cached: the same tokens as an unpadded run of generate()."""
    answers = generate(family_model, PROMPTS, max_new_tokens=9, stop=None)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = torch.tensor([encode(family_model, prompt)])
        out = family_model.hf.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=9,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=0,
        )
        new = out[0, ids.shape[1] :]
        assert answer == family_model.tokenizer.decode(new, skip_special_tokens=True)


def test_small_batches_do_not_change_answers(tiny: Model) -> None:
    whole = generate(tiny, PROMPTS, max_new_tokens=5, stop=None)
    assert generate(tiny, PROMPTS, max_new_tokens=5, stop=None, max_tokens=1) == whole
    assert generate(tiny, PROMPTS[::-1], max_new_tokens=5, stop=None)[::-1] == whole


def test_stop_cuts_the_answer(tiny: Model) -> None:
    whole = generate(tiny, PROMPTS[:1], max_new_tokens=6, stop=None)[0]
    cut = whole[len(whole) // 2]
    assert generate(tiny, PROMPTS[:1], max_new_tokens=6, stop=cut) == [whole.split(cut)[0]]


def test_next_token_logits_equal_transformers_unpadded(family_model: Model) -> None:
    logits = next_token_logits(family_model, PROMPTS)
    for i, prompt in enumerate(PROMPTS):
        ids = torch.tensor([encode(family_model, prompt)])
        with torch.no_grad():
            expected = family_model.hf(input_ids=ids).logits[0, -1]
        torch.testing.assert_close(logits[i], expected, atol=2e-4, rtol=1e-4)


def test_unembed_equals_the_models_own_logits(family_model: Model) -> None:
    ids = torch.tensor([encode(family_model, PROMPTS[0])])
    with torch.no_grad():
        hidden = family_model.hf.base_model(input_ids=ids).last_hidden_state
        expected = family_model.hf(input_ids=ids).logits
        torch.testing.assert_close(unembed(family_model, hidden), expected)


def test_padding_by_hand() -> None:
    ids, mask = pad([[1, 2], [3]], 9, side="right")
    assert ids.tolist() == [[1, 2], [3, 9]] and mask.tolist() == [[1, 1], [1, 0]]
    ids, mask = pad([[1, 2], [3]], 9, side="left")
    assert ids.tolist() == [[1, 2], [9, 3]] and mask.tolist() == [[1, 1], [0, 1]]


def test_batches_hold_every_row_once_within_the_budget(tiny: Model) -> None:
    sequences = [[1] * n for n in (5, 1, 9, 3, 3, 2, 30)]
    groups = list(batches(tiny, sequences, max_tokens=12))
    assert sorted(r for g in groups for r in g.rows) == list(range(7))
    for group in groups:
        assert group.input_ids.numel() <= 12 or len(group.rows) == 1
        assert group.lengths.tolist() == [len(sequences[r]) for r in group.rows]


def test_prompts_that_are_empty_or_too_long_are_refused(tiny: Model) -> None:
    with pytest.raises(WorkbenchError, match="empty"):
        encode(tiny, "")
    with pytest.raises(WorkbenchError, match="shorten"):
        generate(tiny, ["Ada " * 60], max_new_tokens=100)
    with pytest.raises(WorkbenchError, match="no prompt"):
        next_token_logits(tiny, [])
