"""Every setting of every method is explained."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest

from workbench.edit import registry
from workbench.edit.registry import METHODS, Method, settings_help
from workbench.errors import WorkbenchError


@pytest.mark.parametrize("name", sorted(METHODS))
def test_each_setting_has_its_words(name: str) -> None:
    found = settings_help(name)
    assert list(found) == [f.name for f in fields(METHODS[name].config)]
    assert all(len(text) > 5 and text.endswith(".") for text in found.values())
    assert not any("  " in text or "\n" in text for text in found.values())


@dataclass(frozen=True)
class _Documented:
    """Settings.

    Attributes:
        one: how much: between 0
            and 1.
        two: a word.

    Not a setting: this line.
    """

    one: float = 0.5
    two: str = "x"


@dataclass(frozen=True)
class _Bare:
    """Settings without a word about them."""

    one: float = 0.5


def test_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> None: ...

    methods = {"documented": Method(run, _Documented, ""), "bare": Method(run, _Bare, "")}  # type: ignore[arg-type]
    monkeypatch.setattr(registry, "METHODS", methods)
    assert settings_help("documented") == {"one": "how much: between 0 and 1.", "two": "a word."}
    assert settings_help("bare") == {}
    with pytest.raises(WorkbenchError, match="method"):
        settings_help("other")
