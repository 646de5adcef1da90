"""Causal tracing against one bridge pass per cell, and the properties that must hold exactly."""

from __future__ import annotations

import json

import pytest
import torch

from tests.localize import naive
from tests.localize.naive import PROMPT, known_fact, naive_cells, one_pair
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet
from workbench.localize import cone
from workbench.localize.causal_tracing import causal_tracing, window_variants
from workbench.localize.cone import patch_effects
from workbench.localize.corruption import Noise, Pair
from workbench.localize.localization import Localization
from workbench.localize.metrics import METRICS, logit_difference, probability
from workbench.localize.runs import Parts
from workbench.models.model import Model
from workbench.models.text import encode
from workbench.progress import Cancelled, Progress


def n_hooks(model: Model, parts: Parts | None = None) -> int:
    modules = [*model.hf.modules(), *(parts.hf.modules() if parts else ())]
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


def test_cone_equals_one_bridge_pass_per_cell(family_model: Model) -> None:
    pair = one_pair(family_model)
    for window in (1, 2):
        variants = window_variants(family_model.n_layers, ("resid", "mlp", "attn"), window)
        effects = patch_effects(family_model, [pair], variants, logit_difference)[0]
        wanted = naive_cells(family_model, pair, variants, denoise=True)
        scale = max(float(v.abs().max()) for v in wanted.values())
        assert scale > 1e-3
        for cell, values in wanted.items():
            error = float((effects.cells[cell] - values).abs().max())
            assert error <= 1e-6 * max(1.0, scale) * 5, (window, cell, error, scale)


def test_probability_equals_the_bridge_to_1e_6(family_model: Model) -> None:
    pair = one_pair(family_model)
    variants = window_variants(family_model.n_layers, ("resid", "mlp", "attn"), 3)
    effects = patch_effects(family_model, [pair], variants, probability)[0]
    target = torch.full((2,), pair.target)
    before = probability(naive.logits(family_model, pair.ids, pair.corrupted), target, None)
    for variant in variants[::2]:
        for t in (pair.first_corrupted, len(pair.ids) - 1):
            logits = naive.patched_logits(
                family_model, pair.ids, pair.corrupted, pair.clean, variant, t
            )
            wanted = probability(logits, target, None) - before
            assert torch.allclose(effects.cells[variant.cell][:, t], wanted, atol=1e-6)


def test_small_sweeps_give_the_same(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = one_pair(tiny)
    variants = window_variants(tiny.n_layers, ("resid", "mlp", "attn"), 2)
    whole = patch_effects(tiny, [pair], variants, logit_difference)[0]
    monkeypatch.setattr(cone, "_MAX_TOKENS", 1)
    single = patch_effects(tiny, [pair], variants, logit_difference)[0]
    for cell, values in whole.cells.items():
        assert torch.allclose(values, single.cells[cell], atol=1e-5)


def test_restoring_the_last_state_restores_everything(family_model: Model) -> None:
    pair = one_pair(family_model)
    last = family_model.n_layers - 1
    variants = window_variants(family_model.n_layers, ("resid",), 1)
    effects = patch_effects(family_model, [pair], variants, logit_difference)[0]
    whole = effects.clean - effects.corrupted
    assert torch.allclose(effects.cells["resid", last, -1][:, -1], whole, atol=1e-5)
    assert float(effects.cells["resid", last, -1][:, :-1].abs().max()) == 0.0


def test_restoring_what_is_there_changes_nothing(tiny: Model) -> None:
    pair = one_pair(tiny)
    same = Pair(pair.prompt, pair.ids, pair.clean, pair.clean.clone(), pair.target, pair.foil)
    variants = window_variants(tiny.n_layers, ("resid", "mlp", "attn"), 1)
    effects = patch_effects(tiny, [same], variants, logit_difference)[0]
    assert all(float(v.abs().max()) == 0.0 for v in effects.cells.values())
    # The same through the sweeps: where only the first token differs, in one sample of two, the
    # other sample's states are equal in both runs.
    corrupted = pair.clean.repeat(2, 1, 1)
    corrupted[1, 0] += 1.0
    half = Pair(pair.prompt, pair.ids, pair.clean, corrupted, pair.target, pair.foil)
    effects = patch_effects(tiny, [half], variants, logit_difference)[0]
    assert all(float(v[0].abs().max()) <= 1e-4 for v in effects.cells.values())
    assert any(float(v[1].abs().max()) > 1e-2 for v in effects.cells.values())


def test_no_effect_before_the_corrupted_token(family_model: Model) -> None:
    pair = one_pair(family_model)
    first = pair.first_corrupted
    assert 0 < first == pair.prompt.subject[0]
    variants = window_variants(family_model.n_layers, ("resid", "mlp", "attn"), 2)
    effects = patch_effects(family_model, [pair], variants, logit_difference)[0]
    assert all(float(v[:, :first].abs().max()) == 0.0 for v in effects.cells.values())


def test_windows_are_centred_and_clipped() -> None:
    spans = [(v.first, v.last) for v in window_variants(5, ("mlp",), 3)]
    assert spans == [(0, 1), (0, 2), (1, 3), (2, 4), (3, 4)]
    spans = [(v.first, v.last) for v in window_variants(3, ("resid",), 3)]
    assert spans == [
        (0, 0),
        (1, 1),
        (2, 2),
    ]
    assert [(v.first, v.last) for v in window_variants(3, ("attn",), 2)] == [(0, 0), (0, 1), (1, 2)]


def test_result_normalised_reproducible_and_complete(tiny: Model) -> None:
    fact = known_fact(tiny)
    stranger = Fact("Carl Dorn", "Carl Dorn plays", " qqqq")
    facts = FactSet((fact, stranger))
    first = causal_tracing(tiny, facts, corruption=Noise(samples=2, seed=3))
    again = causal_tracing(tiny, facts, corruption=Noise(samples=2, seed=3))
    assert isinstance(first, Localization)
    assert first.table.equals(again.table)
    assert first.left_out == (stranger.prompt,)
    assert first.n_facts == 1
    assert first.config["model_fingerprint"] == tiny.fingerprint
    assert json.loads(json.dumps(dict(first.config)))["corruption"]["seed"] == 3
    resid = first.grid("resid")
    assert float(resid.iloc[-1, -1]) == pytest.approx(1.0, abs=1e-4)
    assert len(first.table) == 3 * tiny.n_layers * len(encode(tiny, PROMPT))
    assert (first.table["token"] != "").all()


def test_hooks_and_model_stay_as_they_were(
    family_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, kept = one_pair(family_model), []
    of = Parts.of
    monkeypatch.setattr(Parts, "of", staticmethod(lambda m: kept.append(of(m)) or kept[-1]))
    variants = window_variants(family_model.n_layers, ("resid", "mlp", "attn"), 2)
    before, calls = n_hooks(family_model), []

    def failing(logits, target, foil):
        calls.append(len(logits))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return METRICS["probability"](logits, target, foil)

    with pytest.raises(KeyboardInterrupt):
        patch_effects(family_model, [pair], variants, failing)
    assert n_hooks(family_model, kept[-1]) == before + n_hooks(family_model)
    block = kept[-1].blocks[-1]
    monkeypatch.setattr(block, "forward", lambda *a, **k: 1 / 0)
    monkeypatch.setattr(Parts, "of", staticmethod(lambda m: kept[-1]))
    with pytest.raises(ZeroDivisionError):
        patch_effects(family_model, [pair], variants, probability)
    assert n_hooks(family_model, kept[-1]) == before + n_hooks(family_model)
    assert not any(p.requires_grad for p in family_model.hf.parameters())


def test_cancel_stops_between_positions(tiny: Model) -> None:
    seen: list[int] = []
    progress = Progress(
        report=lambda done, total, label: seen.append(done), cancelled=lambda: len(seen) >= 3
    )
    pair = one_pair(tiny)
    variants = window_variants(tiny.n_layers, ("resid",), 1)
    with pytest.raises(Cancelled):
        patch_effects(tiny, [pair], variants, probability, progress=progress)
    assert 0 < seen[-1] < len(pair.ids)


def test_wrong_settings_get_a_sentence(tiny: Model) -> None:
    facts = FactSet((known_fact(tiny),))
    with pytest.raises(WorkbenchError, match="did you mean 'resid'"):
        causal_tracing(tiny, facts, kinds=("residual",))
    with pytest.raises(WorkbenchError, match="window"):
        causal_tracing(tiny, facts, window=0)
    with pytest.raises(WorkbenchError, match="No kind"):
        causal_tracing(tiny, facts, kinds=())
    with pytest.raises(WorkbenchError, match="metric"):
        causal_tracing(tiny, facts, metric="probabilty")
    with pytest.raises(WorkbenchError, match="does not know this fact"):
        causal_tracing(tiny, FactSet((Fact("Carl Dorn", "Carl Dorn plays", " qqqq"),)))
