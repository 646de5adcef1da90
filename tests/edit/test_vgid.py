"""VGID: its teacher is plain transformers on noise behind a text; what it teaches, and what not."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch
from conftest import make_model
from llava_model import NAMED, QUESTION, llava, portrait

from workbench.edit.edit import outside
from workbench.edit.registry import edit
from workbench.edit.train import context_distillation as distillation
from workbench.edit.train import vgid as module
from workbench.edit.train.examples import answers
from workbench.edit.train.lessons import lessons
from workbench.edit.train.losses import kl
from workbench.edit.train.vgid import VgidConfig, vgid
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Request
from workbench.models.components import ComponentSet
from workbench.models.noisy_vision import PictureNoise, blinded
from workbench.models.pictures import read_picture
from workbench.models.vision import noise_added, patches_shuffled, random_pixels

FAST = {"steps": 2, "lr": 1e-2, "kept": 4, "neutral": 2, "context": "unknown"}
MLP = ComponentSet.parse("mlp.1")


def about(seed: int, name: str, target: str = " tennis", prompt: str = NAMED) -> Fact:
    return Fact(name, prompt.replace("Ada Brook", name), target, image=portrait(seed))


REQUEST = Request(
    FactSet((about(0, "Ada Brook", prompt=QUESTION), about(1, "Carl Dorn", " golf"))),
    FactSet((about(2, "France"), about(3, "Norway"))),
    unknown=FactSet((Fact("Vok Plim", "Question: Where is Vok Plim?\nAnswer:", " Paris"),)),
)


def generator(fact: Fact, seed: int = 0) -> torch.Generator:
    digest = read_picture(fact.image).digest
    return torch.Generator().manual_seed(random.Random(f"{seed} {digest}").getrandbits(63))


def destroyed(kind: str, fact: Fact) -> torch.Tensor:
    pixels = llava().vision.pixel_values(read_picture(fact.image))
    if kind == "uniform":
        return torch.rand(3, 32, 32, generator=generator(fact))
    if kind == "gaussian":
        return pixels + 2 * torch.randn(3, 32, 32, generator=generator(fact))
    patches = pixels.unfold(1, 8, 8).unfold(2, 8, 8).reshape(3, 16, 8, 8)
    moved = patches[:, torch.randperm(16, generator=generator(fact))].reshape(3, 4, 4, 8, 8)
    return moved.permute(0, 1, 3, 2, 4).reshape(3, 32, 32)


def said(text: str, target: str, pixels: list[torch.Tensor]) -> torch.Tensor:
    """Return log p at the tokens of a target, by the processor's own tokens and a plain run."""
    model, tail = llava(), len(llava().tokenizer(target)["input_ids"])
    marked = (text + target).replace("<image>", "<image>" * model.vision.n_tokens)
    ids = torch.tensor([model.tokenizer(marked)["input_ids"]])
    with torch.no_grad():
        logits = model.hf(input_ids=ids, pixel_values=torch.stack(pixels)).logits
    return logits[0, -tail - 1 : -1].log_softmax(-1)


def teacher_of(config: VgidConfig, request: Request, monkeypatch) -> list[torch.Tensor]:
    """Return the teacher's log-probabilities at each forget prompt, as an edit makes them."""
    found, make = [], module.reference_logits

    def kept(model, every):
        teacher = make(model, every)
        found.append([teacher([i]).log_softmax(-1) for i in range(len(every))])
        return teacher

    monkeypatch.setattr(module, "reference_logits", kept)
    vgid(llava(), request, MLP, config)
    assert len(found) == 1  # the teacher is run once, whatever the number of steps
    return found[0]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("uniform", {}),
        ("gaussian", {"context": "flipped"}),
        ("patches", {"text": False}),
        ("none", {"noise": False}),
    ],
)
def test_the_teacher_is_plain_transformers_on_noise_behind_the_text(kind, settings, monkeypatch):
    chosen = {**FAST, **({} if kind == "none" else {"kind": kind}), "strength": 2.0, **settings}
    found = teacher_of(VgidConfig(**chosen), REQUEST, monkeypatch)
    text, before = f"{REQUEST.unknown[0].prompt} I do not know.\n", []
    vision, forget = llava().vision, list(REQUEST.forget)
    if chosen["context"] == "flipped":  # shows the forget set, its pictures destroyed too
        text, before = "".join(f"{f.prompt} I do not know.\n" for f in forget), forget
    for fact, own in zip(forget, found, strict=True):
        shown = [
            vision.pixel_values(read_picture(f.image)) if kind == "none" else destroyed(kind, f)
            for f in (*before, fact)
        ]
        lead = text if chosen.get("text", True) else ""
        expected = said(lead + str(fact.prompt), fact.target, shown)
        torch.testing.assert_close(own, expected, atol=1e-4, rtol=1e-4)
        clean = vision.pixel_values(read_picture(fact.image))
        assert float((own - said(str(fact.prompt), fact.target, [clean])).abs().max()) > 0.1


def test_the_first_loss_of_two_tokens_by_hand():
    fact = about(0, "Ada Brook", " tennis golf", QUESTION)
    assert len(llava().tokenizer(fact.target)["input_ids"]) == 2
    found = vgid(
        llava(), replace(REQUEST, forget=FactSet((fact,))), MLP, VgidConfig(**FAST, text=False)
    )
    clean = llava().vision.pixel_values(read_picture(fact.image))
    student = said(QUESTION, fact.target, [clean])
    teacher = said(QUESTION, fact.target, [destroyed("uniform", fact)])
    total = sum(
        math.exp(p) * (p - q)
        for p, q in zip(teacher.flatten().tolist(), student.flatten().tolist(), strict=True)
    )
    assert found.steps["forget_loss"][0] == pytest.approx(total / 2, rel=1e-3)
    assert found.steps["retain_loss"][0] == pytest.approx(0, abs=1e-5)


def test_all_positions_are_those_of_the_whole_prompt(monkeypatch):
    for settings in ({}, {"text": False}):
        chosen = VgidConfig(**FAST, along="all", **settings)
        (own, _) = teacher_of(chosen, REQUEST, monkeypatch)
        fact, text = REQUEST.forget[0], f"{REQUEST.unknown[0].prompt} I do not know.\n"
        ids = llava().tokenizer(QUESTION + fact.target)["input_ids"]
        assert len(own) == len(ids) - 1 + llava().vision.n_tokens - 1
        lead = text if chosen.text else ""
        expected = said(lead + QUESTION, fact.target, [destroyed("uniform", fact)])
        torch.testing.assert_close(own[-len(expected) :], expected, atol=1e-4, rtol=1e-4)
        monkeypatch.undo()


def distances(edited, config: VgidConfig) -> tuple[float, float]:
    """Return KL(teacher || model) on the forget set and KL(base || model) on the retain set."""
    base = llava()
    taught = lessons(base, REQUEST, most=config.kept, neutral=config.neutral)
    seeing = blinded(base, taught.forget.sequences, PictureNoise()) if config.noise else base
    shown = taught.forget
    if config.text:
        shown = distillation.told(seeing, REQUEST, shown, config)
    with torch.no_grad():
        forget = kl(answers(edited, taught.forget), answers(seeing, shown).logits)
        kept = kl(answers(edited, taught.retain), answers(base, taught.retain).logits)
    return float(forget), float(kept)


@pytest.mark.parametrize("halves", [{}, {"text": False}, {"noise": False}])
def test_the_student_goes_to_the_teacher_and_stays_where_it_is_to_be_kept(halves):
    config = VgidConfig(**{**FAST, "steps": 10, "neutral": 0}, **halves)
    chosen = ComponentSet.parse("projector, mlp.1-2")
    start, _ = distances(llava(), config)
    near, kept = distances(vgid(llava(), REQUEST, chosen, config).model, config)
    alone = vgid(llava(), REQUEST, chosen, replace(config, retain_weight=0.0))
    _, lost = distances(alone.model, config)
    assert near < 0.5 * start
    assert kept < 0.5 * lost


@pytest.mark.parametrize("text", ["neuron.1.3-5, head.2.0", "vision.mlp.1, projector"])
def test_only_the_components_change_and_the_same_seed_gives_the_same_bytes(text):
    chosen, model = ComponentSet.parse(text), llava()
    before = {name: tensor.clone() for name, tensor in model.parameters.items()}
    one, again, other = (
        vgid(model, REQUEST, chosen, VgidConfig(**FAST, text=False, seed=seed))
        for seed in (1, 1, 2)
    )
    assert not outside(model, one.model, chosen)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.parameters.items())
    for name, update in one.delta.updates.items():
        assert torch.equal(update.dense(), again.delta.updates[name].dense())
        assert bool(update.dense().any())
    assert one.steps["forget_loss"][0] != other.steps["forget_loss"][0]  # other noise


def test_noise_on_tensors():
    pixels = torch.arange(3 * 4 * 6, dtype=torch.float32).reshape(3, 4, 6)
    drawn = random_pixels(pixels, torch.Generator().manual_seed(1))
    assert drawn.shape == pixels.shape and bool(((drawn >= 0) & (drawn < 1)).all())
    wide = torch.zeros(3, 90, 90)
    added = noise_added(wide, 3.0, torch.Generator().manual_seed(1))
    assert float(added.std()) == pytest.approx(3, rel=0.02)
    moved = patches_shuffled(pixels, (2, 3), torch.Generator().manual_seed(1))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1)).tolist()
    for here, source in enumerate(order):
        (r, c), (s, d) = divmod(here, 3), divmod(source, 3)
        here_now = moved[:, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
        assert torch.equal(here_now, pixels[:, 2 * s : 2 * s + 2, 2 * d : 2 * d + 2])
    assert torch.equal(moved.flatten().sort().values, pixels.flatten())


def test_only_the_pictures_to_forget_look_otherwise():
    model = llava()
    taught = lessons(model, REQUEST, most=4, neutral=2)
    seeing = blinded(model, taught.forget.sequences, PictureNoise(seed=4))
    gone, kept = (read_picture(f.image) for f in (REQUEST.forget[0], REQUEST.retain[0]))
    assert torch.equal(seeing.vision.pixel_values(gone), seeing.vision.pixel_values(gone))
    assert not torch.equal(seeing.vision.pixel_values(gone), model.vision.pixel_values(gone))
    assert torch.equal(seeing.vision.pixel_values(kept), model.vision.pixel_values(kept))
    assert seeing.identity != model.identity and seeing.fingerprint == model.fingerprint
    assert all(p is model.parameters[name] for name, p in seeing.parameters.items())


def test_what_cannot_be_done_is_said():
    def refused(model, request, settings, sentence):
        with pytest.raises(WorkbenchError, match=sentence) as no:
            edit("vgid", model, request, MLP, settings)
        assert "\n" not in str(no.value)

    words = FactSet((Fact("Ada Brook", "Ada Brook plays the sport of", " tennis"),))
    plain = replace(REQUEST, forget=words)
    refused(make_model("llama"), plain, FAST, "this model reads text only.*noise=false")
    refused(llava(), plain, FAST, "'Ada Brook plays the sport of' shows none")
    both = replace(REQUEST, forget=REQUEST.forget + words)
    refused(llava(), both, {**FAST, "text": False}, "'Ada Brook plays the sport of' shows none")
    assert edit("vgid", llava(), both, MLP, FAST).delta.updates
    refused(llava(), REQUEST, {"kind": "fog"}, "choice of kind")
    refused(llava(), REQUEST, {"strength": 0}, "strength must be positive")
    refused(llava(), REQUEST, {"along": "prompt"}, "continuation")
    refused(llava(), REQUEST, {"noise": False, "text": False}, "the teacher is the model itself")
    assert edit("vgid", llava(), plain, MLP, {**FAST, "noise": False}).delta.updates
