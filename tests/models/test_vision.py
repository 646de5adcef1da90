"""Models of the LLaVA form: loaded whole, prompts with pictures as transformers reads them."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import make_model
from llava_model import (
    N_TOKENS,
    NAMED,
    QUESTION,
    llava,
    llava_folder,
    make_llava,
    make_processor,
    portrait,
    seen,
)
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet
from workbench.facts.known import split_known
from workbench.facts.prompts import continuation, subject_span, token_roles, tokenize
from workbench.measure.text_metrics import negative_log_likelihoods, teacher_forced
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.models.kept import _key
from workbench.models.load import load
from workbench.models.pictured import ImageToken, Pictured
from workbench.models.pictures import read_picture
from workbench.models.text import batches, encode, generate, next_token_logits


def prompts() -> list[str]:
    """Other lengths, with and without a picture, the same words about two pictures."""
    texts = [seen(s, p).prompt for s, p in [(0, QUESTION), (1, QUESTION), (2, NAMED)]]
    return [*texts, "Ada Brook plays the sport of", texts[1] + " tennis\n\n" + texts[2]]


@pytest.fixture(scope="module")
def plain():
    """The model and processor as a user of transformers has them."""
    hf = LlavaForConditionalGeneration.from_pretrained(llava_folder()).eval()
    return hf, AutoProcessor.from_pretrained(llava_folder())


def read_plainly(plain, text: str) -> dict[str, torch.Tensor]:
    processor = plain[1]
    pictures = text.pictures if isinstance(text, Pictured) else ()
    images = [Image.open(p.path) for p in pictures] or None
    return dict(processor(text=str(text), images=images, return_tensors="pt"))


def refused(folder: Path, sentence: str) -> None:
    with pytest.raises(WorkbenchError, match=sentence) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_loads_whole_and_stays_a_value():
    model = llava()
    parts = {name.split(".")[1] for name in model.parameters if name != "lm_head.weight"}
    assert parts == {"vision_tower", "multi_modal_projector", "language_model"}
    assert model.vision is not None and model.vision.grid == (4, 4)
    before = model.fingerprint
    for name in (
        "model.vision_tower.encoder.layers.1.mlp.fc2.weight",
        "model.multi_modal_projector.linear_1.bias",
        "model.language_model.layers.2.mlp.down_proj.weight",
    ):
        change = torch.full_like(model.parameters[name], 0.01)
        edited = model.with_delta(WeightDelta({name: Dense(change)}, Origin("test")))
        assert edited.fingerprint != before == load(llava_folder()).fingerprint
        assert edited.vision is model.vision is model.fork().vision
        for other, tensor in model.parameters.items():
            assert (edited.parameters[other] is tensor) == (other != name)


def test_the_bridge_reads_the_same_and_installs_nothing(plain, monkeypatch):
    monkeypatch.setattr("subprocess.check_call", lambda *a, **k: pytest.fail("installs something"))
    model = load(llava_folder())
    inputs = read_plainly(plain, prompts()[0])
    with torch.no_grad():
        expected = model.hf(**inputs).logits
        torch.testing.assert_close(model.bridge(inputs.pop("input_ids"), **inputs), expected)
    blind = load(llava_folder())
    object.__setattr__(blind, "vision", None)  # without a processor nothing is installed either
    assert blind.bridge is not None
    assert model.structure.layers[0].block == "model.language_model.layers.0"


@pytest.mark.parametrize("prompt", prompts())
def test_tokens_are_those_of_the_processor(plain, prompt):
    ids = encode(llava(), prompt)
    assert ids == read_plainly(plain, prompt)["input_ids"][0].tolist()
    own = [t for t in ids if isinstance(t, ImageToken)]
    pictures = prompt.pictures if isinstance(prompt, Pictured) else ()
    assert [t.picture for t in own[::N_TOKENS]] == list(pictures)


def test_generation_equals_transformers_one_prompt_at_a_time(plain):
    hf, processor = plain
    found = generate(llava(), prompts(), max_new_tokens=7, stop=None)
    for prompt, answer in zip(prompts(), found, strict=True):
        inputs = read_plainly(plain, prompt)
        out = hf.generate(
            **inputs, max_new_tokens=7, do_sample=False, pad_token_id=0, eos_token_id=0
        )
        new = out[0, inputs["input_ids"].shape[1] :]
        assert answer == processor.tokenizer.decode(new, skip_special_tokens=True)
    assert found[0] != found[1]  # the picture alone tells these two apart


@torch.no_grad()
def test_logits_equal_transformers_under_padding_on_both_sides(plain):
    hf, model = plain[0], llava()
    alone = [hf(**read_plainly(plain, p)).logits[0, -1] for p in prompts()]
    together = next_token_logits(model, prompts())
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-5, rtol=1e-5)
    for batch in batches(model, [encode(model, p) for p in prompts()], side="left"):
        position = (batch.attention_mask.cumsum(1) - 1).clamp(min=0)
        logits = model.hf(**batch.inputs, position_ids=position).logits[:, -1]
        expected = torch.stack([alone[i] for i in batch.rows])
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_likelihoods_of_continuations_equal_one_plain_pass(plain):
    """Two prompts of the same words about other pictures are two beginnings, not one."""
    hf, model = plain[0], llava()
    asked = [p for p in prompts()[:4] for _ in range(2)]
    targets = [" tennis", " golf"] * 4
    found = teacher_forced(model, asked, targets)
    for prompt, target, one in zip(asked, targets, found, strict=True):
        inputs = read_plainly(plain, prompt + target)
        scores = hf(**inputs).logits[0].double().log_softmax(-1)
        ids, n = inputs["input_ids"][0], len(continuation(model, prompt, target))
        total = sum(float(scores[i - 1, ids[i]]) for i in range(len(ids) - n, len(ids)))
        assert one.log_probability == pytest.approx(total, abs=1e-4)
    assert found[0].log_probability != pytest.approx(found[2].log_probability, abs=1e-3)
    loss, count = negative_log_likelihoods(model, [asked[0]])[0]
    inputs = read_plainly(plain, asked[0])
    own = torch.nn.functional.cross_entropy(hf(**inputs).logits[0, :-1], inputs["input_ids"][0, 1:])
    assert loss == pytest.approx(float(own), rel=1e-4) and count == inputs["input_ids"].shape[1] - 1


def test_known_facts_are_those_transformers_completes(plain):
    hf, processor = plain
    asked = [seen(number) for number in range(4)]
    with torch.no_grad():
        best = [int(hf(**read_plainly(plain, f.prompt)).logits[0, -1].argmax()) for f in asked]
    words = [processor.tokenizer.decode([token]) for token in best]
    facts = FactSet(tuple(replace(f, target=w) for f, w in zip(asked, words, strict=True)))
    assert split_known(llava(), facts).known == facts
    assert not split_known(llava(), FactSet(tuple(asked))).known


def test_subject_and_roles_stand_on_the_words_or_else_on_the_picture():
    model = llava()
    tokens = tokenize(model, seen(0, NAMED))
    first, end = tokens.subject
    assert model.tokenizer.decode(tokens.ids[first:end]).strip() == "Ada Brook"
    assert tokens.roles[: N_TOKENS + 1] == ("image",) * N_TOKENS + ("before",)
    unnamed = tokenize(model, seen(0))
    assert unnamed.subject == (0, N_TOKENS)
    assert unnamed.roles == token_roles(len(unnamed.ids), (0, N_TOKENS))
    behind = seen(0, "Question: <image> Who?\nAnswer:").prompt
    before = len(encode(model, "Question: "))
    assert subject_span(model, behind, "Ada Brook") == (before, before + N_TOKENS)
    assert subject_span(model, unnamed.fact.prompt, "<image>") == (0, N_TOKENS)


def test_prompts_keep_their_picture_and_are_told_apart_by_it():
    a, b = seen(0).prompt, seen(1).prompt
    assert a != b and str(a) == str(b) and a != str(a) and len({a, b, str(a)}) == 3
    assert a == seen(0).prompt and hash(a) == hash(seen(0).prompt)
    for joined in (a + " x", "x " + a, "x " + a + " y"):
        assert isinstance(joined, Pictured) and joined.pictures == a.pictures
    assert (a + b).pictures == (*a.pictures, *b.pictures)
    assert pickle.loads(pickle.dumps(a)) == a == copy.deepcopy(a)
    token = encode(llava(), a)[3]
    assert pickle.loads(pickle.dumps(token)) == token and token == int(token)
    assert token != encode(llava(), b)[3]
    assert _key(llava(), "answers", [[a], 3]) != _key(llava(), "answers", [[b], 3])


def test_pictures_are_never_lost_in_silence():
    model, a = llava(), seen(0).prompt
    for text, sentence in (
        (str(a), "carries no picture"),
        (f"{a} x", "carries no picture"),
        (a + " <image>", "has 1 images but 2 times <image>"),
        (Pictured("Who?", a.pictures), "has 1 images but 0 times"),
    ):
        for run in (encode, lambda m, t: generate(m, [t]), lambda m, t: next_token_logits(m, [t])):
            with pytest.raises(WorkbenchError, match=sentence):
                run(model, text)
    with pytest.raises(WorkbenchError, match="reads text only"):
        encode(make_model("llama"), a)
    ids = encode(model, a)
    for broken, sentence in (
        ([int(i) for i in ids], "lost its picture"),
        (ids[: N_TOKENS // 2], "cut within its picture"),
        (ids[1:], "cut within its picture"),
    ):
        with pytest.raises(WorkbenchError, match=sentence):
            next(batches(model, [broken]))


def test_pixels_are_made_once_for_each_content(tmp_path):
    model = load(llava_folder())
    shutil.copy(portrait(0), tmp_path / "copy.png")
    first = model.vision.pixel_values(read_picture(portrait(0)))
    assert model.vision.pixel_values(read_picture(tmp_path / "copy.png")) is first
    expected = AutoProcessor.from_pretrained(llava_folder()).image_processor(
        images=Image.open(portrait(0)), return_tensors="pt"
    )
    assert torch.equal(first, expected["pixel_values"][0])


def test_the_class_token_may_be_kept(tmp_path):
    make_llava(tmp_path, strategy="full")
    model = load(tmp_path)
    assert model.vision.n_tokens == N_TOKENS + 1
    assert len(generate(model, [seen(0).prompt], max_new_tokens=2)) == 1


def test_folders_whose_parts_do_not_belong_together(tmp_path):
    folder = Path(shutil.copytree(llava_folder(), tmp_path / "model"))
    config = folder / "config.json"
    whole = json.loads(config.read_text())

    def write(part: str, kind: str) -> None:
        config.write_text(json.dumps({**whole, part: {**whole[part], "model_type": kind}}))

    write("vision_config", "siglip_vision_model")
    refused(folder, "siglip_vision_model tower")
    write("text_config", "gpt2")
    refused(folder, "gpt2 language model")
    config.write_text(json.dumps({**whole, "image_token_id": 5}))
    refused(folder, "makes the image token 384, the model reads 5|makes the image token")
    config.write_text(json.dumps(whole))
    make_processor("full").save_pretrained(folder)
    refused(folder, "makes 17 image tokens of a picture, the vision tower 16")
    make_processor(patch=4).save_pretrained(folder)
    refused(folder, "makes 64 image tokens")
    for name in ("processor_config.json", "preprocessor_config.json"):
        (folder / name).unlink(missing_ok=True)
    refused(folder, "has no image processor")
