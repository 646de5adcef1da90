"""The lens against the model's own logits; direct attribution against their sum."""

from __future__ import annotations

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet
from workbench.localize.logit_lens import logit_attribution, logit_lens
from workbench.models.text import encode

PROMPTS = (
    "Ada Brook plays the sport of",
    "The mother tongue of Danielle Darrieux is",
    "The capital of Norway is",
)
SUBJECTS = ("Ada Brook", "Danielle Darrieux", "Norway")


def known_facts(model, *, foil=None, prompts=PROMPTS, subjects=SUBJECTS) -> FactSet:
    """Facts the random model knows: whatever it says next, where that is text."""
    facts = []
    for prompt, subject in zip(prompts, subjects, strict=True):
        with torch.no_grad():
            logits = model.hf(input_ids=torch.tensor([encode(model, prompt)])).logits[0, -1]
        said = model.tokenizer.decode([int(logits.argmax())])
        clean = said.isascii() and said.isprintable() and said.strip()
        if clean and len(encode(model, prompt + said)) == len(encode(model, prompt)) + 1:
            facts.append(Fact(subject, prompt, said, foil=foil))
    return FactSet(tuple(facts))


def test_the_last_layer_says_what_the_model_says(family_model):
    prompt = PROMPTS[0]
    lens = logit_lens(family_model, prompt, target=" tennis", top_k=4)
    with torch.no_grad():
        logits = family_model.hf(input_ids=torch.tensor([encode(family_model, prompt)])).logits[0]
    probability = logits.softmax(-1)
    torch.testing.assert_close(
        lens.probability[-1], probability.topk(4, -1).values, atol=1e-5, rtol=0
    )
    target = encode(family_model, prompt + " tennis")[len(logits)]
    torch.testing.assert_close(
        lens.target_probability[-1], probability[:, target], atol=1e-5, rtol=0
    )
    order = probability[-1].argsort(descending=True).tolist()
    assert int(lens.target_rank[-1, -1]) == order.index(target)
    assert lens.top[-1][-1][0] == family_model.tokenizer.decode([order[0]])


def test_an_inner_layer_is_the_stream_of_a_shorter_model(tiny):
    """Reading behind layer 0 equals a model that has only layer 0."""
    short = tiny.fork().hf
    short.model.layers = short.model.layers[:1]
    short.config.num_hidden_layers = 1
    ids = torch.tensor([encode(tiny, PROMPTS[0])])
    with torch.no_grad():
        expected = short(input_ids=ids, use_cache=False).logits[0].softmax(-1).topk(3, -1).values
    lens = logit_lens(tiny, PROMPTS[0], top_k=3)
    torch.testing.assert_close(lens.probability[0], expected, atol=1e-5, rtol=0)


def _logit_gap(model, fact: Fact) -> float:
    ids = encode(model, fact.prompt)
    with torch.no_grad():
        logits = model.hf(input_ids=torch.tensor([ids])).logits[0, -1].double()
    cap = getattr(model.config, "final_logit_softcapping", None)
    logits = torch.atanh(logits / cap) * cap if cap else logits
    target = encode(model, fact.prompt + fact.target)[len(ids)]
    if fact.foil is None:
        return float(logits[target] - logits.mean())
    return float(logits[target] - logits[encode(model, fact.prompt + fact.foil)[len(ids)]])


@pytest.mark.parametrize("foil", [None, " golf"])
def test_direct_contributions_sum_to_the_logit_difference(family_model, foil):
    facts = known_facts(family_model, foil=foil)
    if not facts:
        pytest.skip("this random model says nothing that is text")
    where = logit_attribution(family_model, facts)
    expected = sum(_logit_gap(family_model, f) for f in facts) / len(facts)
    assert where.clean == pytest.approx(expected, rel=1e-3, abs=1e-3)
    last = where.table[where.table["role"] == "last"]["score"].sum()
    ends = where.config["embedding"] + where.config["constant"]
    assert last + ends == pytest.approx(1, abs=1e-4)
    assert (where.table[where.table["role"] != "last"]["score"] == 0).all()


def test_lens_refuses_no_tokens(tiny):
    with pytest.raises(WorkbenchError, match="at least one"):
        logit_lens(tiny, "Ada", top_k=0)
