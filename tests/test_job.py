"""The main job on a tiny model: everything is written, nothing is lost, the numbers agree."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import make_tokenizer
from tiny_files import known_facts, request_file, tiny_folder
from transformers import AutoModelForCausalLM

from workbench.edit.stamp import StampConfig
from workbench.errors import WorkbenchError
from workbench.facts.accepted import accepted
from workbench.facts.everyday import everyday_questions
from workbench.facts.fact import FactSet
from workbench.job import JobResult, run_job
from workbench.job_inputs import JobInputs, JobSettings, draw, job_inputs, neutral_texts
from workbench.job_trace import trace_after
from workbench.localize.causal_tracing import causal_tracing
from workbench.localize.corruption import Noise
from workbench.measure.statistics import Score
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.models.load import load
from workbench.models.model import Model
from workbench.progress import Cancelled, Progress
from workbench.report import render_report
from workbench.store.store import RunStore

SETTINGS = JobSettings(
    corruption=Noise(samples=2),
    stamp=StampConfig(counterparts=3, confusable=20, context=4, generations=2),
    limit=2,
)


@pytest.fixture(scope="module")
def model() -> Model:
    return load(tiny_folder())


@pytest.fixture(scope="module")
def inputs(model: Model, tmp_path_factory: pytest.TempPathFactory) -> JobInputs:
    found = job_inputs(model, str(request_file(tmp_path_factory.mktemp("request"))), enough=4)
    return replace(found, neutral=("The capital of France is Paris.",))


@pytest.fixture(scope="module")
def done(
    model: Model, inputs: JobInputs, tmp_path_factory: pytest.TempPathFactory
) -> tuple[JobResult, RunStore]:
    root = tmp_path_factory.mktemp("job")
    store = RunStore(root / "runs")
    before = model.fingerprint
    result = run_job(
        model, inputs, out=root / "out", settings=SETTINGS, store=store, command="again"
    )
    assert model.fingerprint == before
    return result, store


def test_the_folder_holds_report_summary_and_checkpoint(done: tuple[JobResult, RunStore]) -> None:
    result, _ = done
    summary = json.loads((result.folder / "summary.json").read_text())
    assert summary.keys() >= {"model", "forget", "retain", "components", "seconds"}
    for side in ("before", "after"):
        wanted = {"acc_f", "acc_r", "paraphrase_f", "refusal_f", "mcq_f", "perplexity"}
        assert summary[side].keys() >= wanted
    wanted = {"method", "seconds", "parameters_touched", "unchanged_outside"}
    assert summary["edit"].keys() >= wanted
    assert summary["edit"]["unchanged_outside"] is True
    assert 0 <= summary["export"]["max_logit_difference"] <= 1e-4
    assert summary["before"]["acc_f"] == result.before.value("acc_f")
    assert not [p for p in result.folder.parent.iterdir() if p.name.startswith(".")]


def test_the_checkpoint_is_the_edited_model(done: tuple[JobResult, RunStore]) -> None:
    result, _ = done
    plain = AutoModelForCausalLM.from_pretrained(result.folder / "checkpoint")
    for name, tensor in result.edit.model.parameters.items():
        assert torch.equal(plain.get_parameter(name), tensor)


def test_the_run_is_recorded_with_its_artefacts(done: tuple[JobResult, RunStore]) -> None:
    result, store = done
    (record,) = store.list()
    assert record.status == "FINISHED"
    assert record.json("summary")["components"] == result.summary["components"]
    assert set(record.delta().updates) == set(result.edit.delta.updates)


def test_an_existing_folder_is_refused_and_kept(
    done: tuple[JobResult, RunStore], model: Model, inputs: JobInputs, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("mine")
    for overwrite, words in ((False, "already exists"), (True, "not written by this workbench")):
        with pytest.raises(WorkbenchError, match=words):
            run_job(model, inputs, out=tmp_path, overwrite=overwrite, settings=SETTINGS)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_cancelling_leaves_nothing(model: Model, inputs: JobInputs, tmp_path: Path) -> None:
    steps: list[str] = []

    def report(done: int, total: int, label: str) -> None:
        steps.append(label)

    stop = Progress(report, lambda: any("solving" in label for label in steps))
    with pytest.raises(Cancelled):
        run_job(model, inputs, out=tmp_path / "out", settings=SETTINGS, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_the_report_is_one_file_and_escapes_what_models_say(
    done: tuple[JobResult, RunStore], model: Model
) -> None:
    result, _ = done
    evil = "<script>alert(1)</script>"
    answers = result.after.answers.assign(answer=evil, prompt=evil)
    page = render_report(
        result.trace,
        result.trace_after,
        result.sites,
        model.structure,
        result.before,
        replace(result.after, answers=answers),
        {**result.summary, "model": evil, "command": evil},
    )
    assert evil not in page and "&lt;script&gt;alert(1)" in page
    assert "src=" not in page.split("<h1>")[0] and "cdn.plot.ly" not in page.split("<h1>")[0]
    saved = (result.folder / "report.html").read_text()
    assert saved.count("<h2>") == 7
    for component in (c for chosen in result.sites.values() for c in chosen):
        assert f"<code>{component}</code>" in saved


def test_the_report_of_a_replacement_says_what_was_replaced(
    done: tuple[JobResult, RunStore], model: Model
) -> None:
    result, _ = done
    after = result.after
    replaced = replace(after, scores={**after.scores, "replaced_f": Score(0.75, 4, 0.3, 0.95)})
    parts = (result.trace, result.trace_after, result.sites, model.structure, result.before)
    page = render_report(*parts, replaced, result.summary)
    assert "<b>75.0%</b><span>of them replaced" in page and "of them refused" not in page


def test_tracing_the_unedited_model_again_gives_the_same_numbers(
    model: Model, inputs: JobInputs
) -> None:
    before = causal_tracing(model, inputs.traced, corruption=SETTINGS.corruption)
    again = trace_after(model, model, inputs.traced, before, SETTINGS)
    for column in ("score", "stderr"):
        assert again.table[column].to_numpy() == pytest.approx(before.table[column].to_numpy())


def test_a_model_that_recalls_nothing_gives_an_empty_second_trace(
    model: Model, inputs: JobInputs
) -> None:
    """Without attention the subject cannot reach the last token at all."""
    before = causal_tracing(model, inputs.traced, corruption=SETTINGS.corruption)
    gone = {n: Dense(-w) for n, w in model.parameters.items() if n.endswith("o_proj.weight")}
    deaf = model.with_delta(WeightDelta(gone, Origin("test")))
    after = trace_after(deaf, model, inputs.traced, before, SETTINGS)
    assert float(after.table["score"].abs().max()) < 1e-4
    assert after.clean == pytest.approx(after.corrupted)


def test_few_facts_to_forget_are_joined_by_kept_ones(inputs: JobInputs) -> None:
    assert len(inputs.traced) == 2
    assert len(inputs.similar) == 2
    assert not {f.key for f in inputs.similar} & {f.key for f in inputs.traced}


def test_drawing_is_seeded_and_keeps_order() -> None:
    facts = known_facts()
    drawn = draw(facts, 3, 1)
    assert drawn == draw(facts, 3, 1)
    places = [facts.facts.index(f) for f in drawn]
    assert places == sorted(places) and len(set(places)) == 3
    assert draw(facts, 99, 1) is facts
    assert draw(FactSet(), 5, 0) == FactSet()


@pytest.mark.parametrize("request_name", ["athletes", "capitals", "my-own.json"])
def test_neutral_texts_are_bundled(request_name: str) -> None:
    texts = neutral_texts(model, request_name)
    assert len(texts) > 20 and all(t.strip() for t in texts)
    assert ("river" in texts[0]) == (request_name != "athletes")


def test_everyday_questions_are_for_chat_models(model: Model) -> None:
    assert not everyday_questions(model)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}U: {{ m['content'] }}\n{% endfor %}A:"
    asked = everyday_questions(Model(model.hf, tokenizer, "chat"))
    assert len(asked) >= 10
    week = next(f for f in asked if "week" in f.prompt)
    assert week.prompt.startswith("U: ") and accepted(week) == ("seven", "seven", "7")
