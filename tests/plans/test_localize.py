"""A localization plan: its settings, its facts, and three ways to run it that agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_files import known_facts, request_file, tiny_folder, write_lines

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet
from workbench.facts.request_files import load_request
from workbench.localize.causal_tracing import causal_tracing
from workbench.localize.corruption import Noise, Replacement
from workbench.localize.localization import Localization
from workbench.models.model import Model
from workbench.plans import LocalizePlan, plan_of, run_localize
from workbench.store.store import RunStore


@pytest.fixture(autouse=True)
def _own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "runs"))


def test_a_run_is_the_localizers_own_result(model: Model, tmp_path: Path) -> None:
    request = str(request_file(tmp_path))
    plan = LocalizePlan(str(tiny_folder()), request=request, samples=2, seed=3, window=3)
    found = run_localize(plan, model)
    forget = load_request(request).forget
    own = causal_tracing(model, forget, corruption=Noise(samples=2, seed=3), window=3)
    pd.testing.assert_frame_equal(found.result.table, own.table, check_exact=True)
    (record,) = RunStore.default().list()
    assert (record.id, record.kind, record.seed) == (found.run, "localize", 3)
    assert plan_of(record.kind, record.config) == plan
    assert Localization.load(found.path).n_facts == own.n_facts == 2


def test_the_program_gives_the_same_table(model: Model, tmp_path: Path) -> None:
    request = str(request_file(tmp_path))
    plan = LocalizePlan(str(tiny_folder()), request=request, corruption="noise", samples=2, seed=4)
    scope: dict[str, Any] = {}
    exec(plan.python(), scope)
    own = run_localize(plan, model).result
    pd.testing.assert_frame_equal(scope["found"].table, own.table, check_exact=True)
    assert scope["found"].config == own.config


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"window": 3, "metric": "log_probability"}, {"window": 3, "metric": "log_probability"}),
        ({"samples": 2}, {"corruption": Noise(samples=2)}),
        ({"corruption": "replace"}, {"corruption": Replacement()}),
        ({"corruption": "replace", "samples": 3}, {"corruption": Replacement(samples=3)}),
        ({"seed": 5}, {"corruption": Noise(seed=5)}),
        ({"method": "activation_patching", "seed": 5}, {"corruption": Replacement(seed=5)}),
        # What is not said stays the localizer's own: fewer samples are no other corruption.
        ({"method": "activation_patching", "samples": 2}, {"corruption": Replacement(samples=2)}),
        ({"method": "logit_lens", "seed": 5}, {}),
    ],
)
def test_settings_by_hand(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert LocalizePlan("demo", request="athletes", **given).settings() == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "causal_tracin"}, "did you mean 'causal_tracing'"),
        ({"corruption": "nois"}, "did you mean 'noise'"),
        ({"window": 0}, "The window is 0 layers wide"),
        ({"metric": "probabilty"}, "did you mean 'probability'"),
        ({"method": "logit_lens", "window": 3}, "setting of logit_lens"),
        ({"method": "logit_lens", "samples": 3}, "setting of logit_lens"),
        ({"relation": "sprot"}, "did you mean 'sport'"),
        ({"subject": "Nobody Else"}, "subject"),
        ({"facts": "x.jsonl"}, "either --facts FILE or --request NAME"),
        ({"request": ""}, "either --facts FILE or --request NAME"),
    ],
)
def test_wrong_settings_are_sentences(
    given: dict[str, Any], words: str, model: Model, tmp_path: Path
) -> None:
    plan = LocalizePlan("tiny", **{"request": str(request_file(tmp_path)), **given})
    with pytest.raises(WorkbenchError, match=words):
        run_localize(plan, model)
    assert not [r for r in RunStore.default().list() if r.status == "FINISHED"]


def test_facts_are_chosen_by_relation_and_subject_and_drawn(model: Model, tmp_path: Path) -> None:
    known = known_facts()
    others = FactSet(tuple(Fact(f.subject, f"{f.subject} is", " x", relation="r") for f in known))
    file = str(write_lines(tmp_path / "facts.jsonl", known + others))

    def chosen(**given: Any) -> FactSet:
        return LocalizePlan("tiny", facts=file, **given).chosen(model)

    assert chosen() == known + others
    assert chosen(relation="sport") == known
    name = known[1].subject
    assert chosen(subject=name) == FactSet((known[1], others[1]))
    assert chosen(subject=name, relation="r") == FactSet((others[1],))
    few = chosen(most=3, seed=1)
    assert len(few) == 3 and few == chosen(most=3, seed=1)
    assert {f.key for f in few} <= {f.key for f in known + others}


def test_a_request_at_hand_is_not_read_again(model: Model, tmp_path: Path) -> None:
    request = load_request(request_file(tmp_path))
    plan = LocalizePlan("tiny", request=str(tmp_path / "gone.json"))
    assert plan.chosen(model, request) == request.forget
