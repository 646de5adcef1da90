"""SmolLM2 for the tests that need a real pretrained model."""

from __future__ import annotations

from functools import cache

import pytest

from workbench.errors import WorkbenchError
from workbench.models.load import load
from workbench.models.model import Model
from workbench.models.smollm2 import get_smollm2


@cache
def _fetched() -> Model | str:
    try:
        get_smollm2()
    except WorkbenchError as error:
        return str(error)
    return load("smollm2")


def smollm2_or_skip() -> Model:
    """Return SmolLM2, fetched once; skip the test with the reason where it cannot be had."""
    found = _fetched()
    if isinstance(found, str):
        pytest.skip(found)
    return found
