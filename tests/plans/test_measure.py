"""A measurement plan gives the scorecard that `measure` gives, and records it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny_files import request_file, tiny_folder

from workbench.errors import WorkbenchError
from workbench.facts.request_files import load_request
from workbench.measure.scorecard import measure
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.models.model import Model
from workbench.plans import MeasurePlan, plan_of, run_measure
from workbench.plans import measure as plans_measure
from workbench.store.store import RunStore

NEUTRAL = ("The capital of France is Paris.",)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.setattr(plans_measure, "neutral_texts", lambda model, request: NEUTRAL)
    return RunStore(tmp_path / "runs")


def test_the_base_alone(model: Model, store: RunStore, tmp_path: Path) -> None:
    file = request_file(tmp_path)
    plan = MeasurePlan("tiny", request=str(file), limit=2, seed=1)
    found = run_measure(plan, model, store=store)
    own = measure(model, load_request(file), neutral=NEUTRAL, limit=2, seed=1)
    pd.testing.assert_frame_equal(found.result.to_frame(), own.to_frame())
    assert found.result.verdict == "base" and found.result.value("acc_f") == 1.0
    record = store.get(found.run)
    assert plan_of(record.kind, record.config) == plan
    pd.testing.assert_frame_equal(record.table("scores"), own.to_frame(), check_dtype=False)
    assert record.json("scorecard")["scores"]["acc_f"]["value"] == 1.0


def test_an_edited_model_beside_its_base(model: Model, store: RunStore, tmp_path: Path) -> None:
    name = "model.norm.weight"
    delta = WeightDelta({name: Dense(-2 * model.parameters[name])}, Origin("by hand"))
    delta.save(tmp_path / "d.safetensors")
    file = str(request_file(tmp_path))
    plan = MeasurePlan(
        str(tiny_folder()), request=file, deltas=(str(tmp_path / "d.safetensors"),), limit=1
    )
    by_file = run_measure(plan, store=store).result
    edited = model.with_delta(delta)
    at_hand = run_measure(plan, model, edited, load_request(file), store=store).result
    pd.testing.assert_frame_equal(by_file.to_frame(), at_hand.to_frame())
    pd.testing.assert_frame_equal(by_file.answers, at_hand.answers)
    assert by_file.verdict == "changed" and by_file.value("acc_f") == 0.0
    assert by_file.model_fingerprint == edited.fingerprint
    assert torch.equal(edited.parameters[name], -model.parameters[name])


def test_a_wrong_path_is_told_before_the_model_is_loaded(store: RunStore) -> None:
    plan = MeasurePlan("no such model", request="athletes", deltas=("gone.safetensors",))
    with pytest.raises(WorkbenchError, match="no delta file gone"):
        run_measure(plan, store=store)
    assert store.list() == []
