"""A plan is data: it is read, changed and checked, whoever wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from repair_plan import FACT, GOOD

from workbench.errors import WorkbenchError
from workbench.repair.plan import RepairPlan, make_plan


def test_a_plan_comes_back_from_its_file(tmp_path: Path):
    plan = make_plan({**GOOD, "settings": {"weight": 10.0}, "stronger": [{"answer.weight": 99.0}]})
    assert list(plan.forget) == [FACT]
    plan.save(tmp_path / "plan.json")
    assert RepairPlan.load(tmp_path / "plan.json") == plan
    assert plan.what == "Forget about Ada: city"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"acton": "forget"}, "did you mean 'action'"),
        ({"action": "destroy"}, "action is wrong"),
        ({"facts": []}, "facts must be a list of at least one"),
        ({"facts": [{"subject": "Ada"}]}, "'prompt' is missing"),
        ({"subject": "Carl"}, "is about Carl, but one of its facts is about Ada"),
        ({"sites": {"answer": "mpl.1"}}, "mlp"),
        ({"sites": {"middle": "mlp.1"}}, "sites"),
        ({"settings": {"wieght": 1.0}}, "did you mean 'weight'"),
        ({"settings": {"weight": -1.0}}, "weight must be positive"),
        ({"stronger": [{"strength": 0.0}]}, "strength must be positive"),
        ({"limits": {"kept": 2.0}}, "limits.kept is wrong"),
        ({"limits": {"kpt": 1.0}}, "did you mean 'kept'"),
        ({"checks": ["luck"]}, "checks.0 is wrong"),
        ({"method": "stmp"}, "did you mean 'stamp'"),
        ({"action": "correct", "sites": {"subject": "mlp.1"}}, "use the answer site"),
        (
            {"action": "correct", "facts": [{**FACT.to_json(), "foil": " Graz"}]},
            "to what it says already",
        ),
        ({"action": "correct", "facts": [{**FACT.to_json(), "foil": None}]}, "give its foil"),
    ],
)
def test_every_fault_is_one_sentence(change: dict[str, Any], words: str):
    with pytest.raises(WorkbenchError) as error:
        make_plan({**GOOD, **change})
    assert words in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_plan(tmp_path: Path):
    with pytest.raises(WorkbenchError, match="lacks 'model'"):
        make_plan({})
    with pytest.raises(WorkbenchError, match="no record"):
        make_plan(["import os"])
    (tmp_path / "plan.json").write_text("import os")
    with pytest.raises(WorkbenchError, match="not valid JSON"):
        RepairPlan.load(tmp_path / "plan.json")
