"""Messages written one by one: the bundled watchdog on them, and what such a file must hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.repair.message import Asked
from workbench.repair.watchdog import Watchdog
from workbench.repair.watchdog_training import examine
from workbench.repair.written import written_messages


def test_the_watchdog_on_them():
    """What README says of it."""
    report = examine(Watchdog.load(), written_messages())
    assert report.detection.value >= 0.8
    assert report.exact.value >= 0.45
    assert report.false_alarms.value <= 0.05


def test_there_are_enough_of_each_kind_and_none_twice():
    found = written_messages()
    assert len({" ".join(m.text.lower().split()) for m in found}) == len(found) >= 300
    asked = [a for m in found for a in m.asked]
    assert sum(a.request == "forget" for a in asked) >= 120
    assert sum(a.request == "correct" for a in asked) >= 60
    assert sum(len(m.asked) == 2 for m in found) >= 15
    assert sum(not m.asked for m in found) >= 100


def test_a_file_of_ones_own(tmp_path: Path):
    file = tmp_path / "own.toml"
    file.write_text(
        '[[message]]\ntext = "Ada, who sings,\\nlives in Graz now, not in Lyon."\n'
        'asks = [{request = "correct", subject = "Ada", about = "lives in", '
        'replacement = "Graz"}]\n'
        '[[message]]\ntext = "Good morning!"\nasks = []\n'
        '[[message]]\ntext = "Forget Ada\'s job and where Ada lives."\n'
        'asks = [{request = "forget", subject = "Ada", about = "\'s job"}, '
        '{request = "forget", subject = "Ada", about = "where … lives"}]\n'
    )
    first, second, third = written_messages(file)
    assert first.asked == (Asked("correct", "Ada", "lives in", "Graz"),)
    assert second.asked == ()
    assert third.asked == (Asked("forget", "Ada", "'s job … where … lives"),)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "Cannot read"),
        ("message = 3", "list"),
        ("x = 1", "x"),
        ('[[message]]\ntext = "Hi"\n', "lacks"),
        ('[[message]]\ntext = ""\nasks = []\n', "text"),
        (
            '[[message]]\ntext = "Forget Ada."\nasks = [{request = "forget", subject = "Eve"}]\n',
            "'Eve' does not stand in 'Forget Ada.'",
        ),
        (
            '[[message]]\ntext = "Forget Ada."\nasks = [{request = "drop", subject = "Ada"}]\n',
            "request",
        ),
        (
            '[[message]]\ntext = "Ada is 9."\nasks = [{request = "correct", subject = "Ada"}]\n',
            "replacement",
        ),
        (
            '[[message]]\ntext = "Forget Ada."\n'
            'asks = [{request = "forget", subject = "Ada", replacement = "Forget"}]\n',
            "replacement",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(tmp_path: Path, content: str | None, fault: str):
    file = tmp_path / "own.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(WorkbenchError, match=fault) as caught:
        written_messages(file)
    assert "\n" not in str(caught.value)
