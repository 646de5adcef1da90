"""The one command trains, writes half precision, and what it wrote loads in plain transformers."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbench.demo import build as b
from workbench.demo.train import Recipe


def test_a_short_build_loads_and_learns(tmp_path, monkeypatch):
    monkeypatch.setattr(b, "TOKENIZER_TEXTS", 400)
    losses = []

    def report(_done, _total, label):
        losses.append(float(label.split()[-1]))

    recipe = Recipe(steps=6, documents=10, micro_batches=2, warmup=1)
    progress = b.Progress(report=report)
    b.build(tmp_path, recipe=recipe, models=("oracle",), progress=progress)
    assert losses[-1] < losses[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["facts", "oracle"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "oracle", dtype="auto")
    assert {p.dtype for p in model.parameters()} == {torch.float16}
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert AutoTokenizer.from_pretrained(tmp_path / "oracle")("Hello.")["input_ids"]


def test_saving_replaces_a_folder_whole(tmp_path):
    recipe = Recipe(steps=1, documents=4, micro_batches=1)
    world = b.make_world(0)
    tokenizer = b.train_tokenizer(b.tokenizer_texts(world, 100, 7))
    model = b.train(b.Corpus(world), tokenizer, recipe)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "stale").write_text("")
    b.save(model, tokenizer, tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "stale").exists()


def test_facts_alone(tmp_path):
    b.main([str(tmp_path), "--only", "facts", "--steps", "2"])
    assert [p.name for p in tmp_path.iterdir()] == ["facts"]
