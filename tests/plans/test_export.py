"""An export plan writes the model with its deltas, or says why it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_files import tiny_folder
from transformers import AutoModelForCausalLM

from workbench.errors import WorkbenchError
from workbench.models.delta import LowRank, Origin, WeightDelta
from workbench.models.load import load
from workbench.plans import ExportPlan, run_export

NAME = "model.layers.1.mlp.down_proj.weight"


def test_the_folder_holds_the_base_with_its_deltas(tmp_path: Path) -> None:
    base = load(tiny_folder())
    files = []
    for i in range(2):
        rows, columns = base.parameters[NAME].shape
        update = LowRank(torch.randn(rows, 2), torch.randn(2, columns))
        WeightDelta({NAME: update}, Origin("by hand")).save(tmp_path / f"{i}.safetensors")
        files.append(str(tmp_path / f"{i}.safetensors"))
    plan = ExportPlan(str(tiny_folder()), out=str(tmp_path / "x"), deltas=tuple(files))
    made = run_export(plan)
    assert made.path == tmp_path / "x" and made.run == ""
    assert made.result.formats == plan.formats == ("checkpoint", "delta")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "x")
    sums = sum(WeightDelta.load(f).updates[NAME].dense() for f in files)
    expected = base.parameters[NAME] + sums
    torch.testing.assert_close(plain.get_parameter(NAME).data, expected)
    with pytest.raises(WorkbenchError, match="already exists"):
        run_export(plan, base)


def test_without_a_delta_there_is_only_the_checkpoint() -> None:
    assert ExportPlan("demo", out="x").formats == ("checkpoint",)
    both = ExportPlan("demo", out="x", deltas=("d",), lora=True)
    assert both.formats == ("checkpoint", "delta", "lora")
    assert ExportPlan("demo", out="~/x").target() == Path.home() / "x"


@pytest.mark.parametrize("out", ["", "  "])
def test_no_folder_is_a_sentence(out: str) -> None:
    with pytest.raises(WorkbenchError, match="Name a folder"):
        run_export(ExportPlan("no such model", out=out))


def test_a_wrong_delta_is_told_first(tmp_path: Path) -> None:
    plan = ExportPlan("no such model", out=str(tmp_path / "x"), deltas=("gone.safetensors",))
    with pytest.raises(WorkbenchError, match="no delta file gone"):
        run_export(plan)
    assert not (tmp_path / "x").exists()
