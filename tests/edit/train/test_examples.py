"""Examples are what plain `transformers` makes of them, and come back in their order."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import make_model
from workbench.edit.train.examples import (
    Examples,
    answers,
    examples,
    reference,
    reference_logits,
    texts,
)
from workbench.edit.train.losses import label_log_probs, reference_log_probs
from workbench.errors import WorkbenchError
from workbench.models.model import Model
from workbench.models.text import decode

PAIRS = [
    ("Question: Which sport does Ada Brook play?\nAnswer:", " tennis"),
    ("Paris", " is the capital of France."),
    ("Carl Dorn plays the sport of", " golf. I do not know."),
]


def plain(model: Model, ids: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities of each next token, one text at a time and without padding."""
    with torch.no_grad():
        return model.hf(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)


def test_logits_are_those_of_a_plain_forward(family_model: Model) -> None:
    batch = examples(family_model, PAIRS)
    with torch.no_grad():
        said = answers(family_model, batch)
    at = 0
    for row, (ids, start) in enumerate(zip(batch.sequences, batch.starts, strict=True)):
        count = len(ids) - start
        wanted = plain(family_model, ids)[start - 1 :]
        found = said.logits[at : at + count].log_softmax(-1)
        torch.testing.assert_close(found, wanted, atol=2e-4, rtol=1e-3)
        assert said.labels[at : at + count].tolist() == list(ids[start:])
        assert said.row[at : at + count].tolist() == [row] * count
        at += count
    assert at == len(said.logits) == batch.n_tokens and said.rows == len(PAIRS)


def test_examples_are_the_pairs_in_order(tiny: Model) -> None:
    twice = examples(tiny, [*PAIRS, PAIRS[0]], end=(5, 6))
    assert len(twice) == 4 and twice.sequences[0] == twice.sequences[3]
    for (prompt, answer), ids, start in zip(PAIRS, twice.sequences, twice.starts, strict=False):
        assert decode(tiny, ids[:start]) == prompt
        assert decode(tiny, ids[start:-2]) == answer
        assert ids[-2:] == (5, 6)


def test_token_numbers_of_rows(tiny: Model) -> None:
    every = Examples(((1, 2, 3), (4, 5), (6, 7, 8, 9)), (1, 1, 2))
    assert every.offsets == (0, 2, 3) and every.n_tokens == 5
    assert every.tokens_of([2, 0]).tolist() == [3, 4, 0, 1]
    assert every.tokens_of([]).tolist() == []
    assert every.take([2, 0]) == Examples(((6, 7, 8, 9), (1, 2, 3)), (2, 1))
    assert every.take([0]) + every.take([1, 2]) == every
    assert texts([[7, 8], [9]]) == Examples(((7, 8),), (1,))


def test_what_was_read_before_is_in_the_order_of_the_examples(tiny: Model) -> None:
    """Batches group by length, so their order is another than the examples'."""
    every = examples(tiny, PAIRS)
    assert [len(s) for s in every.sequences] != sorted(len(s) for s in every.sequences)
    wanted = [
        plain(tiny, ids)[torch.arange(start - 1, len(ids) - 1), list(ids[start:])]
        for ids, start in zip(every.sequences, every.starts, strict=True)
    ]
    close = {"atol": 2e-4, "rtol": 1e-3}
    torch.testing.assert_close(reference(tiny, every, label_log_probs), torch.cat(wanted), **close)
    sums = torch.stack([w.sum() for w in wanted])
    torch.testing.assert_close(reference_log_probs(tiny, every), sums, **close)
    rows = [2, 0]
    logits = reference_logits(tiny, every)(rows)
    with torch.no_grad():
        torch.testing.assert_close(logits, answers(tiny, every.take(rows)).logits, **close)
    assert not logits.requires_grad


def test_half_precision_says_its_logits_in_float32() -> None:
    model = make_model("qwen2")
    half = Model(model.hf.to(torch.bfloat16), model.tokenizer, "half")
    with torch.no_grad():
        assert answers(half, examples(half, PAIRS)).logits.dtype == torch.float32


def test_nothing_to_read(tiny: Model) -> None:
    with pytest.raises(WorkbenchError, match="nothing to learn"):
        reference(tiny, Examples(), label_log_probs)


def test_too_long(tiny: Model) -> None:
    pair = ("a" * 100, " b")
    fits = tiny.n_ctx - len(examples(tiny, [pair]).sequences[0])
    assert fits > 0
    assert len(examples(tiny, [pair], end=(1,) * fits).sequences[0]) == tiny.n_ctx
    with pytest.raises(WorkbenchError, match="more than the 128 of this model's context"):
        examples(tiny, [pair], end=(1,) * (fits + 1))
