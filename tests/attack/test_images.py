"""Attacks on facts with an image: the same code, pictures and all."""

from __future__ import annotations

import pytest
import torch
from llava_model import NAMED, llava, portrait

from workbench.attack.activations import residuals
from workbench.attack.registry import ATTACKS, make_config
from workbench.facts.fact import Fact, FactSet, Request
from workbench.models.text import encode

SETTINGS = {
    "relearn": {"steps": (2,), "lrs": (1e-3,)},
    "soft_prompt": {"steps": (2,), "lrs": (1e-2,), "vectors": 2},
}
NAMES = ("Ada Brook", "Carl Dorn", "France", "Norway", "Paris", "Oslo")


def request() -> Request:
    facts = [
        Fact(
            name,
            NAMED.replace("Ada Brook", name),
            (" tennis", " golf")[i % 2],
            relation="sport",
            choices=("tennis", "golf"),
            image=portrait(i),
        )
        for i, name in enumerate(NAMES)
    ]
    return Request(FactSet(tuple(facts[:4])), FactSet(tuple(facts[4:])))


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"probe"}))
def test_an_attack_asks_every_fact_with_its_picture(name):
    asked = request()
    config = make_config(name, SETTINGS.get(name, {}))
    cells = ATTACKS[name].run(llava(), asked, config, base=llava())
    assert cells
    subjects = {outcome.fact.subject for cell in cells for outcome in cell.outcomes}
    assert subjects <= set(asked.forget.subjects) and subjects


@torch.no_grad()
def test_streams_behind_layers_are_those_of_plain_hooks():
    model, found = llava(), []
    prompts = [fact.prompt for fact in request().forget]
    sequences = [encode(model, p) for p in prompts]
    streams = residuals(model, sequences, [[2, len(s) - 1] for s in sequences])
    block = model.hf.get_submodule("model.language_model.layers.1")
    handle = block.register_forward_hook(
        lambda m, args, out: found.append((out[0] if isinstance(out, tuple) else out)[0, [2, -1]])
    )
    for prompt, ids in zip(prompts, sequences, strict=True):
        pixels = model.vision.pixel_values(prompt.pictures[0])[None]
        model.hf(input_ids=torch.tensor([ids]), pixel_values=pixels)
    handle.remove()
    torch.testing.assert_close(streams[1], torch.stack(found), atol=1e-4, rtol=1e-4)
