"""Readings against transformers' own attentions and against the model's own logits."""

from __future__ import annotations

import pytest
import torch

from tests.localize.test_logit_lens import PROMPTS
from workbench.errors import WorkbenchError
from workbench.facts.prompts import continuation
from workbench.localize.readings import (
    attention_patterns,
    head_contributions,
    neuron_contributions,
    promoted_tokens,
)
from workbench.models.components import Component
from workbench.models.text import encode

PROMPT, TARGET, FOIL = PROMPTS[0], " tennis", " golf"


def capture(model, path: str, prompt: str = PROMPT) -> tuple[torch.Tensor, torch.Tensor]:
    """Input and output of one module of the plain Hugging Face model."""
    kept = []
    module = model.hf.get_submodule(path)
    handle = module.register_forward_hook(lambda m, args, out: kept.append((args[0], out)))
    try:
        with torch.no_grad():
            model.hf(input_ids=torch.tensor([encode(model, prompt)]), use_cache=False)
    finally:
        handle.remove()
    return kept[0]


def logits(model, prompt: str = PROMPT) -> torch.Tensor:
    with torch.no_grad():
        out = model.hf(input_ids=torch.tensor([encode(model, prompt)])).logits[0].double()
    cap = getattr(model.config, "final_logit_softcapping", None)
    return torch.atanh(out / cap) * cap if cap else out


def test_patterns_equal_transformers_eager_attention(family_model):
    hf = family_model.fork().hf
    hf.set_attn_implementation("eager")
    ids = torch.tensor([encode(family_model, PROMPT)])
    with torch.no_grad():
        out = hf(input_ids=ids, output_attentions=True, use_cache=False)
    found = attention_patterns(family_model, PROMPT)
    assert len(found.tokens) == ids.shape[1]
    assert "".join(found.tokens) == PROMPT
    torch.testing.assert_close(found.pattern, torch.cat(out.attentions), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.pattern.sum(-1), torch.ones(3, 4, ids.shape[1]))


@pytest.mark.parametrize("foil", [None, FOIL])
@pytest.mark.parametrize("position", [4, -1])
def test_contributions_sum_to_the_logit_difference(family_model, position, foil):
    found = head_contributions(family_model, PROMPT, position, TARGET, foil)
    own = logits(family_model)[position]
    target = continuation(family_model, PROMPT, TARGET)[0]
    against = own.mean() if foil is None else own[continuation(family_model, PROMPT, FOIL)[0]]
    assert found.whole == pytest.approx(float(own[target] - against), rel=1e-3, abs=1e-3)
    assert found.position == position % len(found.tokens)


def test_heads_and_bias_sum_to_the_attention(family_model):
    """The bias's share is that of the very parameter, read through the same norms."""
    found = head_contributions(family_model, PROMPT, -1, TARGET, FOIL)
    structure = family_model.structure
    for layer in range(3):
        bias = structure.layers[layer].attn_out.bias
        if bias is None:
            assert float(found.biases[layer]) == pytest.approx(0, abs=1e-4)
            continue
        vector = linear_reading(family_model)
        expected = float(family_model.parameters[bias].double() @ vector)
        assert float(found.biases[layer]) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def linear_reading(model, position: int = -1) -> torch.Tensor:
    """Gradient of the logit difference by the last stream, the norm's scale held constant."""
    norm = model.hf.get_submodule(model.structure.final_norm)
    stream, _ = capture(model, model.structure.final_norm)
    x = stream[0, position].double()
    centred = x - x.mean() if isinstance(norm, torch.nn.LayerNorm) else x
    eps = getattr(norm, "eps", None) or getattr(norm, "variance_epsilon", 1e-6)
    scale = (centred.pow(2).mean() + eps).sqrt()
    gain = norm.weight.double() + (1 if type(norm).__name__.startswith("Gemma") else 0)
    target, foil = (continuation(model, PROMPT, t)[0] for t in (TARGET, FOIL))
    weight = model.hf.get_output_embeddings().weight.double()
    pulled = (weight[target] - weight[foil]) * gain
    pulled = pulled - pulled.mean() if isinstance(norm, torch.nn.LayerNorm) else pulled
    return pulled / scale


@pytest.mark.parametrize("layer", [0, 2])
def test_heads_equal_their_slices_of_the_output_matrix(family_model, layer):
    """By hand: zero all other heads' inputs of the output matrix and take its output apart."""
    found = head_contributions(family_model, PROMPT, -1, TARGET, FOIL)
    writer = family_model.structure.writer(Component(layer, "attn"))
    weight = family_model.parameters[writer.parameter].double()
    weight = weight if writer.transposed else weight.T
    z, y = capture(family_model, writer.module)
    gain = torch.ones(32, dtype=torch.float64)
    if writer.post_norm:
        norm = family_model.hf.get_submodule(writer.post_norm)
        gain = (1 + norm.weight.double()) / (y[0, -1].double().pow(2).mean() + norm.eps).sqrt()
    for head in range(4):
        own = slice(head * 8, head * 8 + 8)
        out = (z[0, -1, own].double() @ weight[own]) * gain
        expected = float(out @ linear_reading(family_model))
        assert float(found.heads[layer, head]) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_neurons_sum_to_their_mlp(family_model):
    heads = head_contributions(family_model, PROMPT, -1, TARGET, FOIL)
    structure = family_model.structure
    for layer in range(3):
        found = neuron_contributions(family_model, PROMPT, layer, -1, TARGET, FOIL, k=5)
        assert found.whole == pytest.approx(float(heads.mlps[layer]), rel=1e-4, abs=1e-5)
        bias = structure.layers[layer].mlp_out.bias
        vector = linear_reading(family_model)
        share = float(family_model.parameters[bias].double() @ vector) if bias else 0.0
        assert found.bias == pytest.approx(share, rel=1e-3, abs=1e-4)
        activations, _ = capture(family_model, structure.writer(Component(layer, "mlp")).module)
        torch.testing.assert_close(found.activations, activations[0, -1], rtol=1e-4, atol=1e-5)
        order = found.values.abs().argsort(descending=True)[:5].tolist()
        assert list(found.top) == order and len(found.values) == structure.d_mlp


@pytest.mark.parametrize("component", ["mlp.1", "attn.2", "head.1.2", "neuron.0.7"])
def test_promoted_tokens_agree_with_the_contributions(family_model, component):
    """The difference of two tokens' logits is the direct attribution with one as the foil."""
    found = promoted_tokens(family_model, PROMPT, component, k=384)
    raised = {t: float(v) for t, v in zip(found.top, found.raised, strict=True)}
    part = found.component.split(".")
    target, foil = (
        family_model.tokenizer.decode([continuation(family_model, PROMPT, t)[0]])
        for t in (TARGET, FOIL)
    )
    heads = head_contributions(family_model, PROMPT, -1, TARGET, FOIL)
    layer = int(part[1])
    expected = {
        "mlp": lambda: heads.mlps[layer],
        "attn": lambda: heads.heads[layer].sum() + heads.biases[layer],
        "head": lambda: heads.heads[layer, int(part[2])],
        "neuron": lambda: neuron_contributions(
            family_model, PROMPT, layer, -1, TARGET, FOIL
        ).values[int(part[2])],
    }[part[0]]()
    assert raised[target] - raised[foil] == pytest.approx(float(expected), rel=1e-3, abs=1e-4)
    assert float(found.raised.sum()) == pytest.approx(0, abs=1e-2)
    assert found.bottom[0] == found.top[-1] and float(found.lowered[0]) <= 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: attention_patterns(m, ""), "empty"),
        (lambda m: head_contributions(m, PROMPT, 99, TARGET), "no token 99"),
        (lambda m: head_contributions(m, PROMPT, 0, TARGET, TARGET), "same token"),
        (lambda m: neuron_contributions(m, PROMPT, 7, -1, TARGET), "out of range"),
        (lambda m: neuron_contributions(m, PROMPT, 0, -1, TARGET, k=0), "at least one"),
        (lambda m: promoted_tokens(m, PROMPT, "mlp.0-1"), "single one"),
        (lambda m: promoted_tokens(m, PROMPT, "head.0.9"), "out of range"),
        (lambda m: promoted_tokens(m, PROMPT, "heads.0.1"), "did you mean"),
    ],
)
def test_mistakes_get_a_sentence(tiny, call, message):
    with pytest.raises(WorkbenchError, match=message):
        call(tiny)
