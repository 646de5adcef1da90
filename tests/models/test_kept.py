"""What is kept of a model's words: found again by what it was made of, and by nothing less."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import make_model

from workbench.edit.self_made import own_answers, sample_chats, sample_names, sample_texts
from workbench.models import kept as module
from workbench.models.kept import kept, kept_each, nothing_kept
from workbench.models.model import Model


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "_folder", lambda: tmp_path / "kept")
    return tmp_path / "kept"


def counted(found: list[Any]) -> Any:
    found.append(1)
    return len(found)


def test_made_once_for_the_same_model_and_inputs(tiny: Model, folder: Path):
    calls: list[Any] = []
    first = [kept(tiny, "texts", [1, "a"], lambda: counted(calls)) for _ in range(3)]
    assert first == [1, 1, 1] and len(list(folder.iterdir())) == 1
    assert kept(tiny, "texts", [1, "b"], lambda: counted(calls)) == 2
    assert kept(tiny, "names", [1, "a"], lambda: counted(calls)) == 3
    assert kept(make_model("qwen2", seed=5), "texts", [1, "a"], lambda: counted(calls)) == 4


def test_within_the_block_everything_is_made_anew(tiny: Model, folder: Path):
    calls: list[Any] = []
    with nothing_kept():
        assert [kept(tiny, "texts", [1], lambda: counted(calls)) for _ in range(2)] == [1, 2]
    assert not folder.exists()
    assert kept(tiny, "texts", [1], lambda: counted(calls)) == 3


def test_a_damaged_or_unwritable_cache_is_as_good_as_none(
    tiny: Model, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    calls: list[Any] = []
    kept(tiny, "texts", [1], lambda: counted(calls))
    (file,) = folder.iterdir()
    file.write_text("[1, ", encoding="utf-8")
    assert kept(tiny, "texts", [1], lambda: counted(calls)) == 2
    file.write_bytes(b"\xff\xfe")
    assert kept(tiny, "texts", [1], lambda: counted(calls)) == 3
    (folder.parent / "a file").write_text("")
    monkeypatch.setattr(module, "_folder", lambda: folder.parent / "a file" / "kept")
    assert kept(tiny, "texts", [1], lambda: counted(calls)) == 4


def test_only_what_is_missing_is_made(tiny: Model, folder: Path):
    asked: list[list[str]] = []

    def make(missing: list[str]) -> list[str]:
        asked.append(missing)
        return [text.upper() for text in missing]

    def said(*prompts: str) -> list[str]:
        return kept_each(tiny, "answers", [12], prompts, make)

    assert said("a", "b", "a") == ["A", "B", "A"]
    assert said("b", "c") == ["B", "C"]
    assert said("c", "a") == ["C", "A"]
    assert asked == [["a", "b"], ["c"]] and len(list(folder.iterdir())) == 1
    with nothing_kept():
        assert said("a", "a") == ["A", "A"]
    assert asked[2:] == [["a", "a"]]
    assert kept_each(tiny, "answers", [13], ["a"], make) == ["A"] and len(asked) == 4
    for damage in ("[1, ", "[1, 2]"):
        for file in folder.iterdir():
            file.write_text(damage, encoding="utf-8")
        assert said("a") == ["A"]


def test_a_file_of_many_answers_starts_anew(tiny: Model, folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_MOST_EACH", 3)
    for prompts in (["a", "b"], ["c"], ["d", "a"]):
        assert kept_each(tiny, "answers", [], prompts, list) == prompts
    (file,) = folder.iterdir()
    assert sorted(json.loads(file.read_text())) == ['"a"', '"d"']


def test_the_oldest_go(tiny: Model, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MOST", 2)
    for i in range(4):
        kept(tiny, "texts", [i], lambda i=i: i)
        for age, file in enumerate(sorted(folder.iterdir(), key=lambda f: f.stat().st_mtime)):
            os.utime(file, (age, age))
    assert sorted(int(f.read_text()) for f in folder.iterdir()) == [2, 3]


@pytest.mark.parametrize(
    "said",
    [
        lambda m: sample_texts(m, 4, seed=1),
        lambda m: own_answers(m, ["The capital of", "Ada"]),
        lambda m: sample_names(m, [("The capital of", " is")], 6, length=4),
        lambda m: sample_chats(m, 3, length=4, answer=4),
    ],
)
def test_what_is_kept_is_what_would_be_made(tiny: Model, said: Any):
    tiny = Model(tiny.hf, tiny.tokenizer, tiny.name, tiny.deltas)
    with nothing_kept():
        made = said(tiny)
    assert said(tiny) == made and said(tiny) == made
