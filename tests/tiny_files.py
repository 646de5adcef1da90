"""A tiny checkpoint on disk with facts that it knows, for tests of the command line and the job."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from conftest import make_model

from workbench.facts.fact import Fact, FactSet
from workbench.facts.known import split_known
from workbench.models.load import load
from workbench.models.text import next_token_logits

NAMES = ("Ada Brook", "Carl Dorn", "Danielle", "France", "Norway", "Paris", "Oslo", "Darrieux")
UNKNOWN = ("Tongue", "Tennis", "Capital", "Sport", "Plays")
FORM = "Question: Which sport does {} play?\nAnswer:"


@cache
def tiny_folder() -> Path:
    """Save a tiny random model once."""
    folder = Path(mkdtemp(prefix="tiny-model-"))
    model = make_model("qwen2")
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@cache
def known_facts() -> FactSet:
    """Facts of one relation whose target is what the tiny model says anyway."""
    model = load(tiny_folder())
    found = []
    for name in NAMES:
        prompt = FORM.format(name)
        best = int(next_token_logits(model, [prompt])[0].argmax())
        target = model.tokenizer.decode([best])
        if target.strip():
            other = f"{name} plays the sport of"
            found.append(Fact(name, prompt, target, relation="sport", statements=(other,)))
    return split_known(model, FactSet(tuple(found))).known


def write_lines(path: Path, facts: FactSet) -> Path:
    path.write_text("".join(json.dumps(f.to_json()) + "\n" for f in facts), encoding="utf-8")
    return path


def request_file(folder: Path, forget: int = 2) -> Path:
    """Write a request about the known facts: the first `forget` go, the others stay."""
    facts = known_facts()
    assert len(facts) >= forget + 2
    write_lines(folder / "facts.jsonl", facts)
    unknown = [Fact(n, FORM.format(n), " I do not know.", relation="sport") for n in UNKNOWN]
    write_lines(folder / "unknown.jsonl", FactSet(tuple(unknown)))
    names = list(facts.subjects)
    request = {
        "forget": [{"file": "facts.jsonl", "subjects": names[:forget]}],
        "retain": [{"file": "facts.jsonl", "subjects": names[forget:-1]}],
        "evaluate": [{"file": "facts.jsonl", "subjects": names[-1:]}],
        "unknown": [{"file": "unknown.jsonl"}],
    }
    path = folder / "small.json"
    path.write_text(json.dumps(request), encoding="utf-8")
    return path
