"""A plan is a value: its command, its program, its JSON, and the deltas it names."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command

import workbench.plans
from tests.conftest import make_model
from workbench.cli import app
from workbench.edit.edit import origin
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Request
from workbench.localize.registry import LOCALIZERS
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.models.model import Model
from workbench.plans import (
    CircuitPlan,
    EditPlan,
    ExportPlan,
    LocalizePlan,
    MeasurePlan,
    Plan,
    plan_of,
)
from workbench.plans.plan import apply_deltas, load_deltas, options

FAST = settings(max_examples=40)

# What a user may type, quotes and spaces included; files as they are written without detours.
words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1).filter(
    lambda s: bool(s.strip()) and not s.startswith("-")
)
files = st.lists(st.from_regex(r"[a-z '\"$]{1,8}", fullmatch=True), min_size=1, max_size=3).map(
    lambda parts: "/".join(f"d{part}" for part in parts)
)
maybe_word = st.none() | words
counts = st.integers(1, 999)
seeds = st.integers(-5, 10**6)
looked_at: dict[str, Any] = {
    "model": words,
    "samples": st.none() | counts,
    "metric": maybe_word,
    "relation": maybe_word,
    "subject": maybe_word,
    "most": counts,
    "seed": seeds,
}
sources = st.one_of(
    st.fixed_dictionaries({"request": words}), st.fixed_dictionaries({"facts": files})
)


def merged(kind: type[Plan], **given: Any) -> st.SearchStrategy[Plan]:
    fixed = st.fixed_dictionaries(given)
    return st.builds(lambda a, b: kind(**{**a, **b}), fixed, sources)


localize_plans = merged(
    LocalizePlan,
    **looked_at,
    method=st.sampled_from(sorted(LOCALIZERS)),
    corruption=st.none() | st.sampled_from(["noise", "replace"]),
    window=st.none() | counts,
)
circuit_plans = merged(
    CircuitPlan,
    **looked_at,
    edges=counts,
    steps=counts,
    heads=st.booleans(),
    corruption=st.sampled_from(["noise", "replace"]),
)
measure_plans = st.builds(
    MeasurePlan,
    words,
    request=words,
    deltas=st.lists(files, max_size=3).map(tuple),
    limit=st.none() | st.integers(0, 99),
    seed=seeds,
)
export_plans = st.builds(
    ExportPlan,
    words,
    out=files,
    deltas=st.lists(files, max_size=3).map(tuple),
    lora=st.booleans(),
    overwrite=st.booleans(),
)
edit_settings = st.fixed_dictionaries(
    {},
    optional={
        "rank": st.none() | st.integers(1, 64),
        "weight": st.floats(1e-3, 1e6),
        "ridge": st.floats(1e-9, 1.0),
        "target": st.sampled_from(["auto", "mean", "stream"]),
        "context": st.integers(0, 500),
        "spread": st.booleans(),
        "answer.weight": st.floats(1e-3, 1e6),
        "answer.spread": st.booleans(),
        "subject.rank": st.none() | st.integers(1, 64),
    },
)
where_to_edit = st.one_of(
    st.fixed_dictionaries({"components": st.just("mlp.0-1, head.2.1")}),
    st.fixed_dictionaries({"subject": st.just("mlp.1"), "answer": st.sampled_from(["", "attn.2"])}),
    st.fixed_dictionaries({"auto": st.just(True)}),
)
edit_plans = st.builds(
    lambda where, **given: EditPlan(**given, **where),
    where_to_edit,
    model=words,
    request=words,
    method=st.sampled_from(["stamp", "stamp-auto"]),
    settings=edit_settings,
    deltas=st.lists(files, max_size=3).map(tuple),
    seed=seeds,
)


COMMAND = get_command(app)


class _Kept(Exception):
    """Ends a command once its plan is known."""


@contextmanager
def cli(folder: Path) -> Iterator[list[Plan]]:
    """Let every command keep its plan and do nothing more."""
    kept: list[Plan] = []

    def keep(plan: Plan, **_: Any) -> None:
        kept.append(plan)
        raise _Kept

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for kind in ("localize", "circuit", "measure", "edit", "export"):
            patch.setattr(workbench.plans, f"run_{kind}", keep)
        yield kept


def through_the_command_line(plan: Plan, folder: Path) -> Plan:
    program, *words = shlex.split(plan.command())
    assert program == "workbench"
    with cli(folder) as kept, pytest.raises(_Kept):
        COMMAND.main(words, standalone_mode=False)
    (found,) = kept
    return found


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


@FAST
@given(plan=st.one_of(localize_plans, circuit_plans, measure_plans))
def test_the_command_gives_the_plan_again(plan: Plan, empty: Path) -> None:
    assert through_the_command_line(plan, empty) == plan


@FAST
@given(plan=export_plans)
def test_the_command_of_an_export_gives_the_plan_again(plan: Plan, empty: Path) -> None:
    (empty / "d").mkdir(exist_ok=True)
    plan = ExportPlan(**{**plan.to_json(), "out": f"d/{plan.to_json()['out'].replace('/', '')}"})
    assert through_the_command_line(plan, empty) == plan


@FAST
@given(plan=edit_plans)
def test_the_command_of_an_edit_asks_for_the_same_edit(plan: EditPlan, empty: Path) -> None:
    """A command's settings are texts; what counts is what the method reads in them."""
    found = through_the_command_line(plan, empty)
    assert isinstance(found, EditPlan)
    assert found.config() == plan.config() and found.per_site() == plan.per_site()
    assert {**found.to_json(), "settings": {}} == {**plan.to_json(), "settings": {}}


any_plan = st.one_of(localize_plans, circuit_plans, measure_plans, edit_plans, export_plans)


@FAST
@given(plan=any_plan)
def test_json_and_the_program_give_the_plan_again(plan: Plan) -> None:
    written = json.loads(json.dumps(plan.to_json()))
    assert type(plan).from_json(written) == plan
    if plan.KIND != "export":
        assert plan_of(plan.KIND, written) == plan
    *lines, last = plan.python().splitlines()
    assert last == f"found = run_{plan.KIND}(plan).result"
    scope: dict[str, Any] = {}
    exec("\n".join(lines), scope)
    assert scope["plan"] == plan and callable(scope[f"run_{plan.KIND}"])


def test_defaults_are_not_written() -> None:
    plan = MeasurePlan("demo", request="athletes")
    assert plan.command() == "workbench measure demo --request athletes"
    assert "seed" not in plan.python() and "limit" not in plan.python()
    assert CircuitPlan("demo", request="athletes").arguments() == ["--request", "athletes"]
    assert MeasurePlan("demo", request="my facts.json").command().endswith("'my facts.json'")


def test_options_by_hand() -> None:
    found = options(a=None, b=False, c="", d=True, e_f=0, g=["x", "y"], h=(), set_=["k=1"])
    assert found == ["--d", "--e-f", "0", "--g", "x", "--g", "y", "--set", "k=1"]


@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [
        ("export", {"model": "demo"}, "'export' cannot be repeated"),
        ("trace-again", {"model": "demo"}, "'trace-again' cannot be repeated"),
        ("localize", {"request": "athletes"}, "not the settings of a localize run"),
    ],
)
def test_what_is_no_plan_is_a_sentence(kind: str, config: dict[str, Any], words: str) -> None:
    with pytest.raises(WorkbenchError, match=words):
        plan_of(kind, config)


def test_settings_of_a_later_version_are_left_out() -> None:
    assert plan_of("measure", {"model": "demo", "later": 1}) == MeasurePlan("demo")


NAME = "model.layers.1.mlp.down_proj.weight"
ASKED = Request(FactSet((Fact("Ada Brook", "Ada Brook plays", " golf"),)))


def made_on(model: Model, value: float) -> WeightDelta:
    """Add a number to one matrix; the origin is written as an edit writes it."""
    update = Dense(torch.full_like(model.parameters[NAME], value))
    source = origin(model, ASKED, "mlp.1", method="stamp", config={}, seed=0)
    return WeightDelta({NAME: update}, source)


def test_deltas_add_up_and_the_base_stays(tiny: Model, tmp_path: Path) -> None:
    before = tiny.parameters[NAME].clone()
    lower = made_on(tiny, 0.5)
    upper = made_on(tiny.with_delta(lower), 0.25)
    files = []
    for i, delta in enumerate((lower, upper)):
        delta.save(tmp_path / f"{i}.safetensors")
        files.append(str(tmp_path / f"{i}.safetensors"))
    found = apply_deltas(tiny, load_deltas(tuple(files)))
    torch.testing.assert_close(found.parameters[NAME], before + 0.75)
    assert torch.equal(tiny.parameters[NAME], before)
    assert apply_deltas(tiny, []) is tiny


def test_an_edit_on_top_of_others_stands_without_them(tiny: Model) -> None:
    one = tiny.with_delta(made_on(tiny, 0.5))
    two = one.with_delta(made_on(one, 0.25))
    third = made_on(two, 0.125)
    assert third.origin.model_fingerprint == two.fingerprint
    assert third.origin.base_fingerprint == tiny.fingerprint
    assert made_on(tiny, 1.0).origin.base_fingerprint == ""
    found = apply_deltas(tiny, [third * 2.0])
    torch.testing.assert_close(found.parameters[NAME], tiny.parameters[NAME] + 0.25)
    apply_deltas(tiny, [made_on(tiny, 0.5) + third])


def test_a_delta_of_another_model_is_refused(tiny: Model) -> None:
    other = make_model("qwen2", seed=1)
    foreign = made_on(other, 0.5)
    for deltas in ([foreign], [made_on(tiny, 0.5), foreign], [foreign * 0.5]):
        with pytest.raises(WorkbenchError, match="made for another model"):
            apply_deltas(tiny, deltas)
    on_top = made_on(other.with_delta(foreign), 0.25)
    with pytest.raises(WorkbenchError, match="made for another model"):
        apply_deltas(tiny, [on_top])
    without_origin = WeightDelta(foreign.updates, Origin("by hand"))
    assert apply_deltas(tiny, [without_origin]).deltas == (without_origin,)
