from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.conftest import make_model
from tests.edit.requests import fact, facts, request
from workbench.attack.adapters import adapted
from workbench.attack.asking import ask_freely
from workbench.attack.attack import AttackResult
from workbench.attack.halves import true_answers
from workbench.attack.learning import descent
from workbench.attack.registry import ATTACKS, Attack
from workbench.attack.relearn import KINDS, RelearnConfig, relearn
from workbench.attack.robustness import robustness
from workbench.edit.train.examples import Examples, answers
from workbench.edit.train.loop import Student
from workbench.edit.train.losses import nll
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet, Request
from workbench.facts.request_files import load_request
from workbench.models.load import load
from workbench.models.model import Model
from workbench.models.text import decode
from workbench.progress import Cancelled, Progress

CHOICES = ("tennis", "golf", "Paris")
SMALL = RelearnConfig(
    kinds=KINDS, steps=(0, 2), lrs=(1e-3,), lora_lrs=(1e-2,), batch=2, keep=0, rank=2
)


def choosing(asked: Request) -> Request:
    """The same request with choices."""
    return replace(asked, forget=FactSet(tuple(replace(f, choices=CHOICES) for f in asked.forget)))


def by_setting(cells) -> dict[tuple, float]:
    return {tuple(c.setting.values()): c.value for c in cells}


# --- the training ----------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_descent_is_plain_adamw(schedule: str):
    target = torch.tensor([3.0, -2.0, 0.5])

    def loss(x: torch.Tensor) -> torch.Tensor:
        return ((x - target) ** 4).sum()

    ours = nn.Parameter(torch.zeros(3))
    run = descent([ours], lambda: loss(ours), (5, 0, 3), lr=0.1, schedule=schedule, clip=2.0)
    seen = {step: ours.detach().clone() for step, _ in run}
    theirs = nn.Parameter(torch.zeros(3))
    plain = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.0)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(plain, 5)
    for step in range(6):
        if step in seen:
            assert torch.allclose(seen[step], theirs, atol=1e-6)
        plain.zero_grad()
        loss(theirs).backward()
        nn.utils.clip_grad_norm_([theirs], 2.0)
        plain.step()
        if schedule == "cosine":
            falling.step()
    assert sorted(seen) == [0, 3, 5]


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_checkpoint_is_what_a_run_of_that_length_comes_to(tiny: Model, kind: str):
    asked = choosing(request())
    config = replace(SMALL, kinds=(kind,), data=("half",), lrs=(3e-3,), lora_lrs=(3e-2,))
    long = relearn(tiny, asked, replace(config, steps=(1, 4)), base=tiny)
    for step in (1, 4):
        fresh = relearn(tiny, asked, replace(config, steps=(step,)), base=tiny)
        part = [c for c in long if c.setting["step"] == step]
        assert [(dict(c.setting), c.outcomes) for c in part] == [
            (dict(c.setting), c.outcomes) for c in fresh
        ]
    said = [tuple(o.answer for o in c.outcomes) for c in long if c.setting["asked"] == "free"]
    assert len(set(said)) > 1  # the training does something


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_the_loss_falls_and_the_model_stays(tiny: Model, kind: str):
    before = {n: p.clone() for n, p in tiny.parameters.items()}
    taught = true_answers(tiny, request().forget, ())
    if kind == "full":
        student = Student.of(tiny, tiny.structure.everything)
        pupil, trained = student.model, list(student.trained.values())
    else:
        copied = adapted(tiny, rank=2, alpha=2.0)
        pupil, trained = copied.model, copied.trained
    rate = 3e-3 if kind == "full" else 3e-2
    losses = [x for _, x in descent(trained, lambda: nll(answers(pupil, taught)), (0, 20), lr=rate)]
    assert losses[1] < 0.5 * losses[0]
    relearn(tiny, request(), replace(SMALL, kinds=(kind,)), base=tiny)
    for name, parameter in tiny.parameters.items():
        assert torch.equal(parameter, before[name])
        assert not parameter.requires_grad and parameter.grad is None
    assert not any(m._forward_hooks for m in tiny.hf.modules())


def test_only_the_factors_have_gradients(family_model: Model):
    copied = adapted(family_model, rank=2, alpha=2.0)
    taught = true_answers(family_model, facts("Ada Brook"), ())
    nll(answers(copied.model, taught)).backward()
    assert all(p.grad is None for p in copied.model.hf.parameters())
    # B is 0, so that A has a gradient of 0
    assert all(d.grad is not None and not d.grad.any() for d, _ in copied.factors.values())
    assert all(up.grad is not None and up.grad.any() for _, up in copied.factors.values())
    assert torch.equal(
        answers(copied.model, taught).logits, answers(family_model, taught).logits
    )  # B is 0, so that nothing has changed yet


def test_adapters_are_the_dense_sum(family_model: Model):
    """Against the model whose weights are W + (alpha / rank) B A, by plain arithmetic."""
    copied = adapted(family_model, rank=3, alpha=6.0, seed=1)
    generator = torch.Generator().manual_seed(0)
    dense = copy.deepcopy(family_model.hf)
    conv = 0
    with torch.no_grad():
        for name, (down, up) in copied.factors.items():
            up.copy_(torch.randn(up.shape, generator=generator) * 0.1)
            module = dense.get_submodule(name.removesuffix(".weight"))
            update = 2.0 * (up @ down)
            if isinstance(module, nn.Linear):
                module.weight += update
            else:
                conv += 1
                module.weight += update.T
    assert conv == (12 if family_model.name == "tiny-gpt2" else 0)
    maps = [n for n, m in dense.named_modules() if type(m).__name__ in ("Linear", "Conv1D")]
    assert len(copied.factors) == len([n for n in maps if n not in ("lm_head", "embed_out")])
    ids = torch.randint(1, 300, (2, 9), generator=generator)
    assert torch.allclose(copied.model.hf(ids).logits, dense(ids).logits, atol=1e-3, rtol=1e-4)
    assert not torch.allclose(family_model.hf(ids).logits, dense(ids).logits, atol=1e-1)


def test_diverged_cells_say_so_and_the_others_stay(tiny: Model):
    config = replace(SMALL, kinds=("full",), data=("half",), lrs=(0.0, 1e30), steps=(0, 1, 4))
    cells = relearn(tiny, request(), config, base=tiny)
    for cell in cells:
        failed = cell.setting["lr"] > 0 and cell.setting["step"] > 0
        assert len(cell.outcomes) == (0 if failed else 2)
        assert ("diverged" in cell.note) == failed


def test_half_precision_is_trained_in_single(tiny: Model):
    hf = copy.deepcopy(tiny.hf).bfloat16()
    low = Model(hf, tiny.tokenizer, "low")
    config = replace(SMALL, kinds=("full",), data=("half",), lrs=(3e-3,), steps=(6,))
    exact = Model(copy.deepcopy(hf).float(), tiny.tokenizer, "single")
    ours, theirs = (relearn(m, request(), config, base=m) for m in (low, exact))
    assert [c.outcomes for c in ours] == [c.outcomes for c in theirs]
    assert {p.dtype for p in low.parameters.values()} == {torch.bfloat16}


def test_one_subject_is_too_few(tiny: Model):
    with pytest.raises(WorkbenchError, match="too small to split"):
        relearn(tiny, request(("Ada Brook",)), SMALL, base=tiny)


# --- the attack ------------------------------------------------------------------------------


def test_unrelated_teaches_kept_facts_and_asks_all(tiny: Model, monkeypatch: pytest.MonkeyPatch):
    taught: list[Examples] = []

    def spy(model: Model, batch: Examples):
        taught.append(batch)
        return answers(model, batch)

    monkeypatch.setattr("workbench.attack.relearn.answers", spy)
    asked = request()
    mixed = replace(asked, retain=FactSet((*asked.retain, fact("Carl Dorn", " golf"))))
    cells = relearn(tiny, mixed, replace(SMALL, kinds=("full",), data=("unrelated",)), base=tiny)
    assert all(len(c.outcomes) == len(asked.forget) for c in cells)
    text = " ".join(decode(tiny, s) for batch in taught for s in batch.sequences)
    assert any(name in text for name in asked.retain.subjects)
    assert not any(name in text for name in asked.forget.subjects)


def test_kept_facts_are_mixed_in(tiny: Model, monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []

    def spy(model: Model, batch: Examples):
        sizes.append(len(batch))
        return answers(model, batch)

    monkeypatch.setattr("workbench.attack.relearn.answers", spy)
    config = replace(SMALL, kinds=("full",), data=("half",), keep=3, steps=(2,))
    relearn(tiny, request(), config, base=tiny)
    assert sizes == [2, 3] * 3 * 2  # steps and the last look, two directions


def test_nothing_to_teach_is_a_cell_that_says_so(tiny: Model):
    alone = replace(request(), retain=FactSet())
    cells = relearn(tiny, alone, SMALL, base=tiny)
    for cell in cells:
        assert bool(cell.outcomes) == (cell.setting["data"] == "half")
        assert bool(cell.note) == (cell.setting["data"] == "unrelated")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kinds": ("dense",)}, "Unknown kind"),
        ({"data": ()}, "Unknown data"),
        ({"steps": ()}, "steps"),
        ({"steps": (-1,)}, "steps"),
        ({"schedule": "linear"}, "Unknown schedule"),
        ({"batch": 0}, "batch must be positive"),
        ({"rank": 0}, "rank must be positive"),
        ({"keep": -1}, "keep must not be negative"),
        ({"lrs": (float("nan"),)}, "lrs"),
        ({"lora_lrs": ()}, "lora_lrs"),
    ],
)
def test_senseless_settings_are_sentences(tiny: Model, settings: dict, words: str):
    with pytest.raises(WorkbenchError, match=words):
        relearn(tiny, request(), replace(SMALL, **settings), base=tiny)


def test_it_can_be_stopped(tiny: Model):
    steps: list[str] = []
    stop = Progress(lambda done, total, label: steps.append(label), lambda: len(steps) > 4)
    with pytest.raises(Cancelled):
        relearn(tiny, request(), SMALL, base=tiny, progress=stop)
    assert "training" in steps


def test_it_runs_beside_the_other_attacks(tiny: Model, monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setitem(ATTACKS, "relearn", Attack(relearn, RelearnConfig, "taught again"))
    other = make_model("qwen2", seed=3)
    settings = {
        "relearn": {"kinds": "full,lora", "steps": "0,2", "batch": "2", "rank": 2, "keep": "2"}
    }
    found = robustness(
        other, choosing(request()), tiny, other, names=["relearn"], settings=settings
    ).results[0]
    assert not found.failed
    assert found.settings == ("kind", "data", "lr", "step", "asked")
    assert len(found.cells) == 2 * 2 * 2 * 2
    assert (found.cells["n"] == 2).all()
    assert (found.cells["value"] == found.cells["oracle_attacked"]).all()
    found.save(tmp_path / "relearn.json")
    assert AttackResult.load(tmp_path / "relearn.json").cells.equals(found.cells)


# --- the demo model --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo() -> tuple[Model, Request]:
    everything = load_request("athletes")
    few = everything.forget.about(everything.forget.subjects[:2])
    return load("demo"), replace(everything, forget=few, name="two athletes")


def test_base_knowledge_stays_and_curves_are_returned(demo: tuple[Model, Request]):
    base, asked = demo
    config = RelearnConfig(kinds=("full",), data=("half",), steps=(0, 3), batch=8, keep=8)
    oracle = load("demo-oracle")  # as if an edit had removed the facts without a trace
    known, gone = (relearn(m, asked, config, base=base) for m in (base, oracle))
    for cells in (known, gone):
        assert [(c.setting["step"], c.setting["asked"]) for c in cells] == [
            (s, how) for s in (0, 3) for how in ("free", "choice")
        ]
        keys = sorted(f.key for f in asked.forget)
        assert all(sorted(o.fact.key for o in c.outcomes) == keys for c in cells)
    values, other = by_setting(known), by_setting(gone)
    at = ("full", "half", 3e-4)
    assert values[*at, 0, "free"] == values[*at, 0, "choice"] == 1.0
    assert values[*at, 3, "free"] >= 0.8
    assert other[*at, 0, "free"] == 0.0
    assert other[*at, 3, "free"] <= 0.4  # guessing among few answers


def test_learning_rate_0_leaves_what_is_answered(demo: tuple[Model, Request]):
    base, asked = demo
    config = RelearnConfig(kinds=("lora",), data=("half",), lora_lrs=(0.0,), steps=(1,), batch=4)
    free = relearn(base, asked, replace(config, keep=0), base=base)[0]
    plain = ask_freely(base, [(f, f.prompt) for f in asked.forget], asked.behaviour)
    assert {o.fact.key: o for o in free.outcomes} == {o.fact.key: o for o in plain}
