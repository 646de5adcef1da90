"""A tiny model and a store of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_files import tiny_folder

from workbench.models.load import load
from workbench.models.model import Model
from workbench.store.store import RunStore


@pytest.fixture(scope="module")
def model() -> Model:
    return load(tiny_folder())


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")
