"""Next tokens of two models, against a plain forward pass of each."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import VOCAB, make_model
from workbench.errors import WorkbenchError
from workbench.measure.next_tokens import COLUMNS, next_tokens
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.models.model import Model
from workbench.models.text import decode, encode

PROMPT = "Ada Brook plays the sport of"


def chances(model: Model) -> torch.Tensor:
    with torch.no_grad():
        logits = model.hf(input_ids=torch.tensor([encode(model, PROMPT)])).logits[0, -1]
    return logits.softmax(-1)


def test_probabilities_and_ranks_are_those_of_a_forward_pass(family_model: Model) -> None:
    name = next(n for n, p in family_model.parameters.items() if p.ndim == 2 and ".1." in n)
    noise = torch.randn(family_model.parameters[name].shape, generator=torch.manual_seed(0))
    edited = family_model.with_delta(WeightDelta({name: Dense(noise)}, Origin("by hand")))
    table = next_tokens(family_model, edited, PROMPT, k=6)
    p_before, p_after = chances(family_model), chances(edited)
    order_before = p_before.argsort(descending=True).tolist()
    order_after = p_after.argsort(descending=True).tolist()
    wanted = {*order_before[:6], *order_after[:6]}
    ranked = sorted(wanted, key=order_after.index)
    assert list(table.columns) == list(COLUMNS)
    assert table["token"].tolist() == [decode(edited, [t]) for t in ranked]
    assert table["p_before"].tolist() == pytest.approx(p_before[ranked].tolist(), abs=1e-5)
    assert table["p_after"].tolist() == pytest.approx(p_after[ranked].tolist(), abs=1e-5)
    assert table["rank_before"].tolist() == [order_before.index(t) + 1 for t in ranked]
    assert table["rank_after"].tolist() == [order_after.index(t) + 1 for t in ranked]
    assert (table["rise"] == table["rank_before"] - table["rank_after"]).all()
    assert table["rise"].any()


def test_a_model_against_itself_rises_nowhere(tiny: Model) -> None:
    table = next_tokens(tiny, tiny, PROMPT, k=5)
    assert len(table) == 5 and (table["rise"] == 0).all()
    assert (table["p_before"] == table["p_after"]).all()
    assert table["rank_after"].tolist() == [1, 2, 3, 4, 5]
    assert table["p_after"].is_monotonic_decreasing


def test_equal_logits_share_a_rank() -> None:
    model = make_model("llama")
    head = "lm_head.weight"
    flat = WeightDelta({head: Dense(-model.parameters[head])}, Origin("by hand"))
    table = next_tokens(model, model.with_delta(flat), PROMPT, k=3)
    assert set(table["rank_after"]) == {1}
    assert table["p_after"].tolist() == pytest.approx([1 / VOCAB] * len(table))


def test_no_more_tokens_than_there_are(tiny: Model) -> None:
    table = next_tokens(tiny, tiny, PROMPT, k=10**6)
    assert len(table) == VOCAB and table["p_after"].sum() == pytest.approx(1.0)


@pytest.mark.parametrize("prompt", ["", "golf " * 500])
def test_prompts_that_do_not_fit_are_sentences(tiny: Model, prompt: str) -> None:
    with pytest.raises(WorkbenchError, match=r"prompt (is empty|has)"):
        next_tokens(tiny, tiny, prompt)
