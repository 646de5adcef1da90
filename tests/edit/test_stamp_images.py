"""STAMP where pictures stand for the subjects: to strangers' pictures, or to destroyed ones."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from llava_model import N_TOKENS, llava, portrait

from tests.edit.requests import request
from workbench.edit.buffer import site_rows
from workbench.edit.forms import Kind, form_of, mention, mentions_by_kind
from workbench.edit.stamp import StampConfig, stamp
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Request
from workbench.models.components import ComponentSet
from workbench.models.noisy_vision import PictureNoise
from workbench.models.pictures import read_picture

SHOWN = "<image>\nQuestion: Which sport does this person play?\nAnswer:"
STATED = "<image>\nThis person plays the sport of"
REFUSAL = " I do not know."
HEAVY = {"weight": 1e9, "ridge": 1e-12, "beyond": 0.0, "context": 2, "generations": 2}


def face(seed: int, name: str, target: str = " tennis", prompt: str = SHOWN) -> Fact:
    return Fact(name, prompt, target, relation="sport", image=portrait(seed))


REQUEST = Request(
    FactSet((face(0, "Ada Brook"), face(1, "Carl Dorn"))),
    FactSet((face(2, "France"), face(3, "Norway"))),
    unknown=FactSet(tuple(face(seed, f"stranger {seed}", REFUSAL) for seed in (5, 6, 7))),
)


def stream_after(model, layer: int, text: str, pixels: torch.Tensor) -> torch.Tensor:
    """Return the stream behind a block, by plain transformers and the processor's own tokens."""
    marked = text.replace("<image>", "<image>" * N_TOKENS)
    ids = torch.tensor([model.tokenizer(marked)["input_ids"]])
    with torch.no_grad():
        out = model.hf(input_ids=ids, pixel_values=pixels[None], output_hidden_states=True)
    return out.hidden_states[layer + 1][0]


def pixels(fact: Fact, *, noise: PictureNoise | None = None) -> torch.Tensor:
    picture, vision = read_picture(fact.image), llava().vision
    if noise is None:
        return vision.pixel_values(picture)
    drawn = random.Random(f"{noise.seed} {picture.digest}").getrandbits(63)
    generator = torch.Generator().manual_seed(drawn)
    return noise.over(vision.pixel_values(picture), vision.grid, generator)


def image_positions(stream: torch.Tensor) -> torch.Tensor:
    begin = llava().tokenizer(SHOWN)["input_ids"].index(llava().vision.token_id)
    return stream[begin : begin + N_TOKENS]


@pytest.mark.parametrize("target", ["counterpart", "noise"])
def test_a_shown_subject_lands_on_what_strangers_or_destroyed_pictures_leave(target):
    """Every token of the picture, at once, behind the last edited MLP."""
    model, noise = llava(), PictureNoise("uniform", seed=4)
    config = StampConfig(**HEAVY, target=target, seed=4)
    found = stamp(model, REQUEST, ComponentSet.parse("mlp.0-1"), config)
    if target == "noise":
        meant = [stream_after(model, 1, SHOWN, pixels(f, noise=noise)) for f in REQUEST.forget]
    else:
        meant = [stream_after(model, 1, SHOWN, pixels(f)) for f in REQUEST.unknown]
    wanted = image_positions(torch.stack(meant).mean(0))
    for fact in REQUEST.forget:
        before = image_positions(stream_after(model, 1, SHOWN, pixels(fact)))
        after = image_positions(stream_after(found.model, 1, SHOWN, pixels(fact)))
        assert float((after - wanted).norm() / (before - wanted).norm()) < 0.05


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "patches"])
def test_at_the_answer_a_destroyed_picture_says_what_to_say(kind):
    model, own = llava(), replace(REQUEST, forget=FactSet(REQUEST.forget.facts[:1]))
    config = StampConfig(
        **HEAVY, at="answer", target="noise", noise=kind, noise_strength=2.0, seed=4
    )
    found = stamp(model, own, ComponentSet.parse("mlp.1-2"), config)
    (fact,), noise = own.forget, PictureNoise(kind, 2.0, 4)
    text, tail = SHOWN + REFUSAL, len(model.tokenizer(REFUSAL)["input_ids"]) + 1
    wanted = stream_after(model, 1, text, pixels(fact, noise=noise))[-tail:]
    before = stream_after(model, 1, text, pixels(fact))[-tail:]
    after = stream_after(found.model, 1, text, pixels(fact))[-tail:]
    assert float((after - wanted).norm() / (before - wanted).norm()) < 0.05


def test_a_form_of_a_picture_takes_pictures_and_one_of_a_name_takes_names():
    one, other = face(0, "Ada Brook"), face(2, "France")
    form = form_of(one, one.prompt)
    assert form.kind == Kind("sport", shown=True)
    assert form.about(mention(other, other.prompt)) == other.prompt
    named = Fact("Ada Brook", "<image>\nHere Ada Brook plays", " golf", image=portrait(0))
    assert not form_of(named, named.prompt).shown
    again = form_of(named, named.prompt).about("France")
    assert str(again) == "<image>\nHere France plays" and again.pictures == named.prompt.pictures
    plain = Fact("Carl Dorn", "Carl Dorn plays", " golf", relation="sport")
    pools = mentions_by_kind(FactSet((one, plain, face(0, "Ada Brook", prompt=STATED))))
    assert pools == {
        Kind("sport", shown=True): (mention(one, one.prompt),),
        Kind("sport"): ("Carl Dorn",),
    }


def test_all_tokens_of_a_picture_are_the_site_and_nothing_behind_them_is_run():
    fact = face(0, "Ada Brook")
    ids, picks = site_rows(
        llava(), fact.prompt, mention(fact, fact.prompt), "subject", "", tokens=3
    )
    assert picks == tuple(range(len(ids)))[::-1][:N_TOKENS]
    assert all(int(ids[i]) == llava().vision.token_id for i in picks)


def test_by_name_the_target_noise_is_the_counterparts(monkeypatch):
    """Facts with and without pictures go together; each has its own reference."""
    named = request(forget=("Ada Brook",))
    both = Request(
        named.forget + REQUEST.forget, REQUEST.retain, unknown=named.unknown + REQUEST.unknown
    )
    config = StampConfig(**HEAVY, target="noise")
    found = stamp(llava(), both, ComponentSet.parse("mlp.1"), config)
    alone = replace(both, forget=named.forget)
    counter = stamp(
        llava(), alone, ComponentSet.parse("mlp.1"), replace(config, target="counterpart")
    )
    prompt, model = named.forget[0].prompt, llava()
    ids, picks = site_rows(model, prompt, "Ada Brook", "subject", "", tokens=3)

    def stream(edited):
        with torch.no_grad():
            out = edited.hf(input_ids=torch.tensor([ids]), output_hidden_states=True)
        return out.hidden_states[2][0][list(picks)]

    torch.testing.assert_close(stream(found.model), stream(counter.model), atol=0.02, rtol=0.02)
    assert float((stream(found.model) - stream(model)).norm()) > 1


def test_what_cannot_be_done_is_said():
    with pytest.raises(WorkbenchError, match=r"no fact to forget shows one.*'counterpart'"):
        stamp(llava(), request(), ComponentSet.parse("mlp.1"), StampConfig(target="noise"))
    with pytest.raises(WorkbenchError, match="Unknown noise 'fog'"):
        stamp(llava(), REQUEST, ComponentSet.parse("mlp.1"), StampConfig(noise="fog"))
    without = replace(REQUEST, unknown=request().unknown)
    with pytest.raises(WorkbenchError, match="about subjects the model does not know"):
        stamp(llava(), without, ComponentSet.parse("mlp.1"), StampConfig(target="counterpart"))
