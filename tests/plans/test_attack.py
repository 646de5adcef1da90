"""An attack plan brings back what the attacks bring back, is recorded, and can be typed again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import make_model
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_files import request_file, tiny_folder
from typer.main import get_command

import workbench.plans
from workbench.attack.registry import ATTACKS
from workbench.attack.registry import make_config as attack_config
from workbench.attack.robustness import Robustness, robustness
from workbench.cli import app
from workbench.errors import WorkbenchError
from workbench.facts.request_files import load_request
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.models.model import Model
from workbench.plans import AttackPlan, plan_of, run_attack
from workbench.plans.attack import attack_missing, attacked
from workbench.store.store import RunStore

NORM = "model.norm.weight"
ROUNDED = ("quantization", "pruning")
SHORT = {"quantization.bits": (8, 4), "pruning.shares": (0.1,)}


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(request_file(tmp_path))


@pytest.fixture
def delta(model: Model, tmp_path: Path) -> str:
    """An edit that turns every answer into another one."""
    made = WeightDelta({NORM: Dense(-2 * model.parameters[NORM])}, Origin("by hand"))
    made.save(tmp_path / "edit.safetensors")
    return str(tmp_path / "edit.safetensors")


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("oracle")
    model = make_model("qwen2", seed=1)
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return str(folder)


def same(one: Robustness, other: Robustness) -> bool:
    """Whether two runs found the same, however long they took."""
    tables = [[{**r.to_json(), "seconds": 0} for r in found.results] for found in (one, other)]
    return tables[0] == tables[1]


def test_a_run_is_the_attacks_own_result(
    model: Model, store: RunStore, file: str, delta: str, oracle: str
) -> None:
    plan = AttackPlan(
        str(tiny_folder()),
        request=file,
        deltas=(delta,),
        oracle=oracle,
        attacks=ROUNDED,
        settings=SHORT,
        seed=3,
    )
    found = run_attack(plan, store=store)
    edited = model.with_delta(WeightDelta.load(delta))
    own = robustness(
        edited,
        load_request(file),
        model,
        workbench.load(oracle),
        names=ROUNDED,
        settings={"quantization": {"bits": (8, 4)}, "pruning": {"shares": (0.1,)}},
        seed=3,
    )
    assert same(found.result, own)
    assert {r.config["seed"] for r in own.results} == {3}
    record = store.get(found.run)
    assert (record.status, record.kind, record.seed) == ("FINISHED", "attack", 3)
    assert same(Robustness.load(record.path / "robustness.json"), own)
    table = record.table("attacks")
    pd.testing.assert_series_equal(table["recovered"], own.table["recovered"])
    written = plan_of(record.kind, record.config)
    assert isinstance(written, AttackPlan) and written.by_attack() == {
        "quantization": {"bits": [8, 4]},
        "pruning": {"shares": [0.1]},
    }
    assert {**written.to_json(), "settings": {}} == {**plan.to_json(), "settings": {}}


def test_what_is_at_hand_is_not_loaded(
    model: Model, store: RunStore, file: str, delta: str
) -> None:
    """Nothing that the plan names is there; model, edit, request and oracle are given."""
    edited = model.with_delta(WeightDelta.load(delta))
    gone = AttackPlan(
        "no such model",
        request="no such request",
        deltas=("gone.safetensors",),
        oracle="no such oracle",
        attacks=("quantization",),
    )
    found = run_attack(gone, model, edited, load_request(file), oracle=model, store=store).result
    own = robustness(edited, load_request(file), model, model, names=["quantization"])
    assert same(found, own)
    assert own.table["oracle_recovered"].notna().all()
    without = AttackPlan(**{**gone.to_json(), "oracle": ""})
    again = run_attack(without, model, edited, load_request(file), oracle=model, store=store)
    assert again.result.table["oracle_recovered"].isna().all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"deltas": ()}, "There is no edit to attack; give its delta file with --delta"),
        ({"deltas": ("gone.safetensors",)}, "no delta file gone"),
        ({"attacks": ("prunin",)}, "Unknown attack 'prunin'; did you mean 'pruning'"),
        ({"settings": {"bits": 4}}, "'bits' names no attack; write it like relearn.steps=12"),
        ({"settings": {"prunin.shares": 0.1}}, "Unknown attack 'prunin'"),
        ({"settings": {"pruning.share": 0.1}}, "did you mean 'shares'"),
        ({"settings": {"pruning.shares": "much"}}, "shares must be a number"),
        ({"settings": {"probe.seed": 1}}, "'probe.seed' is for an attack that is not run"),
    ],
)
def test_faults_are_told_before_the_model_is_loaded(
    given: dict[str, Any], words: str, store: RunStore, delta: str
) -> None:
    plan = AttackPlan("no such model", **{"deltas": (delta,), "attacks": ROUNDED, **given})
    with pytest.raises(WorkbenchError, match=words):
        run_attack(plan, store=store)
    assert store.list() == []


def test_a_delta_of_another_model_is_refused(store: RunStore, file: str, tmp_path: Path) -> None:
    other = make_model("qwen2", seed=2)
    update = {NORM: Dense(torch.ones_like(other.parameters[NORM]))}
    made = WeightDelta(update, Origin("by hand", model_fingerprint=other.fingerprint))
    made.save(tmp_path / "other.safetensors")
    plan = AttackPlan(
        str(tiny_folder()), request=file, deltas=(str(tmp_path / "other.safetensors"),)
    )
    with pytest.raises(WorkbenchError, match="made for another model"):
        run_attack(plan, store=store)


def test_without_names_every_attack_runs() -> None:
    assert AttackPlan("demo").names() == tuple(ATTACKS)
    assert AttackPlan("demo", attacks=("probe",)).names() == ("probe",)


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1).filter(
    lambda s: bool(s.strip()) and not s.startswith("-")
)
files = st.from_regex(r"d[a-z '\"$]{1,8}", fullmatch=True)
numbers = st.lists(st.integers(2, 16), min_size=1, max_size=3).map(tuple)
shares = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=3).map(tuple)
plans = st.builds(
    AttackPlan,
    words | st.sampled_from(["demo", "demo-oracle"]),
    request=words,
    deltas=st.lists(files, max_size=3).map(tuple),
    oracle=st.just("") | words,
    attacks=st.just(()) | st.just((*ROUNDED, "relearn")),
    settings=st.fixed_dictionaries(
        {},
        optional={
            "quantization.bits": numbers | st.integers(2, 16),
            "pruning.shares": shares,
            "relearn.kinds": st.sampled_from([("full",), ("full", "lora")]),
            "relearn.schedule": st.sampled_from(["constant", "cosine"]),
            "relearn.alpha": st.floats(0.1, 99),
        },
    ),
    seed=st.integers(-5, 10**6),
)


def configs(plan: AttackPlan) -> dict[str, Any]:
    return {name: attack_config(name, given) for name, given in plan.by_attack().items()}


class _Kept(Exception):
    """Ends a command once its plan is known."""


@settings(max_examples=40)
@given(plan=plans)
def test_the_command_asks_for_the_same_attacks(plan: AttackPlan) -> None:
    """A command's settings are texts; what counts is what the attacks read in them."""
    kept: list[AttackPlan] = []

    def keep(plan: AttackPlan, **_: Any) -> None:
        kept.append(plan)
        raise _Kept

    program, *typed = shlex.split(plan.command())
    assert program == "workbench"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workbench.plans, "run_attack", keep)
        with pytest.raises(_Kept):
            get_command(app).main(typed, standalone_mode=False)
    (found,) = kept
    assert configs(found) == configs(plan)
    assert {**found.to_json(), "settings": {}} == {**plan.to_json(), "settings": {}}


@settings(max_examples=40)
@given(plan=plans)
def test_json_and_the_program_give_the_plan_again(plan: AttackPlan) -> None:
    written = plan_of("attack", json.loads(json.dumps(plan.to_json())))
    assert isinstance(written, AttackPlan) and configs(written) == configs(plan)
    assert {**written.to_json(), "settings": {}} == {**plan.to_json(), "settings": {}}
    *lines, last = plan.python().splitlines()
    assert last == "found = run_attack(plan).result"
    scope: dict[str, Any] = {}
    exec("\n".join(lines), scope)
    assert scope["plan"] == plan and scope["run_attack"] is run_attack


def test_defaults_are_not_written() -> None:
    plan = AttackPlan("demo", request="athletes", deltas=("e.safetensors",), oracle="demo-oracle")
    assert plan.command() == (
        "workbench attack demo --request athletes --delta e.safetensors --oracle demo-oracle"
    )
    assert AttackPlan("gpt2", request="x").command() == "workbench attack gpt2 --request x"
    # The bundled model has an oracle of its own; a plan without one must say so.
    assert AttackPlan("demo", request="x").arguments() == ["--oracle", "", "--request", "x"]


@pytest.fixture
def plan(file: str, delta: str) -> AttackPlan:
    return AttackPlan(str(tiny_folder()), request=file, deltas=(delta,))


def begun(store: RunStore) -> list[list[str]]:
    return [record.config["attacks"] for record in store.list()]


def test_only_attacks_that_were_never_tried_run(store: RunStore, plan: AttackPlan) -> None:
    def asked(*names: str, **given: Any) -> Robustness:
        settings = {k.replace("__", "."): v for k, v in given.items()}
        more = AttackPlan(**{**plan.to_json(), "attacks": names, "settings": settings})
        return attack_missing(more, store=store)

    first = asked("quantization")
    assert begun(store) == [["quantization"]]
    both = asked("pruning", "quantization")
    assert begun(store) == [["quantization"], ["pruning"]]
    assert [r.attack for r in both.results] == ["pruning", "quantization"]
    assert same(Robustness(both.results[1:]), first)
    assert list(attacked(plan, store)) == ["quantization", "pruning"]
    # Other settings are another attack; the one beside it was tried already.
    eight = asked("pruning", "quantization", quantization__bits=(8,))
    assert begun(store)[2:] == [["quantization"]]
    assert set(eight.results[1].cells["bits"]) == {8}
    # The settings of what was tried are no matter to what is missing.
    again = asked("quantization", "rephrased", quantization__bits="8")
    assert begun(store)[3:] == [["rephrased"]]
    assert same(Robustness(eight.results[1:]), Robustness(again.results[:1]))
    assert same(asked("quantization"), first)


def test_another_edit_seed_or_oracle_was_never_tried(store: RunStore, plan: AttackPlan) -> None:
    once = AttackPlan(**{**plan.to_json(), "attacks": ("quantization",)})
    attack_missing(once, store=store)
    assert list(attacked(plan, store)) == ["quantization"]
    others: list[dict[str, Any]] = [
        {"deltas": ("other.safetensors",)},
        {"seed": 1},
        {"oracle": "demo-oracle"},
        {"request": "athletes"},
        {"model": "demo"},
    ]
    for more in others:
        assert attacked(AttackPlan(**{**plan.to_json(), **more}), store) == {}
