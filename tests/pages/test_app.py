"""Every page and flow of the app, without a browser."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from pages.app_helpers import go, open_app, press, select_points, settle, texts

from workbench import RunStore, load, load_request
from workbench.localize.localization import Localization
from workbench.models.text import generate
from workbench.workspace.workspace import Workspace, edited_model

SMALL = {"confusable": 150, "named": 0, "context": 10, "generations": 4, "chats": 0}


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def runs_with_an_edit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one edit in the app, and keep the runs it left."""
    folder = tmp_path_factory.mktemp("edited")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_RUNS", str(folder))
        at = small_edit(open_app(facts="athletes-1", subject="mlp.0-3"))
        assert len(at_hand(at).edits) == 1
    return folder


def at_hand(at) -> Workspace:
    return at.session_state["workspace"]


def small_edit(at):
    """Make a quick edit of one athlete at the early site."""
    go(at, "edit_test")
    for name, value in SMALL.items():
        at.number_input(key=f"stamp {name} {at_hand(at).request}").set_value(value)
    return press(at.run(), "edit")


@pytest.fixture
def edited_app(runs_with_an_edit: Path, monkeypatch: pytest.MonkeyPatch):
    """Come back to that edit by its address."""
    monkeypatch.setenv("WORKBENCH_RUNS", str(runs_with_an_edit))
    run = next(r.id for r in RunStore.default().list() if r.kind == "edit")
    at = open_app(facts="athletes-1", subject="mlp.0-3", edits=run)
    return go(at, "edit_test")


def test_the_first_page_shows_model_and_facts():
    at = open_app()
    assert [t.value for t in at.title] == ["Model & facts"]
    request = load_request("athletes")
    table = at.dataframe[1].value
    assert list(table["subject"][:32]) == [f.subject for f in request.forget]
    assert "32 facts to forget" in texts(at)
    # what the model goes on with is what it says outside the app
    prompt = at.text_area(key="ask demo").value
    assert generate(load("demo"), [prompt], max_new_tokens=32)[0].strip() in texts(at)


def test_facts_are_chosen_searched_and_kept():
    at = open_app(facts="athletes-1")
    before = load_request("athletes-1")
    at.text_input(key="search").set_value(before.retain[0].subject).run()
    found = at.dataframe[1].value
    assert set(found["subject"]) == {before.retain[0].subject}
    at.session_state["facts"] = {"selection": {"rows": [0], "columns": []}}
    press(at.run(), "forget these")
    own = load_request(at_hand(at).request)
    assert [f.subject for f in own.forget] == [before.retain[0].subject]
    assert {f.key for f in before.forget} <= {f.key for f in own.retain}
    assert len(own.forget) + len(own.retain) == len(before.forget) + len(before.retain)


def test_facts_are_added_by_hand_and_mistakes_are_sentences():
    at = open_app(facts="athletes-1")

    def fill(subject: str, prompt: str, target: str) -> None:
        for key, value in (("subject", subject), ("prompt", prompt), ("target", target)):
            at.text_input(key=f"own {key}").set_value(value)
        next(b for b in at.button if b.label == "Forget it").click()
        settle(at.run())

    fill("Nobody", "Who is it?", "me")
    assert "not in the prompt" in at.error[0].value
    assert at_hand(at).request == "athletes-1"
    fill("<b>Eve</b>", "Where does <b>Eve</b> live?", "here")
    own = load_request(at_hand(at).request)
    assert (own.forget[-1].subject, own.forget[-1].target) == ("<b>Eve</b>", " here")
    assert not [h for h in at.get("html") if "<b>Eve" in str(h)]


def test_a_model_that_is_not_there_is_a_sentence():
    at = open_app(model="/nowhere/at/all")
    assert "There is no folder" in at.error[0].value
    at = open_app(facts="no-such-request")
    assert "no-such-request" in at.error[0].value


def test_an_address_that_makes_no_sense_is_told():
    at = open_app(subject="mlp.x")
    assert at_hand(at) == Workspace()
    assert any("address" in t.value for t in at.toast)


def test_cells_fill_the_selection_as_the_widgets_do():
    at = go(open_app(facts="athletes-1"), "localize")
    press(at, "localize")
    run = at_hand(at).trace
    found = Localization.load(RunStore.default().get(run).path)
    assert f"{found.clean:.3f}" in [m.value for m in at.metric]
    key = f"trace {run}"
    select_points(at, key, ["mlp", 1, -1, "last subject", 0.0], ["attn", 4, -1, "last", 0.0])
    assert {s: str(c) for s, c in at_hand(at).selection.items()} == {
        "subject": "mlp.1",
        "answer": "attn.4",
    }
    select_points(at, key, ["resid", 2, -1, "last", 0.0])
    assert any("residual stream" in t.value for t in at.toast)
    by_click = at_hand(at).selection
    press(at, "clear subject")
    at.selectbox(key="add kind").set_value("mlp")
    at.number_input(key="add layer").set_value(1)
    next(b for b in at.button if b.label == "Add").click()
    settle(at.run())
    assert at_hand(at).selection == by_click
    # another page and back: nothing is computed again
    count = len(RunStore.default().list())
    go(go(at, "model_facts"), "localize")
    assert len(RunStore.default().list()) == count and at_hand(at).trace == run


def test_the_copied_command_repeats_the_localization():
    at = go(open_app(facts="athletes-1"), "localize")
    press(at, "localize")
    command = next(c.value for c in at.code if c.value.startswith("workbench localize"))
    from typer.testing import CliRunner

    from workbench.cli import app

    done = CliRunner().invoke(app, [*shlex.split(command)[1:], "--json"])
    assert done.exit_code == 0, done.output
    again = Localization.load(RunStore.default().get(json.loads(done.stdout)["run"]).path)
    mine = Localization.load(RunStore.default().get(at_hand(at).trace).path)
    assert again.table.equals(mine.table)


def test_two_localizations_side_by_side():
    at = go(open_app(facts="athletes-1"), "localize")
    press(at, "localize")
    first = at_hand(at).trace
    at.selectbox(key="method").set_value("attribution_patching").run()
    press(at, "localize")
    at.selectbox(key="beside").set_value(first).run()
    from workbench.localize.agreement import agreement

    store = RunStore.default()
    a, b = (Localization.load(store.get(r).path) for r in (at_hand(at).trace, first))
    row = at.dataframe[0].value.set_index("cells").loc["MLP"]
    assert row["rank correlation"] == pytest.approx(agreement(a, b, "mlp").spearman)


def test_components_are_chosen_by_budget_and_at_random():
    at = go(open_app(facts="athletes-1"), "localize")
    press(at, "localize")

    def choose(how: str, value: float) -> str:
        at.selectbox(key="choose by").set_value(how)
        at.number_input(key="choose value").set_value(value)
        next(b for b in at.button if b.label == "Choose").click()
        settle(at.run())
        return " ".join(str(c) for c in at_hand(at).selection.values())

    assert choose("parameter budget", 0.2)
    assert choose("random of that budget", 0.2)
    assert "mlp" in choose("recall sites", 0.25)
    choose("threshold", 1e6)
    assert "No component passes" in at.error[0].value


def test_an_edit_changes_the_answers_and_only_there(edited_app):
    at = edited_app
    here = at_hand(at)
    assert len(here.edits) == 1
    base, store = load("demo"), RunStore.default()
    edited = edited_model(base, here.active, store)
    request = load_request("athletes-1")
    before, after = (
        generate(m, [f.prompt for f in request.forget], max_new_tokens=20) for m in (base, edited)
    )
    assert all(a != b for a, b in zip(before, after, strict=True))
    table = "".join(str(h.proto.body) for h in at.get("html"))
    for old in before:
        assert old.strip() in table
    assert "do not know" in table
    at.segmented_control(key="tab").set_value("Scorecard").run()
    settle(at)
    card = [r for r in store.list() if r.kind == "measure"][-1].table("scores")
    shown = at.dataframe[-1].value.set_index("measure")["after"]
    value = card.set_index("measure")["value"]["acc_f"]
    assert shown["Forgotten facts answered"] == pytest.approx(value)
    at.segmented_control(key="tab").set_value("Weights").run()
    assert "byte-equal" in texts(settle(at))


def test_a_setting_taken_back_to_its_default_is_not_filled_in_again():
    at = go(open_app(model="demo", facts="athletes-40"), "edit_test")
    assert "--auto" in texts(at) and "--set weight=10.0" in texts(at)
    at.number_input(key="stamp weight athletes-40").set_value(30.0).run()
    settle(at)
    assert "--set weight=30.0" in texts(at) and "--set tokens=1" in texts(at)


def test_strength_switch_and_undo(edited_app):
    at = edited_app
    run = at_hand(at).edits[0].run
    at.slider(key=f"strength {run}").set_value(0.0).run()
    assert at_hand(at).edits[0].strength == 0.0 and not at_hand(at).active
    at.slider(key=f"strength {run}").set_value(1.2).run()
    at.toggle(key=f"on {run}").set_value(False).run()
    assert not at_hand(at).active
    press(at, f"undo {run}")
    assert not at_hand(at).edits
    assert RunStore.default().get(run).status == "FINISHED"


def test_the_trace_again_is_empty_where_recall_is_gone(edited_app):
    at = go(edited_app, "localize")
    press(at, "localize")
    go(at, "edit_test")
    at.segmented_control(key="tab").set_value("Trace again").run()
    press(at, "trace again")
    store = RunStore.default()
    after = Localization.load([r for r in store.list() if r.kind == "trace-again"][-1].path)
    before = Localization.load(store.get(at_hand(at).trace).path)
    assert after.clean < 0.3 * before.clean
    assert f"was {before.clean:.2f} and is {after.clean:.2f}" in texts(at)


def test_two_sessions_do_not_see_each_other(edited_app):
    other = open_app(facts="athletes-1")
    assert not at_hand(other).edits and at_hand(edited_app).edits
    prompt = load_request("athletes-1").forget[0].prompt
    expected = generate(load("demo"), [prompt], max_new_tokens=32)[0].strip()
    other.text_area(key="ask demo").set_value(prompt).run()
    assert expected in texts(other)
    go(edited_app, "model_facts")
    edited_app.text_area(key="ask demo").set_value(prompt).run()
    assert expected not in texts(edited_app).split("with your edits")[1].split("tour")[0]


def test_export_writes_a_checkpoint_that_transformers_loads(edited_app, tmp_path):
    at = go(edited_app, "export")
    folder = tmp_path / "exported"
    at.text_input(key="export folder").set_value(str(folder)).run()
    press(at, "export")
    assert "largest difference of any logit: 0.0" in texts(at)
    from transformers import AutoModelForCausalLM

    again = AutoModelForCausalLM.from_pretrained(folder)
    edited = edited_model(load("demo"), at_hand(at).active, RunStore.default())
    name = "model.layers.1.mlp.down_proj.weight"
    assert again.get_parameter(name).equal(edited.hf.get_parameter(name))
    press(at, "export")
    assert "already exists" in at.error[0].value


def test_runs_are_listed_restored_compared_and_deleted(edited_app, tmp_path, monkeypatch):
    run = at_hand(edited_app).edits[0].run
    shutil.copytree(RunStore.default().root, tmp_path / "own")
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "own"))
    fresh = go(open_app(facts="athletes-1"), "runs")
    table = fresh.dataframe[0].value
    assert run in set(table["id"])
    row = list(table["id"]).index(run)
    fresh.session_state["runs"] = {"selection": {"rows": [row], "columns": []}}
    press(fresh.run(), "restore")
    assert [e.run for e in at_hand(fresh).edits] == [run]
    fresh.session_state["runs"] = {"selection": {"rows": [0, 1], "columns": []}}
    settle(fresh.run())
    assert "Difference of two runs" in texts(fresh)
    fresh.session_state["runs"] = {"selection": {"rows": [row], "columns": []}}
    settle(fresh.run())
    press(fresh, "delete run")
    assert run not in {r.id for r in RunStore.default().list()}
    assert not at_hand(fresh).edits


def test_a_broken_run_is_shown_as_broken():
    folder = RunStore.default().root / "20250101-000000-000000-edit-abcdef"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{")
    at = go(open_app(), "runs")
    assert list(at.dataframe[0].value["status"]) == ["cannot be read"]
    at.session_state["runs"] = {"selection": {"rows": [0], "columns": []}}
    settle(at.run())
    assert "cannot be read" in at.warning[0].value


def test_pages_without_work_say_what_to_do_next():
    at = open_app()
    for page, words in (
        ("localize", "Nothing is localized yet"),
        ("edit_test", "No edit yet"),
        ("export", "No edit is switched on"),
        ("runs", "Nothing was run yet"),
    ):
        assert words in texts(go(at, page))
