"""What was made stays at hand, the oldest goes first."""

from __future__ import annotations

import pytest

from workbench.recent import remember


def test_the_last_few_are_kept() -> None:
    kept: dict[str, str] = {}
    made: list[str] = []

    def get(key: str) -> str:
        def make() -> str:
            made.append(key)
            return key.upper()

        return remember(kept, key, make, most=2)

    assert [get(k) for k in "aabbac"] == list("AABBAC")
    assert made == ["a", "b", "c"] and list(kept) == ["b", "c"]
    get("a")
    assert made == ["a", "b", "c", "a"] and list(kept) == ["c", "a"]


def test_what_cannot_be_made_drives_nothing_out() -> None:
    kept = {"a": 1}
    with pytest.raises(ZeroDivisionError):
        remember(kept, "b", lambda: 1 // 0, most=1)
    assert kept == {"a": 1}
