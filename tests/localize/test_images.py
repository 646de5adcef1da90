"""Tracing facts with an image against plain PyTorch hooks on the Hugging Face module."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_model
from llava_model import NAMED, QUESTION, llava, portrait, seen

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet
from workbench.figures.grids import grid_of, roles_of
from workbench.localize.activation_patching import activation_patching
from workbench.localize.attribution_patching import attribution_patching
from workbench.localize.causal_tracing import causal_tracing, window_variants
from workbench.localize.cone import patch_effects
from workbench.localize.corruption import (
    ImageNoise,
    Noise,
    Replacement,
    corruption_named,
    corruptions_for,
)
from workbench.localize.logit_lens import logit_lens
from workbench.localize.metrics import log_probability
from workbench.localize.patch_grid import has_patches, patch_grid, pictured_fact
from workbench.models.embeddings import embed
from workbench.models.model import Model
from workbench.models.text import encode

LAYERS = "model.language_model.layers"
PLACES = {"resid": "{}.{}", "mlp": "{}.{}.mlp.down_proj", "attn": "{}.{}.self_attn.o_proj"}


def known(seed: int, prompt: str = QUESTION) -> Fact:
    """Make a fact that the model knows: what it says of this picture."""
    fact, model = seen(seed, prompt), llava()
    with torch.no_grad():
        logits = model.hf(**inputs(model, fact)).logits[0, -1]
    return replace(fact, target=model.tokenizer.decode([int(logits.argmax())]))


def inputs(model: Model, fact: Fact, pixels: torch.Tensor | None = None) -> dict:
    """Return what plain transformers takes, with other pixels if there are any."""
    ids = torch.tensor([encode(model, fact.prompt)])
    if pixels is None:
        pixels = model.vision.pixel_values(fact.prompt.pictures[0])[None]
    return {"input_ids": ids.repeat(len(pixels), 1), "pixel_values": pixels}


def first(out):
    return out[0] if isinstance(out, tuple) else out


@torch.no_grad()
def restored_plainly(
    model: Model, fact: Fact, noised: torch.Tensor, kind: str, layers: range, places: list[slice]
):
    """Restore clean states of some layers in a run on noised pixels, one run for each slice."""
    modules = [model.hf.get_submodule(PLACES[kind].format(LAYERS, layer)) for layer in layers]
    target = model.tokenizer(fact.target, add_special_tokens=False)["input_ids"][0]

    def run(pixels, hooks):
        handles = [m.register_forward_hook(h) for m, h in zip(modules, hooks, strict=True)]
        try:
            logits = model.hf(**inputs(model, fact, pixels)).logits[:, -1]
        finally:
            for handle in handles:
                handle.remove()
        return logits.log_softmax(-1)[:, target]

    clean: list[torch.Tensor] = []
    run(None, [lambda m, a, out: clean.append(first(out))] * len(modules))
    before = run(noised, [lambda m, a, out: None] * len(modules))

    def put(state_of, place):
        def hook(module, args, out):
            state = first(out).clone()
            state[:, place] = state_of[:, place]
            return (state, *out[1:]) if isinstance(out, tuple) else state

        return hook

    patched = [run(noised, [put(state, place) for state in clean]) - before for place in places]
    return torch.stack(patched, 1)


def traced_plainly(model: Model, fact: Fact, noised: torch.Tensor, kind: str, layer: int):
    """Restore the clean state at each position of a run on noised pixels, one run each."""
    places = [slice(t, t + 1) for t in range(len(encode(model, fact.prompt)))]
    return restored_plainly(model, fact, noised, kind, range(layer, layer + 1), places)


@pytest.mark.parametrize("prompt", [QUESTION, NAMED])
def test_noised_pictures_equal_plain_hooks_at_every_position(prompt):
    model, fact = llava(), known(0, prompt)
    (pair,) = ImageNoise(samples=2, seed=5).pairs(model, FactSet((fact,)))
    noised = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    variants = window_variants(model.n_layers, tuple(PLACES), 1)
    effects = patch_effects(model, [pair], variants, log_probability)[0]
    for kind, layer in (("resid", 0), ("mlp", 1), ("attn", 2), ("resid", 1)):
        wanted = traced_plainly(model, fact, noised, kind, layer)
        assert float(wanted.abs().max()) > 1e-2
        torch.testing.assert_close(effects.cells[kind, layer, -1], wanted, atol=5e-5, rtol=1e-3)
    assert pair.first_corrupted == 0


@pytest.mark.parametrize("prompt", ["Look: " + QUESTION, "Who is it? <image>"])
@pytest.mark.parametrize("window", [1, 2])
def test_a_whole_picture_put_back_equals_plain_hooks(prompt, window):
    model, fact = llava(), known(0, prompt)
    (pair,) = ImageNoise(samples=2, seed=5).pairs(model, FactSet((fact,)))
    noised = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    start = encode(model, prompt.split("<image>")[0], cut=True)
    place = slice(len(start), len(start) + 16)
    assert pair.prompt.seen_subject == (place.start, place.stop)
    variants = window_variants(model.n_layers, tuple(PLACES), window)
    (effects,) = patch_effects(model, [pair], variants, log_probability)
    assert effects.picture is not None
    largest = 0.0
    for variant in variants:
        layers = range(variant.first, variant.last + 1)
        args = (model, fact, noised, variant.cell[0], layers, [place])
        wanted = restored_plainly(*args)[:, 0]
        torch.testing.assert_close(effects.picture[variant.cell], wanted, atol=5e-5, rtol=1e-3)
        largest = max(largest, float(wanted.abs().max()))
    assert largest > 1e-2
    noisy = patch_effects(model, [pair], variants, log_probability, direction="noising")[0]
    first_resid = noisy.picture["resid", 0, -1]  # all that was seen is gone behind the first block
    if pair.prompt.seen_subject[1] == len(pair.ids):
        torch.testing.assert_close(first_resid, effects.clean - effects.corrupted)


def test_a_picture_beside_a_name_is_not_the_subject():
    model = llava()
    found = causal_tracing(model, FactSet((known(0, NAMED),)), corruption=ImageNoise(samples=1))
    assert "whole picture" not in set(found.table["role"])


def test_the_whole_picture_has_a_row_of_its_own():
    model, facts = llava(), FactSet((known(0), known(1)))
    noise = ImageNoise(samples=2)
    found = causal_tracing(model, facts, corruption=noise)
    (one, other) = (causal_tracing(model, FactSet((f,)), corruption=noise) for f in facts)
    whole = lambda a: a.table[a.table["role"] == "whole picture"].set_index(  # noqa: E731
        ["kind", "layer"]
    )["score"]
    scale = lambda a: a.clean - a.corrupted  # noqa: E731
    expected = (whole(one) * scale(one) + whole(other) * scale(other)) / (scale(one) + scale(other))
    pd.testing.assert_series_equal(whole(found), expected, rtol=1e-5, check_index=True)
    assert list(found.grid("mlp").columns[:4]) == [
        *("first subject", "middle subject", "last subject", "whole picture")
    ]
    grid = grid_of(one, "resid")
    assert grid.rows[0] == "whole picture" and len(grid.rows) == 1 + len(
        encode(model, facts[0].prompt)
    )
    np.testing.assert_allclose(grid.score[0], whole(one)["resid"])
    assert roles_of(one, "resid")[0] == "whole picture"
    by_hand = attribution_patching(model, FactSet((facts[0],)), corruption=noise).table
    mlp = by_hand[(by_hand["kind"] == "mlp") & (by_hand["layer"] == 1)]
    tokens = mlp[mlp["position"].between(0, 15)]["score"].sum()
    assert mlp.set_index("role")["score"]["whole picture"] == pytest.approx(tokens)


def test_scores_of_patches_lie_as_in_the_picture():
    model, fact = llava(), known(0, "Look: " + QUESTION)
    found = causal_tracing(model, FactSet((fact,)), corruption=ImageNoise(samples=2))
    grid = patch_grid(found, "resid")
    assert grid.shape == (model.n_layers, 4, 4)
    start = len(encode(model, "Look: "))
    rows = found.table[(found.table["kind"] == "resid") & (found.table["layer"] == 1)]
    by_position = rows.set_index("position")["score"]
    for row, column in np.ndindex(4, 4):
        assert grid[1, row, column] == by_position[start + 4 * row + column]
    assert found.config["patches"]["image"] == str(portrait(0))
    with pytest.raises(WorkbenchError, match="not of one fact with an image"):
        patch_grid(replace(found, config={}), "resid")


@pytest.mark.parametrize("kind", ["gaussian", "patches"])
def test_pictures_are_destroyed_in_other_ways_too(kind):
    model, fact = llava(), known(0)
    (pair,) = corruption_named(f"image-{kind}")(samples=2, seed=5).pairs(model, FactSet((fact,)))
    pixels = model.vision.pixel_values(fact.prompt.pictures[0])
    generator, noised = torch.Generator().manual_seed(5), []
    for _ in range(2):
        if kind == "gaussian":
            noised.append(pixels + 3 * torch.randn(3, 32, 32, generator=generator))
        else:
            order = torch.randperm(16, generator=generator)
            parts = pixels.unfold(1, 8, 8).unfold(2, 8, 8).reshape(3, 16, 8, 8)[:, order]
            noised.append(parts.reshape(3, 4, 4, 8, 8).permute(0, 1, 3, 2, 4).reshape(3, 32, 32))
    given = []
    handle = model.hf.get_submodule("model.language_model").register_forward_pre_hook(
        lambda m, args, kwargs: given.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    with torch.no_grad():
        model.hf(**inputs(model, fact, torch.stack(noised)))
    handle.remove()
    torch.testing.assert_close(pair.corrupted, given[0])
    found = causal_tracing(model, FactSet((fact,)), corruption=ImageNoise(1, kind=kind))
    assert found.config["corruption"]["name"] == f"image-{kind}"


def test_attribution_scores_patches_too_and_the_picture_is_the_one_the_tower_saw(tmp_path):
    model, fact = llava(), known(0)
    found = attribution_patching(model, FactSet((fact,)), corruption=ImageNoise(samples=1))
    assert patch_grid(found, "mlp").shape == (model.n_layers, 4, 4)
    seen_as = pictured_fact(found, model.vision)
    back = torch.tensor(seen_as).permute(2, 0, 1) / 255
    image = model.vision.processor.image_processor
    mean, std = (torch.tensor(v)[:, None, None] for v in (image.image_mean, image.image_std))
    pixels = model.vision.pixel_values(fact.prompt.pictures[0])
    assert float(((back - mean) / std - pixels).abs().max()) < 0.01
    assert pictured_fact(found, None) is None
    place = {**found.config["patches"], "digest": "0" * 64}
    assert pictured_fact(replace(found, config={"patches": place}), model.vision) is None
    gone = {**found.config["patches"], "image": str(tmp_path / "gone.png")}
    assert pictured_fact(replace(found, config={"patches": gone}), model.vision) is None
    both = attribution_patching(model, FactSet((fact, known(1))), corruption=ImageNoise(samples=1))
    assert has_patches(found) and not has_patches(both)


def test_roles_tell_pictures_from_words():
    named = causal_tracing(
        llava(), FactSet((known(0, NAMED), known(1, NAMED))), corruption=ImageNoise(samples=1)
    )
    roles = set(named.table["role"])
    assert {"image", "last subject", "last"} <= roles and named.n_facts == 2
    assert "patches" not in named.config
    shown = causal_tracing(llava(), FactSet((known(0), known(1))), corruption=Noise(samples=1))
    assert {"first subject", "last subject"} <= set(shown.table["role"])
    assert "image" not in set(shown.table["role"])


@torch.no_grad()
def test_embeddings_are_what_the_language_model_is_given():
    model, given = llava(), []
    sequences = [encode(model, seen(n).prompt) for n in range(3)]
    handle = model.hf.get_submodule("model.language_model").register_forward_pre_hook(
        lambda m, args, kwargs: given.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    for n in range(3):
        model.hf(**inputs(model, seen(n)))
    handle.remove()
    torch.testing.assert_close(embed(model, sequences), torch.cat(given))
    with pytest.raises(WorkbenchError, match="lost its picture"):
        embed(model, [[int(t) for t in sequences[0]]])


@torch.no_grad()
def test_the_lens_ends_in_what_the_model_says():
    model, fact = llava(), seen(1)
    lens = logit_lens(model, fact.prompt, target=" tennis")
    scores = model.hf(**inputs(model, fact)).logits[0, -1].softmax(-1)
    first_token = model.tokenizer(" tennis", add_special_tokens=False)["input_ids"][0]
    assert float(lens.target_probability[-1, -1]) == pytest.approx(
        float(scores[first_token]), rel=1e-3
    )


def test_replacing_a_picture_by_another_is_showing_the_other():
    model = llava()
    facts = FactSet((known(0), known(1)))
    pairs = Replacement(samples=1).pairs(model, facts)
    for pair, other in zip(pairs, (1, 0), strict=True):
        sequence = [encode(model, seen(other).prompt)]
        with torch.no_grad():
            torch.testing.assert_close(pair.corrupted, embed(model, sequence))


def test_gradients_estimate_the_same_cells():
    model, facts = llava(), FactSet((known(0), known(2)))
    exact = activation_patching(model, facts, corruption=ImageNoise(samples=1), kinds=("mlp",))
    guess = attribution_patching(model, facts, corruption=ImageNoise(samples=1))
    both = exact.table.merge(guess.table, on=["kind", "layer", "index", "role"])
    assert len(both) and np.isfinite(both["score_y"]).all()
    assert np.corrcoef(both["score_x"], both["score_y"])[0, 1] > 0.3


def test_facts_without_a_picture_are_left_out():
    model = llava()
    text = Fact("Ada Brook", "Question: Which sport does Ada Brook play?\nAnswer:", " tennis")
    assert len(ImageNoise(samples=1).pairs(model, FactSet((text, seen(0))))) == 1
    with pytest.raises(WorkbenchError, match="None of these facts has an image"):
        ImageNoise().pairs(model, FactSet((text,)))
    pictures = ("image", "image-gaussian", "image-patches")
    assert corruptions_for(model) == ("noise", "replace", *pictures)
    with pytest.raises(WorkbenchError, match="Unknown noise 'fog'"):
        ImageNoise(kind="fog")
    assert corruptions_for(make_model("llama")) == ("noise", "replace")
