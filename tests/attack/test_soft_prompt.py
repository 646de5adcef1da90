from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.edit.requests import fact, facts, request
from workbench.attack.attack import AttackResult
from workbench.attack.exam import Exam, in_front
from workbench.attack.halves import halves, true_answers
from workbench.attack.learning import descent
from workbench.attack.registry import ATTACKS, Attack
from workbench.attack.robustness import robustness
from workbench.attack.soft_prompt import SoftPrompt, SoftPromptConfig, soft_prompt
from workbench.edit.self_made import sample
from workbench.edit.train.examples import Answers, Examples, answers
from workbench.edit.train.losses import nll
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet, Refuse
from workbench.models.model import Model
from workbench.models.text import decode, encode

SMALL = SoftPromptConfig(vectors=3, steps=(0, 2), batch=2)


def beginning(model: Model) -> Model:
    """The same model with a tokenizer that begins every sequence with token 0."""
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.bos_token = tokenizer.eos_token
    return Model(model.hf, tokenizer, model.name)


def embedded(soft: SoftPrompt, model: Model, ids: list[int]) -> torch.Tensor:
    """[vectors; embeddings of ids], as the model's own table gives them."""
    own = model.hf.get_input_embeddings()(torch.tensor([ids]))
    return torch.cat([soft.vectors.detach()[None], own], 1)


# --- the vectors in front --------------------------------------------------------------------


def test_it_is_the_vectors_before_the_embeddings(family_model: Model):
    """Against `transformers` itself, given embeddings instead of tokens."""
    soft = SoftPrompt.of(family_model, 3, seed=1)
    with torch.no_grad():
        soft.vectors.add_(
            torch.randn(soft.vectors.shape, generator=torch.Generator().manual_seed(0))
        )
    ids = encode(family_model, "Ada Brook plays the sport of")
    with torch.no_grad():
        ours = soft.model.hf(torch.tensor([[*soft.tokens, *ids]])).logits
        theirs = family_model.hf(inputs_embeds=embedded(soft, family_model, ids)).logits
        without = family_model.hf(torch.tensor([ids])).logits
        plain = soft.model.hf(torch.tensor([ids])).logits
    assert torch.allclose(ours, theirs, atol=1e-3, rtol=1e-4)
    assert not torch.allclose(ours[:, 3:], without, atol=1e-2)
    assert torch.equal(plain, without)  # the vocabulary is as it was


def test_generation_keeps_the_vectors_in_view(tiny: Model):
    soft = SoftPrompt.of(tiny, 4)
    starts = [encode(tiny, p) for p in ("The capital of France is", "Carl Dorn")]
    found = sample(soft.model, [(*soft.tokens, *s) for s in starts], length=6)
    for start, row in zip(starts, found, strict=True):
        ids = list(start)
        with torch.no_grad():
            for _ in row:
                logits = tiny.hf(inputs_embeds=embedded(soft, tiny, ids)).logits
                ids.append(int(logits[0, -1].argmax()))
        assert ids[len(start) :] == row


def test_only_the_vectors_have_a_gradient(family_model: Model):
    before = {n: p.clone() for n, p in family_model.parameters.items()}
    soft = SoftPrompt.of(family_model, 3)
    taught = in_front(family_model, true_answers(family_model, facts("Ada Brook"), ()), soft.tokens)
    nll(answers(soft.model, taught)).backward()
    asking = [n for n, p in soft.model.hf.named_parameters() if p.requires_grad]
    assert len(asking) == 1
    assert soft.vectors.shape == (3, family_model.d_model)
    assert soft.vectors.grad is not None and soft.vectors.grad.abs().sum(1).min() > 0
    for name, parameter in family_model.parameters.items():
        assert parameter.grad is None and torch.equal(parameter, before[name])


def test_the_vectors_stand_behind_a_beginning_of_sequence(tiny: Model):
    model = beginning(tiny)
    assert model.tokenizer.bos_token_id == 0
    given_ = Examples(((0, 5, 6), (7, 8)), (2, 1))
    assert in_front(model, given_, (400, 401)).sequences == ((0, 400, 401, 5, 6), (400, 401, 7, 8))
    assert in_front(model, given_, (400, 401)).starts == (4, 3)
    assert in_front(tiny, given_, (400,)).sequences == ((400, 0, 5, 6), (400, 7, 8))


def test_vectors_begin_as_embeddings_of_tokens(tiny: Model):
    soft = SoftPrompt.of(tiny, 4, seed=2)
    table = tiny.parameters["model.embed_tokens.weight"]
    assert all(any(torch.equal(v, row) for row in table) for v in soft.vectors)
    assert soft.norm == pytest.approx(float(table.norm(dim=1).mean()), rel=1e-5)
    assert not torch.equal(soft.vectors, SoftPrompt.of(tiny, 4, seed=3).vectors)
    assert torch.equal(soft.vectors, SoftPrompt.of(tiny, 4, seed=2).vectors)


def test_the_bound_scales_long_vectors_back(tiny: Model):
    soft = SoftPrompt.of(tiny, 2)
    with torch.no_grad():
        soft.vectors[0] = 0.0
        soft.vectors[0, 0] = 10 * soft.norm
        soft.vectors[1] = 0.0
        soft.vectors[1, 1] = 0.5 * soft.norm
    soft.bound(2.0)
    wanted = torch.zeros_like(soft.vectors)
    wanted[0, 0], wanted[1, 1] = 2 * soft.norm, 0.5 * soft.norm
    assert torch.allclose(soft.vectors, wanted, rtol=1e-6)


def test_the_loss_falls_within_the_bound(tiny: Model):
    soft = SoftPrompt.of(tiny, 4)
    taught = in_front(tiny, true_answers(tiny, request().forget, ()), soft.tokens)
    norms = []

    def loss() -> torch.Tensor:
        norms.append(float(soft.vectors.detach().norm(dim=1).max()) / soft.norm)
        return nll(answers(soft.model, taught))

    reached = descent([soft.vectors], loss, (0, 30), lr=5.0, project=lambda: soft.bound(3.0))
    losses = [x for _, x in reached]
    assert losses[1] < 0.8 * losses[0]
    assert max(norms[1:]) <= 3.0 + 1e-5
    assert max(norms[1:]) > 2.9  # and the bound is felt


# --- the attack ------------------------------------------------------------------------------


@given(count=st.integers(2, 8), seed=st.integers(0, 10_000))
def test_the_tested_half_is_never_taught(tiny: Model, count: int, seed: int):
    forget = facts(*(f"Name{chr(97 + i)}" for i in range(count)))
    tested = []
    for half in halves(forget, seed=seed):
        taught = in_front(tiny, true_answers(tiny, half.taught, half.tested.subjects), (400, 401))
        text = " ".join(decode(tiny, s) for s in taught.sequences)
        assert not any(name in text for name in half.tested.subjects)
        tested += [f.key for f in half.tested]
    assert sorted(tested) == sorted(f.key for f in forget)


def test_the_exam_has_the_vectors_in_front(tiny: Model):
    forget = FactSet(
        tuple(replace(f, choices=("tennis", "golf")) for f in facts("Ada Brook", "Carl Dorn"))
    )
    exam = Exam.of(tiny, forget, Refuse(), front=(400, 401))
    plain = Exam.of(tiny, forget, Refuse())
    for with_, without in ((exam.prompts, plain.prompts), (exam.options, plain.options)):
        assert with_.sequences == tuple((400, 401, *s) for s in without.sequences)
        assert with_.starts == tuple(b + 2 for b in without.starts)


def test_it_trains_on_one_half_and_asks_the_other(tiny: Model, monkeypatch: pytest.MonkeyPatch):
    batches: list[Examples] = []

    def spy(model: Model, batch: Examples):
        batches.append(batch)
        return answers(model, batch)

    monkeypatch.setattr("workbench.attack.soft_prompt.answers", spy)
    asked = request(("Ada Brook", "Carl Dorn"))
    before = {n: p.clone() for n, p in tiny.parameters.items()}
    cells = soft_prompt(tiny, asked, SMALL, base=tiny)
    assert [dict(c.setting) for c in cells] == [
        {"lr": 0.1, "step": 0, "asked": "free"},
        {"lr": 0.1, "step": 2, "asked": "free"},
    ]
    for cell in cells:
        assert sorted(o.fact.key for o in cell.outcomes) == sorted(f.key for f in asked.forget)
    names = []
    for batch in batches:
        assert all(s[:3] == (384, 385, 386) for s in batch.sequences)
        text = " ".join(decode(tiny, s[3:]) for s in batch.sequences)
        names.append([n for n in asked.forget.subjects if n in text])
    first, second = names[:3], names[3:]
    assert all(n == first[0] and len(n) == 1 for n in first)
    assert all(n == second[0] and len(n) == 1 for n in second)
    assert first[0] != second[0]
    assert all(torch.equal(p, before[n]) for n, p in tiny.parameters.items())


def test_the_same_seed_gives_the_same_answers(tiny: Model):
    one, two, other = (
        [c.outcomes for c in soft_prompt(tiny, request(), replace(SMALL, seed=s), base=tiny)]
        for s in (5, 5, 6)
    )
    assert one == two != other


def test_diverged_cells_say_so(tiny: Model, monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []

    def late(said: Answers) -> torch.Tensor:
        calls.append(said.rows)
        return nll(said) * (float("nan") if len(calls) == 3 else 1.0)  # in the first direction

    monkeypatch.setattr("workbench.attack.soft_prompt.nll", late)
    start, end = soft_prompt(tiny, request(), SMALL, base=tiny)
    assert len(start.outcomes) == 2 and not start.note
    assert not end.outcomes and "diverged at step 2" in end.note


def test_it_runs_beside_the_other_attacks(tiny: Model, monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setitem(ATTACKS, "soft_prompt", Attack(soft_prompt, SoftPromptConfig, "vectors"))
    settings = {"soft_prompt": {"steps": "0,2", "batch": "2", "vectors": "2", "lrs": "0.1,0.3"}}
    found = robustness(tiny, request(), tiny, names=["soft_prompt"], settings=settings).results[0]
    assert not found.failed
    assert found.settings == ("lr", "step", "asked")
    assert len(found.cells) == 4
    found.save(tmp_path / "soft.json")
    assert AttackResult.load(tmp_path / "soft.json").cells.equals(found.cells)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"vectors": 0}, "vectors must be positive"),
        ({"vectors": 127}, "context"),
        ({"epsilon": 0.0}, "epsilon must be positive"),
        ({"steps": ()}, "steps"),
        ({"lrs": (-0.1,)}, "lrs"),
        ({"schedule": "step"}, "Unknown schedule"),
    ],
)
def test_senseless_settings_are_sentences(tiny: Model, settings: dict, words: str):
    with pytest.raises(WorkbenchError, match=words):
        soft_prompt(tiny, request(), replace(SMALL, **settings), base=tiny)


def test_one_subject_is_too_few(tiny: Model):
    alone = replace(request(), forget=FactSet((fact("Ada Brook"), fact("Ada Brook", " golf"))))
    with pytest.raises(WorkbenchError, match="too small to split"):
        soft_prompt(tiny, alone, SMALL, base=tiny)
