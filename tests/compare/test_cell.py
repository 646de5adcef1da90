"""A cell is a search, an edit, a scorecard and attacks; its key says what it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_model
from tiny_files import request_file, tiny_folder

from tests.compare.small import METHOD, ROUNDING, STAMP, load, plain_study, small_study
from workbench.attack.robustness import robustness
from workbench.compare import bench as benches
from workbench.compare import cell
from workbench.compare.bench import Bench, bench_of
from workbench.compare.cell import (
    CellName,
    attack_key,
    cells_of,
    edit_key,
    failed_cell,
    run_attack,
    run_cell,
)
from workbench.compare.runner import tasks_of
from workbench.compare.search import Candidate, Quick, best, quick, retained
from workbench.compare.study import Study
from workbench.edit.in_context import InContextConfig, in_context, with_context
from workbench.edit.stamp import StampConfig, stamp
from workbench.errors import WorkbenchError
from workbench.facts.request_files import load_request
from workbench.measure.scorecard import measure
from workbench.models.components import ComponentSet
from workbench.plans import EditPlan, plan_of, run_edit
from workbench.store.store import RunStore

NEUTRAL = ("The capital of France is Paris.",)
EDIT = CellName("stamp", "mlp.0", 3)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benches, "load", load)
    monkeypatch.setattr(benches, "neutral_texts", lambda model, request: NEUTRAL)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("oracle")
    model = make_model("qwen2", seed=1)
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return str(folder)


def test_base_and_oracle_come_first() -> None:
    names = cells_of(plain_study(oracle="demo-oracle", seeds=[4, 5]))
    assert [str(n) for n in names] == [
        "base",
        "oracle",
        *("stamp at mlp.1, seed 4", "stamp at mlp.1, seed 5"),
        *("stamp at random, seed 4", "stamp at random, seed 5"),
    ]
    assert cells_of(plain_study())[1].label == "stamp"


def test_a_cell_is_the_best_edit_measured(tmp_path: Path, store: RunStore) -> None:
    study = small_study(tmp_path)
    found = run_cell(study, EDIT, store)
    base, request = load(str(tiny_folder())), load_request(study.request)
    kept = retained(base, request, seed=3)
    candidates, edits = [], []
    for weight in (10, 1000):
        config = StampConfig(**STAMP, weight=weight, seed=3)
        edits.append(stamp(base, request, ComponentSet.parse("mlp.0"), config))
        judged = quick(edits[-1].model, request, kept)
        candidates.append(Candidate({**STAMP, "weight": weight}, judged))
    taken = best(candidates, study.allowed_drop)
    assert taken is not None
    index, within = taken
    assert [c["quick"] for c in found["candidates"]] == [vars(c.quick) for c in candidates]
    assert (found["settings"], found["within"]) == (candidates[index].settings, within)
    assert found["components"] == "mlp.0"
    assert found["parameters"] == edits[index].parameters_touched == 3 * 32 * 48
    assert found["cost"] == found["candidates"][index]["cost"]
    assert found["cost"]["forward_tokens"] > 0 and found["cost"]["backward_tokens"] == 0
    own = measure(base, request, neutral=NEUTRAL, limit=2)
    card = measure(edits[index].model, request, base_card=own, neutral=NEUTRAL, limit=2)
    assert found["scores"] == card.to_json()["scores"]
    delta = store.get(found["run"]).delta()
    for name, update in edits[index].delta.updates.items():
        assert torch.equal(delta.updates[name].dense(), update.dense())


def test_the_recorded_plan_makes_the_edit_again(tmp_path: Path, store: RunStore) -> None:
    found = run_cell(small_study(tmp_path), EDIT, store)
    record = store.get(found["run"])
    plan = plan_of(record.kind, record.config)
    assert isinstance(plan, EditPlan) and record.seed == plan.seed == 3
    again = run_edit(plan, store=store).result.delta
    for name, update in record.delta().updates.items():
        assert torch.equal(again.updates[name].dense(), update.dense())


def test_base_and_oracle_are_measured_as_they_are(
    tmp_path: Path, store: RunStore, oracle: str
) -> None:
    study = small_study(tmp_path, oracle=oracle)
    request = load_request(study.request)
    for name, folder in (("base", str(tiny_folder())), ("oracle", oracle)):
        own = measure(load(folder), request, neutral=NEUTRAL, limit=2)
        found = run_cell(study, CellName(name), store)
        assert found == {"status": "done", "scores": own.to_json()["scores"]}
    assert run_cell(study, CellName("base"), store)["scores"]["acc_f"]["value"] == 1.0
    assert store.list() == []


def test_an_attack_is_the_attacks_own_result(tmp_path: Path, store: RunStore, oracle: str) -> None:
    study = small_study(tmp_path, oracle=oracle)
    made = run_cell(study, EDIT, store)
    base, request = load(str(tiny_folder())), load_request(study.request)
    models = {"base": base, "oracle": load(oracle)}
    edited = base.with_delta(store.get(made["run"]).delta())
    for name in (EDIT, CellName("base"), CellName("oracle")):
        run = made["run"] if name == EDIT else ""
        found = run_attack(study, name, 0, run, store)
        (own,) = robustness(
            models.get(name.label, edited),
            request,
            base,
            models["oracle"],
            names=["quantization"],
            settings={"quantization": {"bits": [8]}},
            seed=name.seed,
        ).results
        assert found["attack"] == "quantization"
        assert {**found["result"], "seconds": 0} == {**own.to_json(), "seconds": 0}


def test_the_in_context_row_is_the_base_behind_its_text(tmp_path: Path, store: RunStore) -> None:
    study = small_study(tmp_path, in_context=True)
    names = cells_of(study)
    assert [str(n) for n in names[:2]] == ["base", "in-context"]
    found = run_cell(study, CellName("in-context"), store)
    base, request = load(str(tiny_folder())), load_request(study.request)
    text = in_context(base, request, InContextConfig(seed=study.seeds[0])).text
    asked = with_context(request, base, text)
    card = measure(base, asked, neutral=NEUTRAL, limit=study.limit)
    assert found["scores"] == card.to_json()["scores"]
    assert "Changes no weights" in found["note"] and "run" not in found
    assert len(store.list()) == 0
    assert not [t for t in tasks_of(study, tmp_path) if t.name == names[1] and t.attack is not None]


def fake_edit(refuses: tuple[float, ...], made: Any) -> Any:
    """Refuse some weights; give the same edit for the others."""

    def edit(method: str, base: Any, request: Any, chosen: Any, settings: Any, **_: Any) -> Any:
        if settings["weight"] in refuses:
            raise WorkbenchError(f"{settings['weight']} is too much.")
        return made

    return edit


def test_a_candidate_that_cannot_be_made_is_noted(
    tmp_path: Path, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study(tmp_path)
    base, request = load(str(tiny_folder())), load_request(study.request)
    made = stamp(base, request, ComponentSet.parse("mlp.0"), StampConfig(**STAMP))
    monkeypatch.setattr(cell, "edit", fake_edit((10,), made))
    found = run_cell(study, EDIT, store)
    first, second = found["candidates"]
    assert (first["quick"], first["error"]) == (None, "10 is too much.")
    assert second["quick"] is not None and second["error"] == ""
    assert found["settings"]["weight"] == 1000
    monkeypatch.setattr(cell, "edit", fake_edit((10, 1000), made))
    words = "No setting of stamp at mlp.0, seed 3 could be made: 10 is too much"
    with pytest.raises(WorkbenchError, match=words):
        run_cell(study, EDIT, store)


@pytest.mark.parametrize("judged", [[(0.5, 1), (0.0, 1)], [(0.0, 1), (0.5, 1)]])
def test_the_edit_is_the_one_that_was_taken(
    judged: list[tuple[float, float]],
    tmp_path: Path,
    store: RunStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever candidate is the best, its settings, cost and delta go together."""
    study = small_study(tmp_path)
    answers = iter(judged)
    monkeypatch.setattr(cell, "quick", lambda *_: Quick(*next(answers)))
    found = run_cell(study, EDIT, store)
    index = judged.index((0.0, 1))
    weight = (10, 1000)[index]
    assert found["settings"]["weight"] == weight
    assert store.get(found["run"]).delta().origin.config["weight"] == weight
    assert found["cost"] == found["candidates"][index]["cost"]


@pytest.mark.parametrize("most", [None, 1])
def test_localizers_look_at_as_many_facts_as_the_study_says(
    most: int | None, tmp_path: Path, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def noted(*_: object, **settings: object) -> ComponentSet:
        seen.append(settings["most"])
        return ComponentSet.parse("mlp.0")

    monkeypatch.setattr(cell, "place", noted)
    run_cell(small_study(tmp_path, traced=most), EDIT, store)
    assert seen == [most]


def keys(study: Study) -> dict[str, str]:
    bench = Bench(study)
    return {str(n): edit_key(study, n, bench) for n in cells_of(study)}


def attack_keys(study: Study) -> set[str]:
    bench = Bench(study)
    entries = range(len(study.attack))
    edits = [edit_key(study, name, bench) for name in cells_of(study)]
    return {attack_key(study, edited, i, bench) for edited in edits for i in entries}


def test_equal_cells_of_two_studies_have_one_key(tmp_path: Path, oracle: str) -> None:
    one = keys(small_study(tmp_path))
    assert len(set(one.values())) == len(one) == 3
    same: list[dict[str, Any]] = [
        {"name": "other", "attack": []},
        {"method": [{**METHOD, "places": ["random", "mlp.0"]}]},
        {"oracle": oracle},
        {"seeds": [0, 1]},
    ]
    for more in same:
        other = keys(small_study(tmp_path, **more))
        assert {name: other[name] for name in one} == one
    named = keys(small_study(tmp_path, method=[{**METHOD, "name": "ours"}]))
    assert set(named.values()) == set(one.values())


def test_what_matters_makes_another_key(tmp_path: Path) -> None:
    one = keys(small_study(tmp_path))
    edits: list[dict[str, Any]] = [
        {"method": [{**METHOD, "search": {"weight": [10, 30]}}]},
        {"method": [{**METHOD, "settings": {**STAMP, "ridge": 0.1}}]},
        {"method": [{**METHOD, "method": "stamp-auto"}]},
        {"budget": "mlp.0-1"},
        {"allowed_drop": 0.5},
        {"seeds": [1]},
        {"traced": 1},
    ]
    for more in edits:
        other = keys(small_study(tmp_path, **more))
        assert other["base"] == one["base"]
        assert not {v for n, v in other.items() if n != "base"} & set(one.values())
    limited = keys(small_study(tmp_path, limit=1))
    assert not set(limited.values()) & set(one.values())


def test_another_request_is_another_key(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = (request_file(tmp_path / f, forget=n) for f, n in (("a", 2), ("b", 1)))
    (tmp_path / "c").mkdir()
    same = request_file(tmp_path / "c", forget=2)
    first, second, third = (keys(small_study(tmp_path, request=str(r))) for r in (one, two, same))
    assert first == third and not set(first.values()) & set(second.values())


def test_attacks_depend_on_settings_and_oracle_too(tmp_path: Path, oracle: str) -> None:
    one = attack_keys(small_study(tmp_path))
    assert len(one) == 3
    other = {"attack": "quantization", "settings": {"bits": [4]}}
    assert not one & attack_keys(small_study(tmp_path, attack=[other]))
    assert not one & attack_keys(small_study(tmp_path, oracle=oracle))
    assert one < attack_keys(small_study(tmp_path, attack=[other, ROUNDING]))


def test_a_bench_is_made_once_a_study(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    again = type(study).model_validate_json(study.model_dump_json())
    assert bench_of(study) is bench_of(again)
    assert bench_of(study).base is bench_of(again).base


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (WorkbenchError("Too few facts."), "Too few facts."),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (RuntimeError("one\ntwo\nthree"), "RuntimeError: one"),
        (KeyError(), "KeyError: "),
        (MemoryError(), "Out of memory; use fewer workers, a smaller batch or a smaller model."),
        (
            RuntimeError("CUDA out of memory. Tried to allocate"),
            "Out of memory; use fewer workers, a smaller batch or a smaller model.",
        ),
    ],
)
def test_why_a_cell_failed_is_one_line(error: Exception, words: str) -> None:
    assert failed_cell(error) == {"status": "failed", "error": words}
