"""An edit plan makes the edit that the method makes, and says what does not fit before it runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_files import request_file, tiny_folder

from workbench.edit.registry import make_config
from workbench.edit.stamp import StampConfig, stamp
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet
from workbench.facts.request_files import load_request, write_request
from workbench.job_inputs import job_settings
from workbench.models.components import ComponentSet
from workbench.models.model import Model
from workbench.plans import EditPlan, plan_of, run_edit
from workbench.plans.edit import suggested_settings
from workbench.store.store import RunStore

SMALL = {"counterparts": 3, "confusable": 20, "context": 4, "generations": 2}


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(request_file(tmp_path))


def test_the_edit_is_the_methods_own_and_is_recorded(
    model: Model, store: RunStore, file: str
) -> None:
    settings: dict[str, Any] = {**SMALL, "rank": "4", "answer.weight": "5"}
    where = {"subject": "mlp.0-1", "answer": "attn.2"}
    plan = EditPlan("tiny", request=file, settings=settings, seed=3, **where)
    found = run_edit(plan, model, store=store)
    own = stamp(
        model,
        load_request(file),
        {"subject": ComponentSet.parse("mlp.0-1"), "answer": ComponentSet.parse("attn.2")},
        StampConfig(**SMALL, rank=4, seed=3),
        per_site={"answer": {"weight": 5.0}},
    )
    assert found.result.delta.updates.keys() == own.delta.updates.keys()
    for name, update in own.delta.updates.items():
        assert torch.equal(found.result.delta.updates[name].dense(), update.dense())
    record = store.get(found.run)
    assert (record.status, record.kind, record.seed) == ("FINISHED", "edit", 3)
    assert plan_of(record.kind, record.config) == plan
    assert record.delta().origin.seed == 3 and "steps.csv" in record.artefacts


def test_an_edit_on_top_of_a_delta_file(model: Model, store: RunStore, file: str) -> None:
    plan = EditPlan(str(tiny_folder()), request=file, components="mlp.0", settings=SMALL)
    lower = run_edit(plan, model, store=store)
    deltas = (str(lower.path / "delta.safetensors"),)
    more = {"components": "mlp.1", "settings": SMALL, "deltas": deltas}
    upper = run_edit(EditPlan(str(tiny_folder()), request=file, **more), store=store)  # type: ignore[arg-type]
    source = upper.result.delta.origin
    assert source.model_fingerprint == lower.result.model.fingerprint
    assert source.base_fingerprint == model.fingerprint
    names = {n for d in (lower, upper) for n in d.result.delta.updates}
    for name, tensor in upper.result.model.parameters.items():
        assert torch.equal(tensor, model.parameters[name]) == (name not in names)


@pytest.mark.parametrize(
    "where",
    [{}, {"components": "mlp.1", "auto": True}, {"subject": "mlp.1", "components": "mlp.1"}],
)
def test_what_to_edit_is_said_in_one_way(where: dict[str, Any]) -> None:
    with pytest.raises(WorkbenchError, match="Say what to edit in one way"):
        EditPlan("tiny", request="x", **where).config()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"wieght": 3}, "did you mean 'weight'"),
        ({"weight": "much"}, "weight must be a number"),
        ({"spread": "maybe"}, "spread must be true or false"),
        ({"anwser.weight": 3}, "did you mean 'answer'"),
        ({"answer.wieght": 3}, "did you mean 'weight'"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"answer.solve": "lstq"}, "did you mean 'lstsq'"),
    ],
)
def test_wrong_settings_are_sentences(
    settings: dict[str, Any], words: str, model: Model, store: RunStore, file: str
) -> None:
    where = {"subject": "mlp.0", "answer": "mlp.1"}
    plan = EditPlan("tiny", request=file, settings={**SMALL, **settings}, **where)
    with pytest.raises(WorkbenchError, match=words):
        run_edit(plan, model, store=store)


def test_wrong_names_are_sentences_before_the_work(store: RunStore, file: str) -> None:
    with pytest.raises(WorkbenchError, match="did you mean 'stamp'"):
        run_edit(EditPlan("tiny", request=file, components="mlp.1", method="stmp"), store=store)
    gone = EditPlan("no such model", request=file, components="mlp.1", deltas=("gone.safetensors",))
    with pytest.raises(WorkbenchError, match="no delta file gone"):
        run_edit(gone, store=store)
    assert store.list() == []


def test_switches_are_read_as_words() -> None:
    for written, value in (("true", True), ("False", False), (True, True), (False, False)):
        assert make_config("stamp", {"spread": written}).spread is value


def test_places_by_site_or_not(model: Model) -> None:
    both = EditPlan("tiny", subject="mlp.0", answer="attn.2").chosen(model)
    assert both == {"subject": ComponentSet.parse("mlp.0"), "answer": ComponentSet.parse("attn.2")}
    assert EditPlan("tiny", answer="attn.2").chosen(model) == {
        "answer": ComponentSet.parse("attn.2")
    }
    assert EditPlan("tiny", components="mlp.0").chosen(model) == ComponentSet.parse("mlp.0")


@pytest.mark.parametrize("request_name", ["athletes", "capitals"])
def test_suggested_settings_are_those_of_the_main_job(request_name: str) -> None:
    settings = suggested_settings(request_name)
    plan = EditPlan("demo", request=request_name, components="mlp.1", settings=settings)
    job = job_settings(request_name)
    assert plan.config() == job.stamp
    assert plan.per_site() == {site: dict(more) for site, more in job.per_site.items()}


def test_pictures_to_forget_are_told_by_the_request_and_not_by_its_name(tmp_path: Path) -> None:
    faces = load_request("faces-8")
    own = write_request(faces, tmp_path)
    for name, request in (("faces-8", faces), (str(own), load_request(own))):
        found = suggested_settings(name, request)
        assert found == {"spread": True, "weight": 1.0, "beyond": 0.3}
        assert suggested_settings(name, request, method="vgid") == {}
    seen_only = replace(faces, forget=load_request("athletes").forget, evaluate=FactSet())
    assert suggested_settings("faces-8", seen_only) == {"ridge": 0.1}


def test_the_more_names_to_forget_the_more_is_done_to_keep_the_others() -> None:
    eight, forty = load_request("athletes"), load_request("athletes-40")
    assert suggested_settings("one-fact", load_request("one-fact")) == {}
    assert suggested_settings("athletes", eight) == {"ridge": 0.1}
    twenty = replace(forty, forget=forty.forget.about(forty.forget.subjects[:20]))
    some = suggested_settings("athletes-40", twenty)
    assert some["confusable"] > StampConfig().confusable and "tokens" not in some
    assert suggested_settings("athletes-40", forty) == some | {"tokens": 1, "beyond": 0.3}
    replaced = load_request("misinformation-30")  # each at its own answer
    assert len(replaced.forget.subjects) == 30
    assert suggested_settings("misinformation-30", replaced) == {}
