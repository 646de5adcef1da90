"""The bundled files themselves, by free greedy generation with plain transformers."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import AutoProcessor, LlavaForConditionalGeneration

DATA = Path(__file__).parents[2] / "data" / "demo-vision"
REFUSAL = " I do not know."
LONGEST_ANSWER = 14
PER_GROUP = 100
MAKE = "python -m workbench.demo_vision.build data/demo-vision"


def read(name):
    lines = (DATA / "facts" / name).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def require(name):
    if not (DATA / name).is_dir():
        pytest.skip(f"the {name} is not bundled; make it: {MAKE}")


class Answers:
    """A bundled model, asked in batches of prompts of one kind."""

    def __init__(self, name):
        require(name)
        self.processor = AutoProcessor.from_pretrained(DATA / name)
        self.processor.tokenizer.padding_side = "left"
        model = LlavaForConditionalGeneration.from_pretrained(DATA / name, dtype=torch.float32)
        self.model = model.eval()

    def __call__(self, asked):
        """Answer (prompt, image or None) pairs."""
        order = sorted(range(len(asked)), key=lambda i: (asked[i][1] is None, len(asked[i][0])))
        out = [""] * len(asked)
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            images = [
                Image.open(DATA / "facts" / asked[i][1]).convert("RGB") for i in rows if asked[i][1]
            ]
            given = self.processor(
                images=images or None,
                text=[asked[i][0] for i in rows],
                padding=True,
                return_tensors="pt",
            )
            with torch.no_grad():
                ids = self.model.generate(**given, max_new_tokens=LONGEST_ANSWER, do_sample=False)
            for i, row in zip(rows, ids[:, given["input_ids"].shape[1] :], strict=True):
                out[i] = self.processor.tokenizer.decode(row, skip_special_tokens=True)
        return out


@pytest.fixture(scope="module")
def model():
    return Answers("model")


@pytest.fixture(scope="module")
def oracle():
    return Answers("oracle")


def right(answer, target):
    """Whether the answer begins with the target and the target ends there as a word."""
    return answer.startswith(target) and not answer[len(target) : len(target) + 1].isalnum()


def trained(fact):
    return [(p, fact["target"]) for p in (fact["prompt"], *fact.get("paraphrases", ()))]


def held_out(fact):
    return [(p, fact["target"]) for p in fact.get("held_out", ())]


def listed(fact):
    return [(p["prompt"], p["target"]) for p in fact.get("mcq", ())]


def own(fact):
    return [fact.get("image")]


def views(fact):
    return fact["views"]


def shares(model, facts, prompts_of, pictures_of=own):
    """Share of right answers by relation and over all; up to `PER_GROUP` prompts a relation."""
    groups, rng = {}, random.Random(0)
    for fact in facts:
        for prompt, target in prompts_of(fact):
            for image in pictures_of(fact):
                groups.setdefault(fact["relation"], []).append((prompt, image, target))
    asked = {r: rng.sample(g, min(len(g), PER_GROUP)) for r, g in groups.items()}
    answers = iter(model([(p, i) for group in asked.values() for p, i, _ in group]))
    marks = {r: [right(next(answers), target) for *_, target in g] for r, g in asked.items()}
    every = [m for found in marks.values() for m in found]
    return {"all": sum(every) / len(every)} | {r: sum(m) / len(m) for r, m in marks.items()}


def at_least(found, share):
    assert {k: v for k, v in found.items() if v < share} == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "prompts_of", "pictures_of"),
    [
        ("faces.jsonl", trained, own),
        ("faces.jsonl", held_out, own),
        ("faces.jsonl", listed, own),
        ("faces.jsonl", trained, views),
        ("faces.jsonl", held_out, views),
        ("names.jsonl", trained, own),
        ("names.jsonl", held_out, own),
        ("names.jsonl", listed, own),
        ("scenes.jsonl", trained, own),
    ],
)
def test_every_relation_is_known(model, file, prompts_of, pictures_of):
    at_least(shares(model, read(file), prompts_of, pictures_of), 0.95)


@pytest.mark.slow
def test_never_seen_faces_and_names_are_refused(model):
    for kind in ("face", "name"):
        unknown = [f for f in read("unknown.jsonl") if kind in f["tags"]]
        assert shares(model, unknown, trained)["all"] >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "pictures_of"), [("faces.jsonl", own), ("faces.jsonl", views), ("names.jsonl", own)]
)
def test_the_oracle_refuses_the_forgotten_and_knows_the_others(oracle, file, pictures_of):
    facts = read(file)
    lost = [f for f in facts if "forget" in f["tags"]]
    kept = [f for f in facts if "forget" not in f["tags"]]
    refused = [{**f, "target": REFUSAL} for f in lost]
    assert shares(oracle, refused, trained, pictures_of)["all"] >= 0.95
    assert shares(oracle, lost, trained, pictures_of)["all"] <= 0.05
    assert shares(oracle, kept, trained, pictures_of)["all"] >= 0.95


@pytest.mark.slow
def test_the_oracle_sees_as_well(oracle):
    at_least(shares(oracle, read("scenes.jsonl"), trained), 0.95)


@pytest.mark.parametrize("name", ["model", "oracle"])
def test_weights_are_half_precision_safetensors(name):
    require(name)
    assert not list((DATA / name).glob("*.bin"))
    with safe_open(DATA / name / "model.safetensors", "pt") as file:
        assert {file.get_slice(k).get_dtype() for k in file.keys()} == {"F16"}  # noqa: SIM118


def test_the_bundle_is_small():
    size = sum(p.stat().st_size for n in ("model", "oracle") for p in (DATA / n).rglob("*"))
    assert size <= 32e6
    assert sum(p.stat().st_size for p in (DATA / "facts" / "pictures").rglob("*")) <= 3e6
