"""Places have equal budgets, whoever found them; random ones follow the seed."""

from __future__ import annotations

import pytest
from tiny_files import known_facts, tiny_folder

from workbench.compare import places
from workbench.compare.places import budget_of, check_place, is_random, place, place_names
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet
from workbench.localize.causal_tracing import causal_tracing
from workbench.localize.corruption import Noise, Replacement
from workbench.localize.localization import Localization
from workbench.models.components import Component, ComponentSet
from workbench.models.load import load
from workbench.models.model import Model

FACTS = FactSet(known_facts().facts[:4])
FOUND = ("causal_tracing", "activation_patching", "attribution_patching", "logit_lens")
BUDGETS = ("mlp.0", "mlp.0-1", "mlp.0, attn.0", "attn.1")


@pytest.fixture(scope="module")
def model() -> Model:
    return load(tiny_folder())


def sizes(model: Model, chosen: ComponentSet) -> list[int]:
    return [model.structure.n_parameters(ComponentSet((c,))) for c in chosen]


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", [*FOUND, "random"])
def test_whole_components_until_the_budget_is_met(model: Model, name: str, budget: str) -> None:
    """The last component reaches it: without some one of them it would not be met."""
    wanted = budget_of(model.structure, budget)
    for form in (name, f"{name}_mlps"):
        chosen = place(form, model, FACTS, wanted)
        each = sizes(model, chosen)
        assert sum(each) >= wanted > sum(each) - max(each)
        kinds = {c.kind for c in chosen}
        assert kinds <= ({"mlp"} if form.endswith("_mlps") else {"mlp", "attn"})
        assert all(c.index == -1 for c in chosen)


@pytest.mark.parametrize("budget", ["mlp.0", "mlp.0-1"])
def test_all_mlps_places_have_the_very_same_number_of_parameters(model: Model, budget: str) -> None:
    wanted = budget_of(model.structure, budget)
    names = [f"{name}_mlps" for name in (*FOUND, "random")]
    counts = {sum(sizes(model, place(n, model, FACTS, wanted))) for n in names}
    assert counts == {wanted}


def test_random_places_follow_the_seed(model: Model) -> None:
    wanted = budget_of(model.structure, "mlp.0, attn.0")

    def drawn(name: str) -> list[str]:
        return [str(place(name, model, FACTS, wanted, seed=s)) for s in range(8)]

    for name in ("random", "random_mlps"):
        assert is_random(name) and drawn(name) == drawn(name)
        assert len(set(drawn(name))) > 1
    assert not any(is_random(n) for n in place_names() if not n.startswith("random"))


def test_a_found_place_is_the_localizers_own_with_the_seed(model: Model) -> None:
    wanted = budget_of(model.structure, "mlp.0-1")
    for seed in (0, 5):
        own = causal_tracing(model, FACTS, corruption=Noise(seed=seed))
        for name, kinds in (("causal_tracing", ("mlp", "attn")), ("causal_tracing_mlps", ("mlp",))):
            chosen = place(name, model, FACTS, wanted, seed=seed)
            assert chosen == own.choose(parameters=wanted, kinds=kinds)


def test_a_place_is_localized_once_with_each_seed_that_matters(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = causal_tracing(model, FACTS)
    seen: list[tuple[str, dict[str, object]]] = []

    def counted(name: str, *_: object, progress: object, **settings: object) -> Localization:
        seen.append((name, settings))
        return found

    monkeypatch.setattr(places, "localize", counted)
    monkeypatch.setattr(places, "_KEPT", {})
    names = ("causal_tracing", "attribution_patching", "fact_lookup", "logit_lens")
    for name in names:
        for form in (name, f"{name}_mlps", name):
            for seed in (0, 1):
                place(form, model, FACTS, 1000, seed=seed)
    assert seen == [
        *(("causal_tracing", {"corruption": Noise(seed=s)}) for s in (0, 1)),
        *(("attribution_patching", {"corruption": Replacement(seed=s)}) for s in (0, 1)),
        *(("fact_lookup", {"seed": s}) for s in (0, 1)),
        ("logit_lens", {}),  # it draws nothing
    ]


def test_a_localizer_looks_at_so_many_facts_drawn_with_the_seed(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = causal_tracing(model, FACTS)
    seen: dict[tuple[int | None, int], frozenset[str]] = {}

    def noted(_: str, __: Model, facts: FactSet, **settings: object) -> Localization:
        seen[most, seed] = frozenset(f.prompt for f in facts)
        return found

    monkeypatch.setattr(places, "localize", noted)
    monkeypatch.setattr(places, "_KEPT", {})
    for most in (None, 9, 2):
        for seed in range(6):
            place("causal_tracing", model, FACTS, 1000, most=most, seed=seed)
    everything = frozenset(f.prompt for f in FACTS)
    for (most, _), prompts in seen.items():
        assert prompts <= everything and len(prompts) == min(len(FACTS), most or 99)
    assert len({seen[2, seed] for seed in range(6)}) > 1


def test_controls_and_written_components_are_as_they_are(model: Model) -> None:
    def chosen(name: str) -> ComponentSet:
        return place(name, model, FACTS, 1)

    assert chosen("all_mlps") == ComponentSet.parse("mlp.0-2")
    assert chosen("everything") == ComponentSet.parse("mlp.0-2, attn.0-2")
    assert chosen("mlp.1, head.2.1") == ComponentSet((Component(1, "mlp"), Component(2, "head", 1)))


def test_a_budget_is_a_number_a_share_or_components(model: Model) -> None:
    """MLP: 3 x 32 x 48. Attention: 2 x (32 x 32 + 32 x 16), biases of query, key and value."""
    structure = model.structure
    mlp, attn = 3 * 32 * 48, 2 * (32 * 32 + 32 * 16) + 32 + 16 + 16
    assert budget_of(structure, 5000) == 5000
    assert budget_of(structure, 5000.4) == 5000
    assert budget_of(structure, 0.5) == round(0.5 * 3 * (mlp + attn))
    assert budget_of(structure, "mlp.0-1, attn.2") == 2 * mlp + attn
    with pytest.raises(WorkbenchError, match="layers 0 to 2"):
        budget_of(structure, "mlp.0-9")


@pytest.mark.parametrize("name", place_names())
def test_every_name_is_a_place(name: str) -> None:
    check_place(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("causal_tracin", "did you mean 'causal_tracing'"),
        ("mlp.a", "Cannot read component"),
        ("", "Unknown place"),
    ],
)
def test_other_names_are_sentences(model: Model, name: str, words: str) -> None:
    with pytest.raises(WorkbenchError, match=words):
        place(name, model, FACTS, 1000)
