"""An export as a plan: where to, and of which deltas."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from workbench.errors import WorkbenchError
from workbench.models.export import ExportResult, export
from workbench.models.load import load
from workbench.models.model import Model
from workbench.plans.plan import Plan, Recorded, apply_deltas, load_deltas, options
from workbench.progress import SILENT, Progress


@dataclass(frozen=True)
class ExportPlan(Plan):
    """Settings of an export.

    Attributes:
        model: demo, smollm2, a folder or a hub id.
        out: the folder to write.
        deltas: delta files to apply.
        lora: whether to write a LoRA adapter too.
        overwrite: whether to replace an earlier export.
    """

    KIND: ClassVar[str] = "export"

    out: str = ""
    deltas: tuple[str, ...] = ()
    lora: bool = False
    overwrite: bool = False

    def arguments(self) -> list[str]:
        """Return the command's words behind `workbench export MODEL`."""
        return options(out=self.out, delta=self.deltas, lora=self.lora, overwrite=self.overwrite)

    def target(self) -> Path:
        """Return the folder to write.

        Raises:
            WorkbenchError: none is given.
        """
        if not self.out.strip():
            raise WorkbenchError("Name a folder to write the export to.")
        return Path(self.out).expanduser()

    @property
    def formats(self) -> tuple[str, ...]:
        """What is written."""
        delta = ("delta",) if self.deltas else ()
        return ("checkpoint", *delta, *(("lora",) if self.lora else ()))


def run_export(
    plan: ExportPlan,
    base: Model | None = None,
    edited: Model | None = None,
    *,
    progress: Progress = SILENT,
) -> Recorded[ExportResult]:
    """Export; the folder is its own record.

    Args:
        plan: what to do.
        base: the plan's model, if it is loaded already.
        edited: the same with the plan's deltas, if it is at hand already.
        progress: where to report.

    Raises:
        WorkbenchError: the folder cannot be written, or what was written is not the model.
    """
    target = plan.target()
    deltas = [] if edited else load_deltas(plan.deltas)
    base = base or load(plan.model, progress=progress)
    made = export(
        edited or apply_deltas(base, deltas),
        target,
        base=base,
        formats=plan.formats,
        overwrite=plan.overwrite,
        progress=progress,
    )
    return Recorded("", made.folder, made)
