"""The pages Attack and Compare, without a browser."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch
from pages.app_helpers import go, open_app, press, settle, texts
from typer.testing import CliRunner

from workbench import RunStore, load
from workbench.attack.robustness import Robustness
from workbench.cli import app
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.models.paths import data_dir
from workbench.plans import EditPlan
from workbench.study_report import read_results


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def recorded_noise() -> str:
    """Record an edit that spoils the first MLP: quick to make, and it forgets."""
    model = load("demo")
    name = model.structure.writer(next(iter(model.structure.everything))).parameter
    old = model.parameters[name]
    noise = torch.randn(old.shape, generator=torch.manual_seed(0)) * 2 * old.std()
    plan = EditPlan("demo", request="athletes-1", components="mlp.0")
    with RunStore.default().start("edit", plan.to_json(), name="noise") as run:
        run.save_delta(WeightDelta({name: Dense(noise)}, Origin("noise", components="mlp.0")))
    return run.id


def test_attacks_run_once_and_are_there_when_one_comes_back():
    at = go(open_app(facts="athletes-1", edits=recorded_noise()), "attack")
    assert "No attack was tried" in texts(at)
    at.multiselect(key="attacks").set_value(["multiple_choice"])
    press(at.run(), "attack")
    (record,) = [r for r in RunStore.default().list() if r.kind == "attack"]
    found = Robustness.load(record.path / "robustness.json")
    assert "The worst attack is multiple\\_choice" in texts(at)
    table = at.dataframe[0].value
    assert table["brought back"].tolist() == pytest.approx(found.table["recovered"].tolist())
    assert at.dataframe[1].value["value"].tolist() == found.results[0].cells["value"].tolist()
    at.slider(key="allowed").set_value(1.0).run()
    assert len(at.success) == 1 and not at.error
    command = next(c.value for c in at.code if c.value.startswith("workbench attack"))
    go(go(at, "model_facts"), "attack")
    assert "The worst attack" in texts(settle(at))
    assert len([r for r in RunStore.default().list() if r.kind == "attack"]) == 1
    at.multiselect(key="attacks").set_value(["multiple_choice", "logit_lens"])
    press(at.run(), "attack")  # only what was not tried yet is run
    assert at.dataframe[0].value["attack"].tolist() == ["multiple_choice", "logit_lens"]
    new = [r for r in RunStore.default().list() if r.kind == "attack"][1:]
    assert [r.config["attacks"] for r in new] == [["logit_lens"]]
    done = CliRunner().invoke(app, [*shlex.split(command)[1:], "--json"])
    assert done.exit_code == 0, done.output
    again = Robustness.from_json({k: v for k, v in json.loads(done.stdout).items() if k != "run"})
    assert again.table["recovered"].tolist() == found.table["recovered"].tolist()


def test_without_an_edit_the_page_says_what_to_do():
    assert "No edit is switched on" in texts(go(open_app(facts="athletes-1"), "attack"))


STUDY = """
name = "small"
request = "athletes-1"
budget = "mlp.0-3"
limit = 4
[[method]]
method = "stamp"
places = ["mlp.0-3"]
[method.settings]
confusable = 60
named = 0
context = 4
generations = 2
chats = 0
"""


def test_a_published_study_is_shown_before_it_was_run_here():
    at = go(open_app(), "compare")
    at.selectbox(key="study").set_value("methods-8").run()
    assert "as they were published" in texts(at) and "of 80 kept facts at most" in texts(at)
    published = read_results(data_dir() / "demo" / "studies" / "methods-8")
    cells = at.dataframe[-1].value
    assert len(cells) == len(published.cells) > 50
    done = published.cells["status"] == "done"
    at.session_state["study cells"] = {
        "selection": {"rows": [int(done[done].index[-1])], "columns": []}
    }
    assert "run is not on this machine" in texts(at.run())
    at.session_state["study cells"] = {"selection": {"rows": [], "columns": []}}
    at.selectbox(key="study").set_value("places-8").run()
    looked_up = at.dataframe[-1].value.set_index("place").loc["fact_lookup"]
    assert set(looked_up["components"]) == {"mlp.0-1"} and len(looked_up) == 6


def test_a_published_study_is_shown_where_its_model_is_not():
    at = go(open_app(), "compare")  # the tests' cache is an empty one
    at.selectbox(key="study").set_value("smollm2-8").run()
    assert "has not been fetched" in at.warning[0].value and not at.error
    cells = at.dataframe[-1].value
    assert "as they were published" in texts(at) and "stamp, at the subject" in set(cells["method"])


def test_a_study_runs_and_its_edit_is_loaded(tmp_path: Path):
    at = go(open_app(), "compare")
    at.selectbox(key="study").set_value("a file").run()
    assert "Give the path of a study" in texts(at)
    at.text_input(key="study file").set_value(str(tmp_path / "no.toml")).run()
    assert "no.toml" in at.error[0].value
    (tmp_path / "s.toml").write_text(STUDY.replace("limit", "limmit"))
    at.text_input(key="study file").set_value(str(tmp_path / "s.toml")).run()
    assert "did you mean 'limit'" in at.error[0].value
    (tmp_path / "s.toml").write_text(STUDY)
    at.run()
    assert "2 cells (1 edits to try)" in texts(at) and "Nothing of this study" in texts(at)
    press(at, "run study")
    assert "2 are done" in texts(at)
    cells = at.dataframe[-1].value
    assert cells["method"].tolist() == ["base", "stamp"]
    assert cells["acc_f"].tolist() == [1.0, 0.0]
    at.session_state["study cells"] = {"selection": {"rows": [1], "columns": []}}
    press(at.run(), "load edit")
    here = at.session_state["workspace"]
    assert here.request == "athletes-1" and [e.run for e in here.edits] == [cells["run"].iloc[1]]
