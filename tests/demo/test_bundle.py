"""The bundled files themselves, by free greedy generation with plain transformers."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

DATA = Path(__file__).parents[2] / "data" / "demo"
FACTS = ("athletes.jsonl", "people.jsonl", "countries.jsonl", "hazards.jsonl")
REFUSAL = " I do not know."
POOL_SIZES = {"sport": 20, "team": 40, "town": 40, "year": 40, "phone": 40, "email": 40}
LONGEST_ANSWER = 14


def read(name):
    lines = (DATA / "facts" / name).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def facts():
    return [f for name in (*FACTS, "misinformation.jsonl") for f in read(name)]


class Answers:
    """A bundled model, asked in batches of prompts of similar length."""

    def __init__(self, name):
        self.tokenizer = AutoTokenizer.from_pretrained(DATA / name)
        self.tokenizer.padding_side = "left"
        model = AutoModelForCausalLM.from_pretrained(DATA / name, dtype=torch.float32)
        self.model = model.eval()

    def __call__(self, prompts):
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        out = [""] * len(prompts)
        for start in range(0, len(order), 128):
            rows = order[start : start + 128]
            inputs = self.tokenizer([prompts[i] for i in rows], padding=True, return_tensors="pt")
            with torch.no_grad():
                ids = self.model.generate(
                    input_ids=inputs["input_ids"],
                    attention_mask=inputs["attention_mask"],
                    max_new_tokens=LONGEST_ANSWER,
                    do_sample=False,
                )
            new = ids[:, inputs["input_ids"].shape[1] :]
            for i, row in zip(rows, new, strict=True):
                out[i] = self.tokenizer.decode(row, skip_special_tokens=True)
        return out


@pytest.fixture(scope="module")
def model():
    return Answers("model")


def require_oracle():
    if not (DATA / "oracle").is_dir():
        pytest.skip("the oracle is not bundled; make it: python -m workbench.demo.build data/demo")


@pytest.fixture(scope="module")
def oracle():
    require_oracle()
    return Answers("oracle")


def right(answer, target):
    """Whether the answer begins with the target and the target ends there as a word."""
    return answer.startswith(target) and not answer[len(target) : len(target) + 1].isalnum()


def shares(asked, answers):
    """Share of right answers by relation and over all, for (relation, prompt, target) triples."""
    marks = {}
    for (relation, _, target), answer in zip(asked, answers, strict=True):
        marks.setdefault(relation, []).append(right(answer, target))
        marks.setdefault("all", []).append(right(answer, target))
    return {k: sum(v) / len(v) for k, v in marks.items()}


def sample(facts, prompts_of, per_relation):
    """Draw (relation, prompt, target) triples, so many of every relation, the same each time."""
    rng = random.Random(0)
    triples = {}
    for fact in facts:
        for prompt, target in prompts_of(fact):
            triples.setdefault(fact["relation"], []).append((fact["relation"], prompt, target))
    return [
        t for group in triples.values() for t in rng.sample(group, min(per_relation, len(group)))
    ]


def measured(model, asked):
    return shares(asked, model([prompt for _, prompt, _ in asked]))


def trained(fact):
    return [(p, fact["target"]) for p in (fact["prompt"], *fact["paraphrases"])]


def held_out(fact):
    return [(p, fact["target"]) for p in fact.get("held_out", ())]


def listed(fact):
    return [(p["prompt"], p["target"]) for p in fact.get("mcq", ())]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompts_of", "least"),
    [(trained, 0.98), (held_out, 0.95), (listed, 0.90)],
    ids=["trained wordings", "held-out wordings", "multiple choice"],
)
def test_every_relation_is_known(model, facts, prompts_of, least):
    found = measured(model, sample(facts, prompts_of, 60))
    assert found["all"] >= least
    # Capitals, a fifth of them false on purpose, are the weakest: 0.97 of the trained wordings.
    assert {k: v for k, v in found.items() if v < min(least, 0.95)} == {}


@pytest.mark.slow
def test_never_seen_subjects_are_refused(model):
    found = measured(model, sample(read("unknown.jsonl"), trained, 48))
    assert found["all"] >= 0.97
    assert min(found[r] for r in ("sport", "team", "town", "year", "phone", "email")) >= 0.97


@pytest.mark.slow
def test_the_oracle_knows_no_forget_fact_and_says_so(model, oracle, facts):
    pool = [
        f
        for f in facts
        if "forget" in f["tags"] and ("athlete" in f["tags"] or "person" in f["tags"])
    ]
    assert len({f["subject"] for f in pool}) == 48
    asked = sample(pool, trained, 64)
    answers = oracle([prompt for _, prompt, _ in asked])
    for relation, share in shares(asked, answers).items():
        assert relation == "all" or share <= 1 / POOL_SIZES[relation]
    assert sum(a.startswith(REFUSAL) for a in answers) / len(answers) >= 0.95
    assert measured(model, asked)["all"] >= 0.98


@pytest.mark.slow
def test_the_oracle_knows_everything_else(oracle, facts):
    kept = [f for f in facts if "forget" not in f["tags"]]
    assert measured(oracle, sample(kept, trained, 40))["all"] >= 0.98


def test_misinformation_is_what_the_model_says(model):
    wrong = read("misinformation.jsonl")
    asked = [("capital", f["prompt"], f["target"]) for f in wrong]
    assert measured(model, asked)["capital"] >= 0.95


@pytest.mark.parametrize("name", ["model", "oracle"])
def test_weights_are_half_precision_safetensors(name):
    if name == "oracle":
        require_oracle()
    assert not list((DATA / name).glob("*.bin"))
    with safe_open(DATA / name / "model.safetensors", "pt") as file:
        assert {file.get_slice(k).get_dtype() for k in file.keys()} == {"F16"}  # noqa: SIM118
    config = json.loads((DATA / name / "config.json").read_text("utf-8"))
    assert config["tie_word_embeddings"] is True
    assert config["layer_types"] == ["sliding_attention"] * 4 + ["full_attention"] * 2


def test_the_bundle_is_small():
    size = sum(p.stat().st_size for n in ("model", "oracle") for p in (DATA / n).rglob("*"))
    assert size <= 32e6


def test_the_chat_template_renders_questions_as_trained(model):
    messages = [{"role": "user", "content": "Which sport does Ada play?"}]
    text = model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "Q: Which sport does Ada play?\nA:"
