"""The public names: each is there, and importing the package does not import torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

import workbench


@pytest.mark.parametrize("name", workbench.__all__)
def test_every_public_name_is_there(name):
    found = getattr(workbench, name)
    assert getattr(found, "__name__", name) in (name, name.lower())


def test_unknown_names_are_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        _ = workbench.nothing


def test_importing_the_package_is_light():
    code = "import sys, workbench; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
