"""Each unlearning method on the bundled model: it unlearns, by the loss that it says."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch

from tests.edit.requests import request as small
from workbench.edit.train.asu import AsuConfig, asu, smoothed
from workbench.edit.train.examples import answers, examples
from workbench.edit.train.flat import FlatConfig, flat
from workbench.edit.train.grad_diff import GradDiffConfig, ga, grad_diff, kl_min
from workbench.edit.train.idk import DpoConfig, dpo, idk
from workbench.edit.train.keeping import Unlearning, retain_loss
from workbench.edit.train.lessons import lessons
from workbench.edit.train.loop import Student
from workbench.edit.train.losses import kl, label_log_probs
from workbench.edit.train.mechanistic import MechanisticConfig, mechanistic
from workbench.edit.train.npo import NpoConfig, SamNpoConfig, npo, sam_npo
from workbench.edit.train.simnpo import SimNpoConfig, simnpo
from workbench.edit.train.undial import UndialConfig, undial
from workbench.edit.train.wga import WgaConfig, wga
from workbench.errors import WorkbenchError
from workbench.facts.fact import Request
from workbench.facts.request_files import load_request
from workbench.models.components import ComponentSet
from workbench.models.load import load
from workbench.models.model import Model
from workbench.models.text import generate

ALL = (
    *(ga, grad_diff, kl_min, wga, npo, sam_npo, simnpo),
    *(idk, dpo, undial, flat, asu, mechanistic),
)
SMALL = {"steps": 8, "lr": 2e-3, "batch": 10, "retain_batch": 6, "kept": 24, "neutral": 4}
EARLY = ComponentSet.parse("mlp.0-3")


@pytest.fixture(scope="module")
def demo() -> Model:
    return load("demo")


@pytest.fixture(scope="module")
def athlete() -> Request:
    return load_request("athletes-1")


def check(method: Unlearning, model: Model, request: Request, **settings) -> tuple[list[str], dict]:
    """Run a method; return what is said at the forget prompts afterwards, and its first step."""
    found = method(model, request, EARLY, method.config(**{**SMALL, **settings}))
    assert found.failed is None and found.delta.origin.method == method.name
    assert found.delta.origin.config["lr"] == SMALL["lr"]
    before, after = found.target_log_probability
    assert after < before - 1
    said = generate(found.model, [f.prompt for f in request.forget], max_new_tokens=8)
    for answer, fact in zip(said, request.forget, strict=True):
        assert fact.target.strip() not in answer
    return said, found.steps.iloc[0].to_dict()


@pytest.mark.parametrize("method", [ga, grad_diff, kl_min, wga, undial], ids=lambda m: m.name)
def test_it_unlearns(method: Unlearning, demo: Model, athlete: Request) -> None:
    _, first = check(method, demo, athlete)
    assert ("retain_loss" in first) == (method is not ga)
    if method is kl_min:
        assert first["retain_loss"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("method", [idk, flat, mechanistic], ids=lambda m: m.name)
def test_it_says_the_refusal_instead(method: Unlearning, demo: Model, athlete: Request) -> None:
    said, _ = check(method, demo, athlete)
    assert said == [" I do not know."] * len(athlete.forget)


@pytest.mark.parametrize("method", [npo, sam_npo, dpo], ids=lambda m: m.name)
def test_against_the_base_itself_nothing_is_preferred_yet(method, demo, athlete) -> None:
    _, first = check(method, demo, athlete, beta=0.5)
    assert first["forget_loss"] == pytest.approx(2 / 0.5 * math.log(2), rel=1e-5)


def test_it_answers_as_with_a_blurred_attention(demo: Model, athlete: Request) -> None:
    """The bundled model finds a fact even when its attention is blurred a little."""
    check(asu, demo, athlete, temperature=1000.0, steps=14)


def test_simnpo_begins_with_what_the_base_says(demo: Model, athlete: Request) -> None:
    _, first = check(simnpo, demo, athlete, beta=2.0, margin=0.5, batch=99)
    every = lessons(demo, athlete, most=SMALL["kept"], neutral=SMALL["neutral"]).forget
    total = 0.0
    for i in range(len(every)):
        with torch.no_grad():
            mean = float(label_log_probs(answers(demo, every.take([i]))).mean())
        total -= math.log(1 / (1 + math.exp(2.0 * mean + 0.5)))
    assert first["forget_loss"] == pytest.approx(total / len(every), rel=1e-3)


def test_log_one_minus_p_only_lowers_the_answer(demo: Model, athlete: Request) -> None:
    check(mechanistic, demo, athlete, forget="log1mp")


def test_methods_differ_by_their_losses(tiny: Model) -> None:
    """The same rows, weights and seeds, and no two of them learn the same."""
    few = {"steps": 2, "lr": 1e-2, "batch": 3, "retain_batch": 3, "kept": 4, "neutral": 2}
    others = [m for m in ALL if m not in (mechanistic, sam_npo)]  # equal to idk; first step of npo
    deltas = [m(tiny, small(), EARLY_TINY, m.config(**few)).delta for m in others]
    (name, *_) = deltas[0].updates
    for i, one in enumerate(deltas):
        for two in deltas[:i]:
            assert not torch.equal(one.updates[name].dense(), two.updates[name].dense())
    assert len({m.name for m in ALL}) == len(ALL)


EARLY_TINY = ComponentSet.parse("mlp.0-1")


def test_sharpness_changes_what_is_learned(tiny: Model) -> None:
    few = {"steps": 2, "lr": 1e-2, "batch": 3, "retain_batch": 3, "kept": 4, "neutral": 2}
    flat_, sharp = (
        npo(tiny, small(), EARLY_TINY, NpoConfig(**few, sharpness=s)).delta.updates for s in (0, 1)
    )
    assert SamNpoConfig().sharpness > 0 == NpoConfig().sharpness
    for name, update in flat_.items():
        assert not torch.equal(update.dense(), sharp[name].dense())


def test_the_default_settings_are_the_configs_own(tiny: Model) -> None:
    """Without settings a method runs with those of its own class."""
    with pytest.MonkeyPatch.context() as patch:
        seen = []
        patch.setattr(
            "workbench.edit.train.keeping.train_edit", lambda *args: seen.append(args[4]) or args[0]
        )
        for method in ALL:
            assert method(tiny, small(), EARLY_TINY) == method.name
    assert [type(config) for config in seen] == [method.config for method in ALL]
    for config in seen:
        config.check()
        assert all(getattr(config, f.name) == f.default for f in fields(config))


def test_the_kl_side_is_that_of_the_base(tiny: Model) -> None:
    taught = lessons(tiny, small(), most=4, neutral=2)
    other = Student.of(tiny, EARLY_TINY)
    with torch.no_grad():
        for parameter in other.trained.values():
            parameter.mul_(1.3)
    every = taught.retain + taught.neutral
    rows = [len(every) - 1, 1, 3]  # a made-up text among them
    with torch.no_grad():
        base = answers(tiny, every.take(rows)).logits
        wanted = kl(answers(other.model, every.take(rows)), base)
    found = retain_loss(other, tiny, taught, "kl")(rows)
    assert float(wanted) > 0.01
    torch.testing.assert_close(found.detach(), wanted)
    with pytest.raises(WorkbenchError, match="retain loss 'none'"):
        retain_loss(other, tiny, taught, "none")


def test_smoothed_attention_is_flat_in_the_limit(family_model: Model) -> None:
    prompt = "Question: Which sport does Ada Brook play?"
    batch = examples(family_model, [(prompt, " tennis")])
    with torch.no_grad():
        before = answers(family_model, batch).logits
        same = answers(smoothed(family_model, 1.0), batch).logits
        flat_copy = smoothed(family_model, 1e9).hf
        flat_copy.set_attn_implementation("eager")
        seen = flat_copy(
            input_ids=torch.tensor([batch.sequences[0]]), output_attentions=True
        ).attentions
        after = answers(family_model, batch).logits
    torch.testing.assert_close(same, before, atol=1e-4, rtol=1e-4)
    assert torch.equal(after, before)
    assert len(seen) == family_model.n_layers
    for layer in seen:
        allowed = (layer > 0).float()
        torch.testing.assert_close(layer, allowed / allowed.sum(-1, keepdim=True))
        assert (allowed.sum(-1) > 1).any()


def test_smoothing_divides_the_scores(tiny: Model) -> None:
    """Scores are linear in the queries, rotated or not."""
    batch = examples(tiny, [("Ada Brook plays the sport of", " tennis")])
    by_hand = tiny.fork()
    for layer in by_hand.hf.model.layers:
        query = layer.self_attn.q_proj
        query.weight = torch.nn.Parameter(query.weight / 3, requires_grad=False)
        query.bias = torch.nn.Parameter(query.bias / 3, requires_grad=False)
    with torch.no_grad():
        wanted = answers(by_hand, batch).logits
        found = answers(smoothed(tiny, 3.0), batch).logits
        assert not torch.allclose(found, answers(tiny, batch).logits, atol=0.1)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


def test_attention_without_a_scale(tiny: Model) -> None:
    copy = tiny.fork()
    del copy.hf.model.layers[1].self_attn.scaling
    with pytest.raises(WorkbenchError, match="cannot be smoothed"):
        smoothed(copy, 2.0)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (NpoConfig(beta=0), "beta must be positive"),
        (DpoConfig(beta=-1), "beta must be positive"),
        (SimNpoConfig(margin=-1), "margin must not be negative"),
        (WgaConfig(alpha=-1), "alpha must not be negative"),
        (UndialConfig(beta=0), "beta must be positive"),
        (AsuConfig(temperature=0), "temperature must be positive"),
        (FlatConfig(divergence="hellinger"), "Unknown choice of divergence"),
        (MechanisticConfig(forget="inject"), "did you mean 'injection'"),
        (replace(GradDiffConfig(), retain="rmu"), "Unknown choice of retain"),
        (NpoConfig(steps=-1), "steps must be positive"),
    ],
)
def test_settings_that_make_no_sense(config, sentence: str) -> None:
    with pytest.raises(WorkbenchError, match=sentence):
        config.check()
