"""The bundled model, STAMP on one athlete, and a few attacks with base and oracle."""

from __future__ import annotations

import pytest

from workbench.attack.robustness import Robustness, robustness
from workbench.edit.stamp import StampConfig, stamp
from workbench.facts.fact import Request
from workbench.facts.request_files import load_request
from workbench.models.components import ComponentSet
from workbench.models.load import load
from workbench.models.model import Model

pytestmark = pytest.mark.slow
NAMES = ("multiple_choice", "sampling", "quantization", "logit_lens", "unlearning_depth")


@pytest.fixture(scope="module")
def models() -> tuple[Request, Model, Model]:
    request, base = load_request("athletes-1"), load("demo")
    config = StampConfig(confusable=200, named=50, context=20, generations=8)
    return request, base, stamp(base, request, ComponentSet.parse("mlp.0-3"), config).model


@pytest.fixture(scope="module")
def found(models: tuple[Request, Model, Model]) -> Robustness:
    request, base, edited = models
    settings = {"sampling": {"samples": 4}, "unlearning_depth": {"layers": 3}}
    oracle = load("demo-oracle")
    return robustness(edited, request, base, oracle, names=NAMES, settings=settings)


def test_the_facts_are_gone_and_were_there(found: Robustness) -> None:
    for result in found.results:
        assert not result.failed, result.failed
        assert (result.cells["before"] == 0).all() and (result.cells["base"] == 1).all()


@pytest.mark.parametrize("name", ["sampling", "quantization"])
def test_the_base_stands_these_attacks_and_the_oracle_knows_nothing(
    found: Robustness, name: str
) -> None:
    (cells,) = (r.cells for r in found.results if r.attack == name)
    assert (cells["base_attacked"] >= 0.9).all() and (cells["oracle_attacked"] <= 0.1).all()


def test_the_answer_stands_in_the_bases_late_layers_alone(found: Robustness) -> None:
    (cells,) = (r.cells for r in found.results if r.attack == "logit_lens")
    by_layer = cells.set_index("layer")["base_attacked"]
    assert by_layer[5] == 1 and by_layer[0] < 1


def test_the_bases_early_states_bring_the_answers_back(found: Robustness) -> None:
    (cells,) = (r.cells for r in found.results if r.attack == "unlearning_depth")
    back = cells.set_index(["positions", "layer"])["value"]
    assert back["all", 2] == 1 and back["last subject", 5] == 0
    assert found.headline is not None and found.headline["attack"] != "unlearning_depth"
