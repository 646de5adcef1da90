"""The page Repair, without a browser."""

from __future__ import annotations

import getpass
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from pages.app_helpers import go, open_app, press, settle, texts
from streamlit.testing.v1 import AppTest

from workbench import load
from workbench.errors import WorkbenchError
from workbench.progress import Progress
from workbench.repair.intent import Turn
from workbench.repair.ledger import Ledger, ledgers
from workbench.repair.plan import RepairPlan, make_plan
from workbench.repair.service import Proposal, Service

ASKS = "Which sport does Mona Zojum play?"
REQUEST = "Please forget which sport Mona Zojum plays."


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def opened() -> AppTest:
    return go(open_app(), "repair")


def say(at: AppTest, text: str) -> AppTest:
    """Send a message, and wait for what comes of it."""
    return settle(at.chat_input(key="message").set_value(text).run())


def conversation(at: AppTest) -> list[tuple[str, str]]:
    """Return the plain words of every turn."""
    return [(m.name, "\n".join(t.value for t in m.text)) for m in at.chat_message]


def tables(at: AppTest) -> str:
    return "".join(str(h.proto.body) for h in at.get("html"))


def keys(at: AppTest) -> set[str | None]:
    return {button.key for button in at.button}


def demo_ledger() -> Ledger:
    return Ledger.of(load("demo"))


def small_plan() -> RepairPlan:
    """Write the plan that a surgeon would, without asking the model."""
    base = load("demo")
    record = {
        "subject": "Mona Zojum",
        "prompt": f"Q: {ASKS}\nA:",
        "target": " handball",
        "relation": "sport",
    }
    return make_plan(
        {
            "model": base.name,
            "fingerprint": base.fingerprint,
            "said": REQUEST,
            "action": "forget",
            "subject": "Mona Zojum",
            "facts": [record],
            "evidence": [{"relation": "sport", "answer": "handball", "agreed": 0.9, "asked": 10}],
            "keep": {"held back": 507},
            "sites": {"answer": "mlp.4-5"},
        }
    )


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """Open the page on an offer that took no time."""
    plan = small_plan()

    def hear(self: Service, dialogue: Sequence[Turn], **_: object) -> tuple[Proposal, ...]:
        return (Proposal(plan, confirm=True),)

    monkeypatch.setattr(Service, "hear", hear)
    at = say(opened(), REQUEST)
    assert {"repair 1", "leave 1"} <= keys(at)
    return at


def test_a_question_is_answered_by_the_model():
    at = opened()
    service = Service.open(load("demo"))
    answer = service.patient.say(ASKS)
    assert "handball" in answer
    assert "Repairs: 0 in force, 0 taken back" in [e.label for e in at.expander]
    say(at, f"  {ASKS} ")
    assert conversation(at) == [("user", ASKS), ("assistant", answer)]
    assert not ledgers().exists()


def test_an_example_begins_the_conversation():
    at = press(opened(), "example 0")
    assert conversation(at)[0] == ("user", ASKS)
    assert "handball" in conversation(at)[1][1]
    assert "example 0" not in keys(at)


def test_the_whole_dialogue_is_heard(monkeypatch: pytest.MonkeyPatch):
    heard: list[list[Turn]] = []

    def hear(self: Service, dialogue: Sequence[Turn], **_: object) -> tuple[Proposal, ...]:
        heard.append(list(dialogue))
        return ()

    monkeypatch.setattr(Service, "hear", hear)
    at = say(say(opened(), ASKS), "Forget that.")
    answer = conversation(at)[1][1]
    expected = [Turn("user", ASKS), Turn("assistant", answer), Turn("user", "Forget that.")]
    assert heard == [expected[:1], expected]


def test_a_name_that_nobody_knows_is_told_in_a_sentence():
    at = say(opened(), "Please forget where Zzz Qqq lives.")
    (error,) = at.error
    assert error.value.startswith("The model knows nothing about Zzz Qqq")
    assert not any(str(key).startswith("repair ") for key in keys(at))
    assert demo_ledger().entries == ()
    (logged,) = demo_ledger().logged()
    assert logged.user == getpass.getuser() and logged.outcome.startswith("refused: ")
    say(at, ASKS)  # the conversation goes on, and what went wrong stays in it
    assert len(at.error) == 1 and "handball" in conversation(at)[-1][1]


def test_an_offer_that_is_left_changes_nothing(offered: AppTest):
    at = offered
    shown = tables(at)
    for words in ("handball", "I do not know.", "90% of 10 wordings", "answer: mlp.4-5, by stamp"):
        assert words in shown
    for words in ("507 held back", "at most 0%", "at least 97%", "at most 105%", "at most 25%"):
        assert words in shown
    assert "as the last repair took" not in texts(at)
    press(at, "leave 1")
    assert "Left as it is; nothing was changed." in texts(at)
    assert not {"repair 1", "leave 1"} & keys(at)
    assert demo_ledger().entries == ()


def test_a_corrected_answer_stands_in_the_card(monkeypatch: pytest.MonkeyPatch):
    forget = small_plan().to_json()
    record = {**forget["facts"][0], "foil": " golf"}
    plan = make_plan({**forget, "action": "correct", "facts": [record]})
    monkeypatch.setattr(Service, "hear", lambda *_, **__: (Proposal(plan, confirm=True),))
    shown = tables(say(opened(), "It is golf."))
    assert "<td>handball</td><td>golf</td>" in shown and "I do not know" not in shown


def test_a_repair_that_fails_is_told_in_a_sentence(
    offered: AppTest, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object, **__: object) -> None:
        raise WorkbenchError("No setting of the plan meets its limits.")

    monkeypatch.setattr(Service, "carry_out", fail)
    at = press(offered, "repair 1")
    assert [e.value for e in at.error] == ["No setting of the plan meets its limits."]
    assert "repair 1" in keys(at)  # the offer still stands
    assert demo_ledger().entries == ()


def test_a_repair_is_stopped_even_when_it_is_too_late(
    offered: AppTest, monkeypatch: pytest.MonkeyPatch
):
    go_on, undone = threading.Event(), []

    def carry_out(
        self: Service, plan: RepairPlan, *, progress: Progress, **_: object
    ) -> tuple[SimpleNamespace, SimpleNamespace]:
        progress.step(1, 3, "solving")
        assert go_on.wait(60)
        return SimpleNamespace(tried=1), SimpleNamespace(id="made")

    monkeypatch.setattr(Service, "carry_out", carry_out)
    monkeypatch.setattr(Service, "undo", lambda self, name, **_: undone.append(name))
    at = offered.button(key="repair 1").click().run()
    work = at.session_state["works"]["repair demo"]
    assert work.running and at.button(key="repair 1").disabled
    assert at.chat_input(key="message").disabled
    at.button(key="stop repair demo").click().run()
    assert "Repairing: stopped; nothing was changed." in texts(at)
    assert not at.button(key="repair 1").disabled
    go_on.set()
    work.wait(60)
    assert undone == ["made"]


def test_edits_that_are_switched_on_play_no_part():
    at = go(open_app(edits="20250101-000000-000000-edit-abcdef"), "repair")
    assert "Repairs are made on the unedited model" in at.info[0].value
    assert not opened().info


@pytest.mark.slow
def test_a_repair_is_made_asked_about_and_undone():
    at = say(opened(), REQUEST)
    (message,) = [m for m in at.chat_message if m.name == "assistant"]
    assert [m.value for m in message.markdown] == ["**Forget about Mona Zojum\\: sport**"]
    assert "handball" in tables(at) and demo_ledger().entries == ()
    press(at, "repair 1")
    (entry,) = demo_ledger().active
    assert entry.user == getpass.getuser() and entry.plan.said == REQUEST
    assert "Repairs: 1 in force, 0 taken back" in [e.label for e in at.expander]
    assert not {"repair 1", "leave 1"} & keys(at)
    assert "tried once" in texts(at) or "tried 2 times" in texts(at)
    shown = tables(at)
    first = entry.answers[0]
    assert str(first["base_answer"]).strip() in shown and "<ins" in shown
    for found in entry.found:  # the page says the way that each limit was judged by
        limit = 100 * found["limit"]
        assert f"at {'most' if found['low'] else 'least'} {limit:.3g}%</td><td>met" in shown
    assert f"{len(entry.found)} of {len(entry.found)} checks are met" in str(
        [e.label for e in at.expander]
    )
    assert {f"undo {entry.id}", f"undo here {entry.id}"} <= keys(at)

    say(at, ASKS)
    assert conversation(at)[-1] == ("assistant", "I do not know.")

    again = opened()  # another browser finds it in the list, and can undo it
    press(again, f"undo {entry.id}")
    assert conversation(again) == [("assistant", "Taken back: Forget about Mona Zojum: sport.")]
    assert demo_ledger().active == () and len(demo_ledger().entries) == 1
    settle(at.run())
    assert "It was taken back." in texts(at)
    assert not {f"undo {entry.id}", f"undo here {entry.id}"} & keys(at)
    assert "Repairs: 0 in force, 1 taken back" in [e.label for e in at.expander]
    say(at, ASKS)
    assert "handball" in conversation(at)[-1][1]
    say(at, REQUEST)
    assert f"About {entry.seconds:.0f} s, as the last repair took." in texts(at)
