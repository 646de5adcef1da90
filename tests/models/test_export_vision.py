"""An edited model that reads images, exported: plain transformers gives the same answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from llava_model import llava, make_processor, portrait, seen
from PIL import Image

from workbench.models import verify as verifying
from workbench.models.delta import Dense, LowRank, Origin, WeightDelta
from workbench.models.export import export
from workbench.models.load import load
from workbench.models.model import Model
from workbench.models.text import generate
from workbench.models.verify import Reload, verify
from workbench.progress import SILENT

DOWN = "model.language_model.layers.1.mlp.down_proj.weight"
NAMES = (DOWN, "model.vision_tower.encoder.layers.1.mlp.fc2.weight")
PLAIN = """
import sys, torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration
folder, picture, prompt = sys.argv[1:]
model = LlavaForConditionalGeneration.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
inputs = processor(images=Image.open(picture), text=prompt, return_tensors="pt")
out = model.generate(**inputs, max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=0)
new = out[0, inputs["input_ids"].shape[1]:]
print(repr(processor.tokenizer.decode(new, skip_special_tokens=True)))
assert not any(name.split(".")[0] in ("workbench", "transformer_lens") for name in sys.modules)
"""


def edited() -> tuple[Model, Model]:
    base, generator = llava(), torch.Generator().manual_seed(1)
    updates = {}
    for name in NAMES:
        rows, columns = base.parameters[name].shape
        left = 0.3 * torch.randn(rows, 2, generator=generator)
        updates[name] = LowRank(left, torch.randn(2, columns, generator=generator))
    return base, base.with_delta(WeightDelta(updates, Origin("stamp", components="mlp.1")))


def test_plain_transformers_answers_as_the_edited_model(tmp_path):
    base, model = edited()
    fact = seen(0)
    result = export(model, tmp_path / "out", base=base, prompts=[fact.prompt])
    assert result.formats == ("checkpoint", "delta", "lora") and not result.left_out
    assert result.max_logit_difference <= 1e-4
    command = [sys.executable, "-c", PLAIN, str(tmp_path / "out"), str(portrait(0)), fact.prompt]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    (answer,) = generate(model, [fact.prompt], max_new_tokens=6, stop=None)
    assert said.stdout.strip() == repr(answer)
    assert answer != generate(base, [fact.prompt], max_new_tokens=6, stop=None)[0]
    again = load(tmp_path / "out")
    assert again.fingerprint == model.fingerprint
    assert again.vision.settings == model.vision.settings
    card = (tmp_path / "out" / "README.md").read_text()
    assert "pipeline_tag: image-text-to-text" in card
    assert "LlavaForConditionalGeneration.from_pretrained(FOLDER)" in card
    assert "AutoProcessor.from_pretrained(FOLDER)" in card
    assert not [p for p in (tmp_path / "out").rglob("*.png")]


def spoiled(folder: Path, place: Path) -> Path:
    """Copy an export with an image processor that paints another mean."""
    shutil.copytree(folder, place)
    file = place / "processor_config.json"
    config = json.loads(file.read_text())
    config["image_processor"]["image_mean"] = [0.1, 0.1, 0.1]
    file.write_text(json.dumps(config))
    return place


def test_another_processor_or_vision_tower_is_found(tmp_path):
    base = llava()
    export(base, tmp_path / "base", formats=["checkpoint"], verified=False)
    spoiled(tmp_path / "base", tmp_path / "pixels")
    change = torch.full_like(base.parameters[NAMES[1]], 0.1)
    seeing = base.with_delta(WeightDelta({NAMES[1]: Dense(change)}, Origin("test")))
    reloads = [Reload("same", tmp_path / "base"), Reload("pixels", tmp_path / "pixels")]
    request = tmp_path / "request.json"
    request.write_text(json.dumps(verifying._request(seeing, reloads, [], tmp_path)))
    same, pixels = verifying._ask(request, tmp_path, SILENT)
    assert same["difference"] > 1e-2  # a tower is seen by the picture alone: there is no other text
    assert not any("processor" in problem for problem in same["problems"])
    assert "the processor makes other pixels of a picture" in pixels["problems"]


def test_a_picture_is_always_among_what_is_compared(tmp_path, monkeypatch):
    asked = {}

    def ask(request: Path, scratch: Path, progress) -> list[dict]:
        asked.update(json.loads(request.read_text()))
        assert Image.open(asked["pictured"][0]["files"][0]).mode == "RGB"
        return [{"difference": 0.0, "problems": []}]

    monkeypatch.setattr(verifying, "_ask", ask)
    verify(llava(), [Reload("checkpoint", tmp_path)], tmp_path)
    assert len(asked["pictured"]) == 1 and not list(tmp_path.iterdir())
    text = asked["pictured"][0]["text"]
    ids = make_processor()(text=text, images=[Image.new("RGB", (9, 9))])["input_ids"][0]
    assert ids.count(llava().vision.token_id) == llava().vision.n_tokens
