"""Fixtures of the tests that run a study: its work is faked, its files are real."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compare.faked import Bed, Faked
from tests.compare.small import load
from workbench.compare import bench, runner
from workbench.store.store import RunStore


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a study's bench load a small model."""
    monkeypatch.setattr(bench, "load", load)
    monkeypatch.setattr(bench, "neutral_texts", lambda model, request: ("One text.",))


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cells"


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Faked:
    made = Faked()
    monkeypatch.setattr(runner, "run_cell", made.cell)
    monkeypatch.setattr(runner, "run_attack", made.attack)
    return made
