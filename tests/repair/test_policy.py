"""Who may ask for what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from repair_plan import GOOD

from workbench.errors import WorkbenchError
from workbench.repair import policy as policy_module
from workbench.repair.ledger import REPAIRED, Logged
from workbench.repair.plan import make_plan
from workbench.repair.policy import Policy, current_user, read_policy

PLAN = make_plan(GOOD)


def policy(tmp_path: Path, text: str) -> Policy:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    return read_policy(file)


def made(user: str, count: int, days_ago: int = 0) -> list[Logged]:
    time = (datetime.now(UTC) - timedelta(days=days_ago)).isoformat(timespec="seconds")
    return [Logged(time, user, "", f"{REPAIRED} x", ("Ada",))] * count


def test_the_default_asks_and_stops_at_twenty_a_day():
    rule = Policy().decide("anna", PLAN, made("anna", 19) + made("carl", 50))
    assert rule.confirm
    Policy().decide("anna", PLAN, made("anna", 20, days_ago=1))
    with pytest.raises(WorkbenchError, match="20 repairs a day"):
        Policy().decide("anna", PLAN, made("anna", 20))
    refused = [Logged(made("anna", 1)[0].time, "anna", "", "refused: x", ())] * 30
    Policy().decide("anna", PLAN, refused)


def test_the_first_rule_that_fits_decides(tmp_path: Path):
    rules = policy(
        tmp_path,
        """
        [[rule]]
        subjects = ["ada"]
        users = ["guest-*"]
        allow = false
        [[rule]]
        relations = ["city", "phone"]
        actions = ["forget"]
        confirm = false
        per_day = 1
        """,
    )
    assert not rules.decide("anna", PLAN, []).confirm
    with pytest.raises(WorkbenchError, match="does not let guest-1 forget city of Ada"):
        rules.decide("guest-1", PLAN, [])
    with pytest.raises(WorkbenchError, match="1 repairs a day"):
        rules.decide("anna", PLAN, made("anna", 1))
    with pytest.raises(WorkbenchError, match="does not let anna correct"):
        rules.decide("anna", make_plan({**GOOD, "action": "correct"}), [])
    other = {**GOOD["facts"][0], "relation": "sport"}
    with pytest.raises(WorkbenchError, match="does not let"):  # one of its relations is not allowed
        rules.decide("anna", make_plan({**GOOD, "facts": [GOOD["facts"][0], other]}), [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[rule]]\nuser = ['x']", "did you mean 'users'"),
        ("[[rules]]", "did you mean 'rule'"),
        ("[[rule]]\nper_day = -1", "per_day is wrong"),
        ("[[rule", "not a TOML file"),
    ],
)
def test_a_broken_policy_is_refused(tmp_path: Path, text: str, words: str):
    with pytest.raises(WorkbenchError, match=words):
        policy(tmp_path, text)


def test_an_account_without_a_name_is_somebody(monkeypatch: pytest.MonkeyPatch):
    def nameless() -> str:
        raise OSError("no username set in the environment")

    monkeypatch.setattr(policy_module.getpass, "getuser", nameless)
    assert current_user() == "nobody"
