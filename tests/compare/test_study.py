"""A study is checked before anything runs, and every fault is one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workbench.compare.study import Study, make_study, read_study
from workbench.errors import WorkbenchError

GOOD = """
name = "athletes"
model = "demo"
oracle = "demo-oracle"
request = "athletes"
seeds = [0, 1, 2]
budget = 0.25
allowed_drop = 0.05

[[method]]
method = "stamp"
name = "ours"
places = ["causal_tracing_mlps", "random", "mlp.1-2"]
settings = {spread = true, solve = "ridge"}
search = {weight = [10, 30.5], ridge = [1e-3, 1e-4]}

[[method]]
method = "ga"
places = ["everything"]
search = {lr = [1e-3, 1e-4], steps = [10, 20]}

[[attack]]
attack = "pruning"
settings = {shares = [0.1, 0.2]}
"""
METHOD: dict[str, Any] = {"method": "stamp", "places": ["random"]}


def study(**more: Any) -> dict[str, Any]:
    given = {"name": "x", "request": "athletes", "budget": "mlp.0-3", "method": [METHOD], **more}
    return {key: value for key, value in given.items() if value is not None}


def method(**more: Any) -> dict[str, Any]:
    given = {**METHOD, **more}
    return study(method=[{key: value for key, value in given.items() if value is not None}])


def attack(name: str, **settings: Any) -> dict[str, Any]:
    return study(attack=[{"attack": name, "settings": settings}])


def test_a_good_study_is_read(tmp_path: Path) -> None:
    path = tmp_path / "athletes.toml"
    path.write_text(GOOD, encoding="utf-8")
    found = read_study(path)
    assert (found.seeds, found.budget, found.limit, found.oracle) == (
        (0, 1, 2),
        0.25,
        200,
        "demo-oracle",
    )
    ours, ga = found.method
    assert (ours.label, ga.label) == ("ours", "ga")
    fixed = {"spread": True, "solve": "ridge"}
    assert ours.candidates == (
        {**fixed, "weight": 10, "ridge": 1e-3},
        {**fixed, "weight": 10, "ridge": 1e-4},
        {**fixed, "weight": 30.5, "ridge": 1e-3},
        {**fixed, "weight": 30.5, "ridge": 1e-4},
    )
    assert len(ga.candidates) == 4 and found.attack[0].settings == {"shares": (0.1, 0.2)}


def test_a_study_sent_to_a_worker_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "athletes.toml"
    path.write_text(GOOD, encoding="utf-8")
    found = read_study(path)
    text = found.model_dump_json()
    again = make_study(json.loads(text))
    assert again == found and again.model_dump_json() == text
    weights = again.method[0].search["weight"]
    assert [type(w) for w in weights] == [int, float]


def test_without_a_search_the_settings_alone_are_tried() -> None:
    (entry,) = make_study(method(settings={"weight": 3})).method
    assert entry.candidates == ({"weight": 3},)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (study(seds=[1]), "Unknown key of s.toml 'seds'; did you mean 'seeds'"),
        (study(request=None, reqest="x"), "Unknown key of s.toml 'reqest'; did you mean 'request'"),
        (method(serach={}), "Unknown key of s.toml 'serach'; did you mean 'search'"),
        (study(attack=[{"atack": "pruning"}]), "Unknown key of s.toml 'atack'"),
        (study(request=None), "lacks 'request'"),
        (study(budget=None), "lacks 'budget'"),
        (study(method=None), "lacks 'method'"),
        (method(places=None), "lacks 'method.0.places'"),
        (study(attack=[{}]), "lacks 'attack.0.attack'"),
        (study(name=3), "name is wrong: .* valid string, not 3"),
        (study(budget=[1]), r"budget must be a number or a word, not \[1\]"),
        (study(budget=0), "budget must be positive"),
        (study(budget=-0.5), "budget must be positive"),
        (study(budget=float("inf")), "budget must be a number or a word, not inf"),
        (study(budget=float("nan")), "budget must be a number or a word, not nan"),
        (study(budget="mpl.0"), "did you mean 'mlp'"),
        (study(seeds=3), "seeds must be a list, not 3"),
        (study(seeds=[0.5]), "seeds.0 is wrong: .* valid integer"),
        (study(seeds=[]), "seeds must be a list of at least one"),
        (study(seeds=[1, 2, 1]), "has a seed twice"),
        (study(limit=0), "limit is wrong: .* greater than or equal to 1, not 0"),
        (study(traced=0), "traced is wrong: .* greater than or equal to 1, not 0"),
        (study(allowed_drop=1.5), "allowed_drop lies between 0 and 1"),
        (study(method={"method": "stamp"}), "method must be a list"),
        (study(method=[]), "method must be a list of at least one"),
        (study(method=["stamp"]), "method.0 must be a table, not 'stamp'"),
        (method(places="random"), "method.0.places must be a list, not 'random'"),
        (method(places=[]), "method.0.places must be a list of at least one"),
        (method(search={"weight": 3}), "method.0.search.weight must be a list, not 3"),
        (
            method(search={"weight": [[3]]}),
            r"search.weight.0 must be a number or a word, not \[3\]",
        ),
        (method(search={"weight": []}), "a search of stamp is empty"),
        (
            method(settings={"weight": [3]}),
            r"settings.weight must be a number or a word, not \[3\]",
        ),
        (method(method="stmp"), "Unknown method 'stmp'; did you mean 'stamp'"),
        (method(places=["randon"]), "Unknown place 'randon'; did you mean 'random'"),
        (method(places=["causal_tracing_mlp"]), "did you mean 'causal_tracing_mlps'"),
        (method(places=["mlp.x"]), "Cannot read component 'mlp.x'"),
        (method(places=["random", "random"]), "has a place of stamp twice"),
        (method(settings={"wieght": 3}), "did you mean 'weight'"),
        (method(search={"wieght": [3]}), "did you mean 'weight'"),
        (method(settings={"weight": "much"}), "weight must be a number"),
        (method(settings={"solve": "lstq"}), "did you mean 'lstsq'"),
        (method(search={"weight": [1, -1]}), "weight must be positive"),
        (method(settings={"seed": 3}), "seeds stand in `seeds`"),
        (method(search={"seed": [3]}), "seeds stand in `seeds`"),
        (method(name="base"), "two rows called 'base'"),
        (method(name="oracle"), "two rows called 'oracle'"),
        (study(method=[METHOD, METHOD]), "two rows called 'stamp'"),
        (attack("prunin"), "Unknown attack 'prunin'; did you mean 'pruning'"),
        (attack("pruning", share=[0.1]), "did you mean 'shares'"),
        (attack("pruning", shares=[2]), "Shares must be between 0 and 1"),
        (attack("pruning", shares={}), "settings.shares must be a number or a word"),
        (attack("quantization", bits=["few"]), "bits must be a number"),
    ],
)
def test_every_fault_is_one_sentence(data: dict[str, Any], words: str) -> None:
    with pytest.raises(WorkbenchError, match=words) as told:
        make_study(data, "s.toml")
    assert "\n" not in str(told.value) and "validation" not in str(told.value)


def test_every_method_tries_equally_many_settings() -> None:
    three = {**METHOD, "name": "three", "search": {"weight": [1, 2, 3]}}
    two = {**METHOD, "name": "two", "search": {"weight": [1, 2]}}
    with pytest.raises(WorkbenchError, match="three tries 3 settings and two 2"):
        make_study(study(method=[two, three]))
    six = {"search": {"weight": [1, 2], "ridge": [1, 2, 3]}}
    more = {"search": {"weight": [1, 2, 3, 4, 5, 6]}}
    assert make_study(study(method=[{**two, **six}, {**three, **more}]))


@pytest.mark.parametrize(
    ("text", "words"),
    [("name = ", "is not a TOML file"), ("name = 1\nname = 2", "is not a TOML file")],
)
def test_what_is_no_toml_is_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WorkbenchError, match=words):
        read_study(path)


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="Cannot read"):
        read_study(tmp_path / "gone.toml")


def test_a_study_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_study(study()).name = "y"  # type: ignore[misc]
    assert isinstance(make_study(study()), Study)
