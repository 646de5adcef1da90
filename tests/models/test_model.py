"""A model is a value: edits never reach the base."""

import hashlib

import pytest
import torch
from conftest import make_model

from workbench.errors import WorkbenchError
from workbench.models.components import Structure
from workbench.models.delta import Dense, LowRank, Origin, WeightDelta
from workbench.models.model import Model, tensor_bytes

ORIGIN = Origin("test", components="mlp.1")
DOWN = "model.layers.1.mlp.down_proj.weight"


def hashes(model: Model) -> dict[str, str]:
    return {n: hashlib.sha256(tensor_bytes(p)).hexdigest() for n, p in model.parameters.items()}


def random_delta(model: Model, name: str = DOWN, seed: int = 0) -> WeightDelta:
    generator = torch.Generator().manual_seed(seed)
    shape = model.parameters[name].shape
    return WeightDelta({name: Dense(torch.randn(shape, generator=generator))}, ORIGIN)


def logits(model: Model) -> torch.Tensor:
    with torch.no_grad():
        return model.hf(input_ids=torch.tensor([[5, 6, 7, 8]])).logits


def test_base_is_untouched_and_the_rest_is_shared(family_model):
    name = next(n for n, p in family_model.parameters.items() if ".1." in n and p.ndim == 2)
    before, answers = hashes(family_model), logits(family_model)
    edited = family_model.with_delta(random_delta(family_model, name))
    assert not torch.equal(logits(edited), answers)
    assert hashes(family_model) == before
    assert torch.equal(logits(family_model), answers)
    changed = [n for n, h in hashes(edited).items() if h != before[n]]
    assert changed == [name]
    for other, tensor in edited.parameters.items():
        shared = tensor.data_ptr() == family_model.parameters[other].data_ptr()
        assert shared == (other != name)


def test_edit_is_base_plus_update(tiny):
    delta = random_delta(tiny)
    edited = tiny.with_delta(delta)
    assert torch.equal(edited.parameters[DOWN], tiny.parameters[DOWN] + delta.updates[DOWN].dense())
    assert edited.deltas == (delta,) and tiny.deltas == ()
    assert edited.fingerprint != tiny.fingerprint


def test_stacked_edits_are_their_sum(tiny):
    a, b = random_delta(tiny, seed=1), random_delta(tiny, seed=2)
    torch.testing.assert_close(
        logits(tiny.with_delta(a).with_delta(b)), logits(tiny.with_delta(a + b))
    )
    there_and_back = tiny.with_delta(a).with_delta(a * -1.0)
    torch.testing.assert_close(there_and_back.parameters[DOWN], tiny.parameters[DOWN])


def test_tied_embeddings_stay_tied(tiny):
    name = "model.embed_tokens.weight"
    edited = tiny.with_delta(random_delta(tiny, name))
    assert edited.hf.lm_head.weight is edited.hf.model.embed_tokens.weight
    assert tiny.hf.lm_head.weight is tiny.hf.model.embed_tokens.weight
    assert edited.hf.lm_head.weight is not tiny.hf.lm_head.weight


def test_fork_shares_parameters_but_no_modules(tiny):
    fork = tiny.fork()
    assert fork.hf is not tiny.hf
    assert all(fork.parameters[n] is p for n, p in tiny.parameters.items())


def test_fork_has_the_fingerprint_of_its_parameters():
    model = make_model("gpt2")
    before, known = model.fork(), model.fingerprint
    assert before.fingerprint == known == model.fork().fingerprint


def test_copies_have_the_structure_of_their_model(family_model):
    """It is read off the bridge once; a copy that reads it by itself finds the same."""
    structure = family_model.structure
    name = structure.layers[1].mlp_out.weight
    for copy in (family_model.fork(), family_model.with_delta(random_delta(family_model, name))):
        assert copy.structure is structure
        assert Structure.of(copy.hf, copy.bridge) == structure


def test_fingerprint_depends_on_every_parameter():
    assert make_model("gpt2").fingerprint == make_model("gpt2").fingerprint
    assert make_model("gpt2").fingerprint != make_model("gpt2", seed=1).fingerprint


def test_half_precision_edits_keep_their_type():
    model = make_model("qwen2")
    half = Model(model.hf.to(torch.bfloat16), model.tokenizer, "half")
    left, right = torch.randn(32, 2), torch.randn(2, 48)
    edited = half.with_delta(WeightDelta({DOWN: LowRank(left, right)}, ORIGIN))
    assert edited.parameters[DOWN].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("update", "sentence"),
    [
        ({"no.such.weight": Dense(torch.zeros(2))}, "does not have"),
        ({DOWN: Dense(torch.zeros(3, 3))}, r"has shape \(3, 3\)"),
        ({DOWN: Dense(torch.full((32, 48), float("nan")))}, "infinite or NaN"),
        ({DOWN: Dense(torch.full((32, 48), float("inf")))}, "infinite or NaN"),
    ],
)
def test_impossible_edits_are_refused(tiny, update, sentence):
    before = hashes(tiny)
    with pytest.raises(WorkbenchError, match=sentence):
        tiny.with_delta(WeightDelta(update, ORIGIN))
    assert hashes(tiny) == before
