from __future__ import annotations

import math

import pytest
import torch
from conftest import make_model
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.measure.text_metrics import (
    divergences,
    kl,
    negative_log_likelihoods,
    rouge_l,
    teacher_forced,
)
from workbench.models.model import Model
from workbench.models.text import encode

WORDS = st.lists(st.sampled_from(["the", "Cat", "sat", "on2", "É", "-", "cat."])).map(" ".join)
PROMPTS = ["Ada Brook plays the sport of", "The capital of France is", "Carl"]
TARGETS = [" tennis", " Paris", " Dorn plays golf"]


def log_probs(model: Model, text: str) -> torch.Tensor:
    ids = torch.tensor([encode(model, text)])
    with torch.no_grad():
        return model.hf(input_ids=ids).logits[0].double().log_softmax(-1)


def test_teacher_forced_equals_one_unpadded_pass_a_prompt(family_model: Model) -> None:
    results = teacher_forced(family_model, PROMPTS, TARGETS)
    for prompt, target, result in zip(PROMPTS, TARGETS, results, strict=True):
        n, ids = len(encode(family_model, prompt)), encode(family_model, prompt + target)
        scores = log_probs(family_model, prompt + target)
        expected = sum(float(scores[i - 1, ids[i]]) for i in range(n, len(ids)))
        assert result.probability == pytest.approx(math.exp(expected), rel=1e-4)
        order = scores[n - 1].argsort(descending=True).tolist()
        assert result.rank == 1 + order.index(ids[n])


def test_likelihood_of_texts(tiny: Model) -> None:
    texts = ["Ada Brook plays", "The capital of France is Paris. I do not know.", "T"]
    for text, (loss, count) in zip(texts, negative_log_likelihoods(tiny, texts), strict=True):
        ids, scores = encode(tiny, text), log_probs(tiny, text)
        losses = [-float(scores[i - 1, ids[i]]) for i in range(1, len(ids))]
        assert count == len(losses)
        assert loss == pytest.approx(sum(losses) / max(count, 1), rel=1e-4)


def test_divergence_from_the_base(tiny: Model) -> None:
    other = make_model("qwen2", seed=1)
    assert divergences(tiny, tiny, PROMPTS) == pytest.approx([0.0] * 3, abs=1e-12)
    for prompt, value in zip(PROMPTS, divergences(tiny, other, PROMPTS), strict=True):
        p, q = (log_probs(m, prompt)[-1] for m in (tiny, other))
        expected = torch.distributions.kl_divergence(
            torch.distributions.Categorical(logits=p), torch.distributions.Categorical(logits=q)
        )
        assert value == pytest.approx(float(expected), rel=1e-4)


def test_kl_by_hand() -> None:
    p = torch.tensor([[0.5, 0.5, 0.0]]).log()
    q = torch.tensor([[0.25, 0.5, 0.25]]).log()
    assert float(kl(p, q)) == pytest.approx(0.5 * math.log(2))


@pytest.mark.parametrize(
    ("answer", "target", "recall", "f"),
    [
        ("the cat sat", "the cat sat", 1.0, 1.0),
        ("the dog sat down", "the cat sat", 2 / 3, 2 * (2 / 3 * 0.5) / (2 / 3 + 0.5)),
        ("nothing", "the cat", 0.0, 0.0),
        ("", "the cat", 0.0, 0.0),
    ],
)
def test_rouge_l_by_hand(answer: str, target: str, recall: float, f: float) -> None:
    result = rouge_l(answer, target)
    assert (result.recall, result.f) == pytest.approx((recall, f))


@given(answer=WORDS, target=WORDS)
def test_rouge_l_is_the_packages(answer: str, target: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    theirs = RougeScorer(["rougeL"], use_stemmer=False).score(target, answer)["rougeL"]
    mine = rouge_l(answer, target)
    assert (mine.recall, mine.f) == pytest.approx((theirs.recall, theirs.fmeasure))


def test_a_target_that_cannot_be_made_is_refused(tiny: Model) -> None:
    with pytest.raises(WorkbenchError, match="target"):
        teacher_forced(tiny, ["Ada"], [" "])


def test_the_beginning_of_a_long_text_is_measured(tiny):
    text = "The capital of France is Paris. " * 40
    ((_, count),) = negative_log_likelihoods(tiny, [text])
    assert count == tiny.n_ctx - 1
