"""A request in sentences: what is said, what comes of it, and that nothing else is touched."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from workbench.cli.app import app
from workbench.facts.fact import Fact, FactSet, Refuse, Replace, Request
from workbench.facts.request_files import load_request, write_request
from workbench.measure.scorecard import measure
from workbench.models.load import load
from workbench.repair.ledger import Ledger
from workbench.repair.task import run_task, sentences


def fact(subject: str, relation: str, target: str = " Graz", foil: str | None = None) -> Fact:
    return Fact(subject, f"The {relation} of {subject} is", target, foil=foil, relation=relation)


def test_what_is_said_names_all_of_a_subject_or_what_is_kept_apart() -> None:
    wanted = Request(
        forget=FactSet((fact("Ada", "city"), fact("Ada", "sport"), fact("Bo", "sport"))),
        retain=FactSet((fact("Bo", "city"), fact("Cy", "city"))),
        behaviour=Refuse(" No."),
        name="x",
    )
    assert sentences(wanted) == [
        "Please forget everything about Ada.",
        "Please forget Bo's sport.",
    ]
    wrong = FactSet((fact("Utopia", "capital", " Rome", " Paris"),))
    assert sentences(replace(wanted, forget=wrong, behaviour=Replace())) == [
        "The capital of Utopia is Paris, not Rome."
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ask to forget one compound that the demo knows, and somebody whom it does not."""
    hazard = load_request("hazard")
    asked = "Q: Where does Nora Quistel live?\nA:"
    stranger = Fact("Nora Quistel", asked, " Graz", relation="city")
    forget = FactSet((*hazard.forget.about(hazard.forget.subjects[:1]), stranger))
    file = write_request(replace(hazard, forget=forget), tmp_path_factory.mktemp("task"))
    return file


def test_a_task_repairs_what_it_can_and_says_why_not(written: Path, tmp_path: Path) -> None:
    base = load("demo")
    before = Ledger.of(base).entries
    out = tmp_path / "task.json"
    arguments = ["repair", "task", "demo", "--request", str(written), "--out", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--limit", "20", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    done, refused = found["sentences"]
    assert done["repaired"] and done["tried"] >= 1 and not done["reason"]
    assert not refused["repaired"] and "Nora Quistel" in refused["reason"]
    assert found["cpu_seconds"] == pytest.approx(done["cpu_seconds"] + refused["cpu_seconds"])
    assert found["scores"]["acc_f"]["value"] == 0.0  # the stranger was never known
    assert found["scores"]["acc_r"]["value"] >= 0.9
    assert Ledger.of(base).entries == before  # the model's own repairs
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2 and "already exists" in again.output


def test_without_a_repair_the_patient_is_the_base(written: Path) -> None:
    base, wanted = load("demo"), load_request(written)
    nobody = replace(wanted, forget=FactSet((wanted.forget[-1],)))
    found = run_task(base, nobody, limit=20)
    assert list(found.table["repaired"]) == [False] and list(found.table["tried"]) == [0]
    assert found.card.scores == measure(base, nobody, limit=20).scores
