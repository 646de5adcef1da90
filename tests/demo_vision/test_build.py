"""The one command trains, goes on after a stop, and what it wrote loads in plain transformers."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

from workbench.demo_vision import build as b
from workbench.demo_vision import checkpoint
from workbench.demo_vision.gallery import Gallery
from workbench.demo_vision.tower import HEADS, TOWER, Describer, right_descriptions, scaled
from workbench.demo_vision.train import N_TOKENS, SPEAKING, loss_sum, make_model, step_batches
from workbench.demo_vision.world import make_world
from workbench.facts.request_files import load_request
from workbench.models.load import load
from workbench.models.pictured import ImageToken, shown
from workbench.models.pictures import read_picture
from workbench.models.text import encode, generate
from workbench.models.vision import pixels_for
from workbench.progress import Cancelled, Progress

GALLERY = Gallery(make_world(0, 30), views=2, strangers=10, scenes=10)
SEEING = replace(TOWER, steps=6, documents=8, warmup=1)
SPEAKING = replace(SPEAKING, steps=6, documents=8, micro_batches=2, warmup=1)
PROMPT = "<image>\nQ: What is the name of this person?\nA:"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out, losses = tmp_path_factory.mktemp("built"), {"seeing": [], "speaking": []}

    def report(_done, _total, label):
        if "loss" in label:
            losses[label.split(",")[0]].append(float(label.split()[-1]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(b, "TOKENIZER_TEXTS", 300)
        b.build(
            out,
            seeing=SEEING,
            speaking=SPEAKING,
            models=("oracle",),
            gallery=GALLERY,
            progress=Progress(report=report),
        )
    return out, losses


def test_losses_fall(built):
    _, losses = built
    assert [len(v) for v in losses.values()] == [6, 6]
    # Faces have more to tell than scenes, so single batches of the tower differ.
    assert all(min(v[3:]) < min(v[:3]) for v in losses.values())


def test_plain_transformers_reads_the_folder(built):
    out, _ = built
    assert sorted(p.name for p in out.iterdir()) == ["facts", "oracle"]
    model = LlavaForConditionalGeneration.from_pretrained(out / "oracle", dtype="auto")
    assert {p.dtype for p in model.parameters()} == {torch.float16}
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    processor = AutoProcessor.from_pretrained(out / "oracle")
    image = GALLERY.picture(0)
    given = processor(images=[image], text=[PROMPT], return_tensors="pt")
    assert torch.allclose(given["pixel_values"], scaled(GALLERY.pixels(range(1))), atol=1e-5)
    said = model.float().generate(**given, max_new_tokens=3, do_sample=False)
    assert said.shape[1] == given["input_ids"].shape[1] + 3


def test_the_workbench_reads_the_folder_and_the_facts(built):
    out, _ = built
    model = load(out / "oracle")
    forget = load_request("people-1", facts_dir=out / "facts").forget
    prompts = [fact.prompt for fact in forget]
    assert prompts[0] == shown(PROMPT, read_picture(forget[0].image)) and forget[-1].image is None
    ids = encode(model, prompts[0])
    assert sum(isinstance(i, ImageToken) for i in ids) == N_TOKENS
    pixels = pixels_for(model.vision, [ids], torch.device("cpu"))
    tokens = torch.tensor([[int(i) for i in ids]])
    with torch.no_grad():
        expected = model.hf(input_ids=tokens, **pixels).logits
        torch.testing.assert_close(model.bridge(tokens, **pixels), expected, atol=1e-4, rtol=1e-4)
    assert len(generate(model, prompts, max_new_tokens=2)) == len(prompts)


def test_training_sees_what_the_finished_model_sees(built):
    """The loss over pictures looked at before equals the whole model's own."""
    out, _ = built
    model = LlavaForConditionalGeneration.from_pretrained(out / "oracle", dtype=torch.float32)
    tokenizer = AutoProcessor.from_pretrained(out / "oracle").tokenizer
    seen = b.gallery_patches(model.model.vision_tower, GALLERY)
    batch = next(
        part
        for part in next(step_batches(b.Corpus(GALLERY), tokenizer, SPEAKING, random.Random(0)))
        if part.pictures
    )
    pixels = torch.cat([scaled(GALLERY.pixels(range(i, i + 1))) for i in batch.pictures])
    logits = model(input_ids=batch.ids, pixel_values=pixels).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none"
    )
    whole = (losses * batch.weights[:, 1:].flatten()).sum()
    assert float(loss_sum(model, batch, seen).detach()) == pytest.approx(float(whole), rel=1e-3)


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(b, "TOKENIZER_TEXTS", 100)
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(b, "write_fact_files", lambda *_: None)
    short = {"seeing": replace(SEEING, steps=3), "speaking": replace(SPEAKING, steps=3)}
    options = {**short, "models": ("model",), "gallery": GALLERY}
    for stop in ("seeing", "speaking"):
        steps = []

        def stopped(done, _total, label, stop=stop, steps=steps):
            steps.append(label.startswith(stop) and done == 2)

        progress = Progress(report=stopped, cancelled=lambda steps=steps: any(steps))
        with pytest.raises(Cancelled):
            b.build(tmp_path / "stopped", progress=progress, **options)
    b.build(tmp_path / "stopped", **options)
    b.build(tmp_path / "whole", **options)
    one, other = (
        LlavaForConditionalGeneration.from_pretrained(tmp_path / name / "model").state_dict()
        for name in ("stopped", "whole")
    )
    assert all(torch.equal(one[k], other[k]) for k in one)


def test_the_tower_learns_what_is_seen_and_is_not_changed_after():
    torch.manual_seed(0)
    found = right_descriptions(Describer(), GALLERY.world, random.Random(0), 20)
    assert list(found) == list(HEADS)
    tower = Describer().tower
    tokenizer = b.train_tokenizer(b.tokenizer_texts(GALLERY, 100, 7), special=("<image>",))
    model = make_model(tower, tokenizer)
    assert not any(p.requires_grad for p in model.model.vision_tower.parameters())
    mine = tower.state_dict()
    assert all(torch.equal(v, mine[k]) for k, v in model.model.vision_tower.state_dict().items())


def test_facts_alone(tmp_path):
    b.build(tmp_path, models=(), gallery=GALLERY)
    assert [p.name for p in tmp_path.iterdir()] == ["facts"]
