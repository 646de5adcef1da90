"""Controls and registry: budgets against plain counting, errors that name the nearest thing."""

from __future__ import annotations

import pytest

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet
from workbench.localize.controls import all_mlps, everything, random_components
from workbench.localize.registry import LOCALIZERS, localize, settings_of
from workbench.models.components import ComponentSet


def test_random_components_meet_the_budget_with_their_last_one_only(tiny):
    structure = tiny.structure
    for seed in range(5):
        chosen = random_components(structure, 15_000, seed=seed)
        sizes = [structure.n_parameters(ComponentSet((c,))) for c in chosen]
        assert sum(sizes) >= 15_000 > sum(sizes) - max(sizes)


def test_random_components_follow_the_seed_and_the_kinds(tiny):
    draws = {str(random_components(tiny.structure, 0.3, seed=s)) for s in range(8)}
    assert len(draws) > 1
    again = [random_components(tiny.structure, 0.3, seed=3) for _ in range(2)]
    assert again[0] == again[1]
    only = random_components(tiny.structure, 0.3, kinds=("mlp",), seed=1)
    assert {c.kind for c in only} == {"mlp"}


def test_a_share_is_of_all_mlp_and_attention_parameters(tiny):
    whole = sum(
        p.numel() for n, p in tiny.hf.named_parameters() if ".mlp." in n or ".self_attn." in n
    )
    half = random_components(tiny.structure, 0.5, seed=0)
    assert tiny.structure.n_parameters(half) >= whole / 2
    assert len(half) < len(everything(tiny.structure))


def test_all_mlps_and_everything(tiny):
    assert str(all_mlps(tiny.structure)) == "mlp.0-2"
    assert len(everything(tiny.structure)) == 6


@pytest.mark.parametrize("budget", [0, -1, float("nan")])
def test_a_budget_must_be_positive(tiny, budget):
    with pytest.raises(WorkbenchError, match="budget"):
        random_components(tiny.structure, budget)


def test_random_components_refuse_unknown_kinds(tiny):
    with pytest.raises(WorkbenchError, match="did you mean 'attn'"):
        random_components(tiny.structure, 10, kinds=("atn",))


def test_registry_names_the_nearest_localizer_and_setting(tiny):
    facts = FactSet((Fact("Ada Brook", "Ada Brook plays the sport of", " tennis"),))
    with pytest.raises(WorkbenchError, match="did you mean 'causal_tracing'"):
        localize("causal_tracin", tiny, facts)
    with pytest.raises(WorkbenchError, match="did you mean 'variant'"):
        localize("attribution_patching", tiny, facts, varient="atp")


def test_every_localizer_can_report_progress():
    assert set(LOCALIZERS) == {
        "causal_tracing",
        "activation_patching",
        "attribution_patching",
        "fact_lookup",
        "logit_lens",
    }
    assert all("progress" in settings_of(f) for f in LOCALIZERS.values())
