"""Files that users upload: good ones become facts, bad ones a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pages.app_helpers import open_app, press, settle, texts

from workbench import load_request

GOOD = {"subject": "Nova Quist", "prompt": "Q: Who is Nova Quist?\nA:", "target": " a painter"}


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))


def upload(name: str, content: bytes):
    at = open_app(facts="athletes-1")
    at.file_uploader(key="upload").set_value((name, content, "text/plain"))
    return settle(at.run())


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"name,age\nAda,3\n", "a.csv"),
        ("a.jsonl", "Größe".encode("latin-1"), "not UTF-8"),
        ("a.jsonl", b"{not json}\n", "line 1"),
        ("a.jsonl", b"", "a.jsonl"),
    ],
)
def test_bad_files_are_sentences(name, content, words):
    at = upload(name, content)
    assert len(at.error) == 1
    assert words in at.error[0].value and "/tmp" not in at.error[0].value
    assert not [b for b in at.button if b.key == "upload forget"]


def test_a_file_joins_the_request():
    bad = {**GOOD, "subject": "somebody else"}
    lines = f"{json.dumps(GOOD)}\n{json.dumps(bad)}\n"
    at = upload("own.jsonl", lines.encode())
    assert "own.jsonl: 1 facts, 1 lines left out." in texts(at)
    press(at, "upload keep")
    own = load_request(at.session_state["workspace"].request)
    assert own.retain[-1].subject == "Nova Quist"
    assert own.forget == load_request("athletes-1").forget


def test_a_hundred_thousand_rows_and_html_are_no_trouble():
    rows = (f"<i>P{i}</i>,Where is <i>P{i}</i>?,here" for i in range(100_000))
    at = upload("big.csv", ("subject,prompt,target\n" + "\n".join(rows)).encode())
    assert "100000 facts" in texts(at)
    press(at, "upload keep")
    assert "100" in texts(at)
    table = at.dataframe[1].value
    assert len(table) == 1000  # what is shown; all of them can be searched
    at.text_input(key="search").set_value("<i>P99999</i>").run()
    assert list(at.dataframe[1].value["subject"]) == ["<i>P99999</i>"]
    assert not [h for h in at.get("html") if "<i>P" in str(h)]
    assert not [m for m in at.markdown if "<i>P" in m.value]
