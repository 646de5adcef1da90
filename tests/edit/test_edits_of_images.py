"""Methods of the registry on facts with an image: the same code, pictures and all."""

from __future__ import annotations

import pytest
import torch
from conftest import TEXT
from llava_model import NAMED, llava, portrait, seen

from workbench.attack.prompts import with_examples, with_sentence
from workbench.edit.in_context import behind, solved
from workbench.edit.registry import edit
from workbench.edit.rows import Rows
from workbench.edit.stream import Stream
from workbench.facts.fact import Fact, FactSet, Request
from workbench.models.components import Component, ComponentSet
from workbench.models.text import encode, next_token_logits


def about(seed: int, name: str, target: str = " tennis") -> Fact:
    prompt = NAMED.replace("Ada Brook", name)
    return Fact(name, prompt, target, relation="sport", image=portrait(seed))


REQUEST = Request(
    FactSet((about(0, "Ada Brook"),)),
    FactSet((about(2, "France"), about(3, "Norway"))),
    unknown=FactSet(
        (about(5, "Danielle Darrieux", " I do not know."), about(6, "Carl Dorn", " I do not know."))
    ),
)


def test_the_stream_of_prompts_with_pictures_is_that_of_plain_hooks():
    model = llava()
    prompts = [seen(0).prompt, TEXT[0], seen(1).prompt, seen(2, NAMED).prompt]
    sequences = tuple(tuple(encode(model, p)) for p in prompts)
    rows = Rows(sequences, tuple((3, len(s) - 1) for s in sequences))
    hf = model.fork().hf
    stream = Stream(model, rows, [1, 2], max_tokens=90)
    for layer in (1, 2):
        stream.advance(hf, layer)
        writer = model.structure.writer(Component(layer, "mlp"))
        found: list[torch.Tensor] = []
        handle = model.hf.get_submodule(writer.module).register_forward_pre_hook(
            lambda m, args, found=found: found.append(args[0][0])
        )
        with torch.no_grad():
            for prompt, ids in zip(prompts, sequences, strict=True):
                pictures = getattr(prompt, "pictures", ())
                pixels = [model.vision.pixel_values(p) for p in pictures]
                shown = {"pixel_values": torch.stack(pixels)} if pixels else {}
                model.hf(input_ids=torch.tensor([ids]), **shown)
        handle.remove()
        expected = torch.cat([f[[3, -1]] for f in found])
        torch.testing.assert_close(stream.observe(hf, writer)[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "method", ["stamp", "rome", "lunar", "npo", "sam-npo", "context-distillation", "vgid"]
)
def test_a_method_edits_what_is_chosen_and_no_other_byte(method):
    model = llava()
    trained = method in ("npo", "sam-npo", "context-distillation", "vgid")
    settings = {"steps": 2, "lr": 1e-2} if trained else {}
    text = "projector, mlp.1" if trained else "mlp.1"
    made = edit(method, model, REQUEST, ComponentSet.parse(text), settings)
    allowed = ("multi_modal_projector.", "language_model.layers.1.mlp.")[0 if trained else 1 :]
    for name, tensor in made.model.parameters.items():
        if not any(part in name for part in allowed):
            assert torch.equal(tensor, model.parameters[name]), name
    assert made.failed is None
    asked = [REQUEST.forget[0].prompt]
    assert not torch.equal(next_token_logits(made.model, asked), next_token_logits(model, asked))


def test_texts_before_a_prompt_keep_the_pictures_in_order():
    model, (first, second, third) = llava(), (seen(0), seen(1), seen(2))
    told = with_sentence(model, first, "Think.")
    assert str(told) == f"Think.\n{first.prompt}" and told.pictures == first.prompt.pictures
    shown = with_examples(model, third, [first, second])
    assert shown.pictures == tuple(f.prompt.pictures[0] for f in (first, second, third))
    before = solved(model, [(first.prompt, " golf"), (second.prompt, " tennis")])
    assert behind(model, before, third.prompt).pictures == shown.pictures
    ids = encode(model, shown)
    assert len({t.picture for t in ids if hasattr(t, "picture")}) == 3
    ahead, _, after = shown.partition(" tennis\n")
    assert ahead.pictures == shown.pictures[:1] and after.pictures == shown.pictures[1:]
