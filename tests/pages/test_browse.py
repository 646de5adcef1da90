"""The page "Browse circuits", driven from the app's entry; its numbers are the package's own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from workbench.facts.fact import Fact, FactSet
from workbench.job_inputs import request_for
from workbench.localize.circuit import faithfulness
from workbench.localize.circuit_graph import Circuit
from workbench.localize.logit_lens import logit_lens
from workbench.localize.readings import head_contributions
from workbench.models.load import load
from workbench.models.model import Model
from workbench.plans import CircuitPlan, plan_of
from workbench.store.store import RunStore

PAGES = Path(__file__).parents[2] / "pages"
HOSTILE = "<script>alert(1)</script> **Mona** plays the sport of"


@pytest.fixture(scope="module")
def demo() -> Model:
    return load("demo")


@pytest.fixture(scope="module")
def first(demo: Model) -> Fact:
    return request_for(demo, "athletes").forget[0]


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    yield opened()


def opened() -> AppTest:
    app = AppTest.from_file(str(PAGES / "app.py"), default_timeout=120).run()
    app.switch_page(str(PAGES / "browse.py"))
    return wait(app, lambda: bool(app.selectbox))


def wait(app: AppTest, there: Any) -> AppTest:
    """Look again until something is there."""
    for _ in range(100):
        app.run()
        assert not app.exception, app.exception[0].value
        if there():
            return app
        time.sleep(0.1)
    raise AssertionError("it never came")


def key_of(app: AppTest, name: str) -> str:
    """Return the full key of the one widget whose key begins so."""
    (key,) = [w.key for w in app.selectbox if w.key.startswith(name)]
    return key


def metric(app: AppTest, label: str) -> str:
    return next(m.value for m in app.metric if m.label == label)


def click(app: AppTest, key: str, data: list[Any]) -> AppTest:
    app.session_state[key] = {"selection": {"points": [{"customdata": data}]}}
    return app.run()


def found_circuit(app: AppTest) -> str:
    app.button(key="find circuit").click()
    wait(app, lambda: "circuit run" in app.session_state)
    app.run()
    assert not app.error and not app.exception
    return app.session_state["circuit run"]


def test_a_cell_shows_the_readings_of_the_package(page: AppTest, demo: Model, first: Fact) -> None:
    lens = logit_lens(demo, first.prompt, target=first.target)
    key = key_of(page, "layer ").removeprefix("layer ")
    click(page, f"lens {key}", [2, 9])
    assert page.selectbox(key=f"layer {key}").value == 2
    assert page.selectbox(key=f"position {key}").value == 9
    assert lens.target_probability is not None and lens.target_rank is not None
    assert metric(page, "Probability") == f"{float(lens.target_probability[2, 9]):.3f}"
    assert metric(page, "Rank") == f"{int(lens.target_rank[2, 9]) + 1:,}"
    shown = next(d.value for d in page.dataframe if "next token" in d.value)
    assert shown["probability"].tolist() == lens.probability[2, 9].tolist()
    assert shown["next token"].tolist() == [t.replace(" ", "␣") for t in lens.top[2][9]]
    # The subject's last token stands at position 9, so what is added there is of its site.
    heads = head_contributions(demo, first.prompt, 9, first.target, first.foil).heads[2]
    best = int(heads.abs().argmax())
    head = page.selectbox(key=f"head {key} 2 9")
    assert head.value == best
    assert f"writes {float(heads[best]):+.3f} logits" in head.options[best]
    page.button(key=f"add head {key} 2 9").click().run()
    assert str(page.session_state["workspace"].selection["subject"]) == f"head.2.{best}"
    # The widgets do what the click did, and the last click does not come back.
    page.selectbox(key=f"layer {key}").set_value(4).run()
    page.selectbox(key=f"position {key}").set_value(len(lens.tokens) - 1).run()
    assert metric(page, "Probability") == f"{float(lens.target_probability[4, -1]):.3f}"
    page.segmented_control(key="cell view").set_value("Neurons").run()
    page.button(key=f"add whole mlp {key} 4 {len(lens.tokens) - 1}").click().run()
    assert str(page.session_state["workspace"].selection["answer"]) == "mlp.4"
    page.segmented_control(key="cell view").set_value("Heads and MLPs").run()
    assert not page.exception and not page.error


def test_a_circuit_is_found_measured_and_kept(page: AppTest, demo: Model, first: Fact) -> None:
    run = found_circuit(page)
    record = RunStore.default().get(run)
    plan = plan_of("circuit", record.config)
    assert isinstance(plan, CircuitPlan) and plan.subject == first.subject
    assert any(plan.command() == code.value for code in page.code)
    whole = Circuit.from_json(record.json("circuit"))
    page.slider(key=f"edges {run}").set_value(50).run()
    (row,) = faithfulness(demo, FactSet((first,)), whole, [50]).to_dict("records")
    kept = whole.pruned(edges=50)
    assert metric(page, "Faithfulness") == f"{row['faithfulness']:.3f}"
    assert metric(page, f"Edges of {len(whole.edges)}") == str(row["kept"]) == str(len(kept.edges))
    assert metric(page, f"Nodes of {len(whole.nodes)}") == str(len(kept.nodes))

    node = next(n for n in kept.nodes if n.startswith("head"))
    click(page, f"graph {run}", [node])
    assert page.selectbox(key=f"node {run}").value == node
    incoming, outgoing = kept.edges_of(node)
    tables = [d.value for d in page.dataframe if "share" in d.value]
    assert [t["share"].tolist() for t in tables] == [
        [e.score for e in edges] for edges in (incoming, outgoing)
    ]
    page.button(key=f"pin {run}").click().run()
    assert page.multiselect(key=f"pinned {run}").value == [node]
    page.selectbox(key=f"node {run}").set_value("mlp.5").run()
    (add,) = [b for b in page.button if b.label == "Add mlp.5 to the answer site"]
    add.click().run()
    assert str(page.session_state["workspace"].selection["answer"]) == "mlp.5"

    # Coming back finds everything as it was, and nothing is computed again.
    page.switch_page(str(PAGES / "runs.py")).run()
    page.switch_page(str(PAGES / "browse.py")).run()
    assert page.slider(key=f"edges {run}").value == 50
    assert page.selectbox(key=f"node {run}").value == "mlp.5"
    assert page.multiselect(key=f"pinned {run}").value == [node]
    assert [r.id for r in RunStore.default().list()] == [run]

    # A new session finds it among those of the store.
    other = opened()
    key = key_of(other, "shown circuit")
    other.selectbox(key=key).set_value(run).run()
    assert metric(other, "Faithfulness") == f"{record.table('faithfulness')['faithfulness'][0]:.3f}"


def test_a_prompt_of_ones_own_is_read_and_never_rendered(page: AppTest) -> None:
    page.segmented_control(key="browse source").set_value("own").run()
    assert any("Write a prompt and the answer" in m.value for m in page.markdown)
    page.text_area(key="browse own prompt").set_value(HOSTILE)
    page.text_input(key="browse own answer").set_value("handball").run()
    assert not page.exception and not page.error
    assert any("Name the prompt's subject" in m.value for m in page.markdown)
    (add,) = [b for b in page.button if b.label.startswith("Add head")]
    assert add.label.endswith("to the answer site")
    read = [*page.markdown, *page.caption, *page.get("html")]
    assert not any("<script" in str(e.value) for e in read if hasattr(e, "value"))
    charts = page.get("plotly_chart")
    assert charts and not any("<script" in json.dumps(c.proto.spec) for c in charts)

    page.text_input(key="browse own subject").set_value("Nobody").run()
    assert "is not in the prompt" in page.error[0].value
    page.text_input(key="browse own subject").set_value("**Mona**").run()
    page.button(key="find circuit").click()
    wait(page, lambda: bool(page.error))
    assert "does not know this fact" in page.error[0].value
    page.text_input(key="browse own wrong").set_value("handball").run()
    assert any("begin with the same token" in e.value for e in page.error)


def test_a_known_prompt_of_ones_own_has_a_circuit_measured_on_demand(
    page: AppTest, demo: Model, first: Fact, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.segmented_control(key="browse source").set_value("own").run()
    page.text_area(key="browse own prompt").set_value(first.statements[0])
    page.text_input(key="browse own answer").set_value(first.target.strip())
    page.text_input(key="browse own subject").set_value(first.subject).run()
    run = found_circuit(page)
    record = RunStore.default().get(run)
    assert record.config["facts"].endswith(".jsonl") and not record.config["request"]
    # As with a model that is too large to be measured while the slider moves:
    monkeypatch.setattr(sys.modules["parts.circuit_find"], "_LIVE", 0)
    page.slider(key=f"edges {run}").set_value(70).run()
    assert metric(page, "Faithfulness") == "?"
    page.button(key=f"measure circuit {run}").click()
    wait(page, lambda: metric(page, "Faithfulness") != "?")
    whole = Circuit.from_json(record.json("circuit"))
    own = Fact(first.subject, first.statements[0], first.target)
    (row,) = faithfulness(demo, FactSet((own,)), whole, [70]).to_dict("records")
    assert metric(page, "Faithfulness") == f"{row['faithfulness']:.3f}"
