"""A request that a user put together is kept once, by its content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.edit.requests import request
from workbench.errors import WorkbenchError
from workbench.facts.fact import Refuse
from workbench.facts.request_files import load_request
from workbench.workspace.requests import keep_request


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_kept_request_is_loaded_as_it_was() -> None:
    wanted = replace(request(), name="my-athletes", behaviour=Refuse(" No."))
    assert load_request(keep_request(wanted)) == wanted


def test_the_same_content_is_written_once(cache: Path) -> None:
    wanted = replace(request(), name="my-athletes")
    file = Path(keep_request(wanted))
    before = file.stat().st_mtime_ns
    assert keep_request(wanted) == keep_request(replace(wanted, name="other")) == str(file)
    assert file.stat().st_mtime_ns == before and file.is_relative_to(cache)
    assert len(list((cache / "requests").iterdir())) == 1


def test_another_content_is_another_file(cache: Path) -> None:
    first = keep_request(request())
    second = keep_request(replace(request(), behaviour=Refuse(" No.")))
    third = keep_request(request(forget=("Ada Brook",)))
    assert len({first, second, third}) == 3
    assert len(load_request(third).forget) == 1


def test_a_half_written_request_is_written_again(cache: Path) -> None:
    file = Path(keep_request(request()))
    file.unlink()  # the facts are there, the request itself is not
    assert load_request(keep_request(request())).forget == request().forget


def test_a_cache_that_cannot_be_written_is_a_sentence(cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(WorkbenchError, match="Cannot make"):
        keep_request(request())
