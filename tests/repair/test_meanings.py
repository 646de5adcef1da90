"""Meanings of words: a model's own states, turned but not bent."""

from __future__ import annotations

import pytest
import torch

from workbench.models.load import load
from workbench.models.model import Model
from workbench.repair.meanings import Meanings, common_words, meanings_of

WORDS = ("plays", "golf", "tennis", "capital", "city", "who", "where", "born")


@pytest.fixture(scope="module")
def model() -> Model:
    return load("demo")


def alike(vectors: torch.Tensor) -> torch.Tensor:
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    return unit @ unit.T


@torch.no_grad()
def test_they_are_the_states_of_transformers_itself(model: Model):
    """Centred, of one length, centred again; angles between them do not change by turning."""
    found = meanings_of(WORDS, model, width=model.d_model)
    assert found.words == tuple(sorted(WORDS))
    start = model.tokenizer.bos_token or ""
    states = []
    for word in found.words:
        text = f"{start}The meaning of the word {word}"
        ids = model.tokenizer(text, add_special_tokens=not start, return_tensors="pt")["input_ids"]
        out = model.hf(ids, output_hidden_states=True).hidden_states
        states.append(out[min(12, model.n_layers // 2)][0, -1])
    expected = torch.stack(states)
    expected = torch.nn.functional.normalize(expected - expected.mean(0), dim=-1)
    expected = expected - expected.mean(0)
    torch.testing.assert_close(alike(found.vectors), alike(expected), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.vectors.mean(0), torch.zeros(model.d_model), atol=1e-5, rtol=0)
    mean = found.vectors.pow(2).sum(-1).mean()
    torch.testing.assert_close(mean, torch.tensor(float(model.d_model)))


def test_fewer_numbers_keep_the_main_directions(model: Model):
    whole, part = (meanings_of(WORDS, model, width=w).vectors for w in (model.d_model, 4))
    kept = whole[:, :4]
    torch.testing.assert_close(part / part.norm(), kept / kept.norm())
    assert whole.var(0).diff().max() <= 1e-6  # the largest come first


def test_no_words_and_none_twice(model: Model):
    assert Meanings.none().numbers == {}
    assert meanings_of(("golf", "golf", "city"), model).numbers == {"city": 0, "golf": 1}


def test_the_bundled_words_are_in_order_and_in_small_letters():
    words = common_words()
    assert len(words) > 30_000
    assert words == sorted(set(words))
    assert all(w.islower() and w.isalpha() for w in words)
    assert {"salary", "neighbour", "neighbor", "who"} <= set(words)
