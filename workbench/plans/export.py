"""An export as a plan: where to, and of which deltas."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from workbench.attack.certificate import certificate
from workbench.errors import WorkbenchError
from workbench.models.export import ExportResult, export
from workbench.models.load import load, oracle_for
from workbench.models.model import Model
from workbench.plans.attack import AttackPlan, attack_missing
from workbench.plans.plan import Plan, Recorded, apply_deltas, load_deltas, options
from workbench.progress import SILENT, Progress
from workbench.store.store import RunStore


@dataclass(frozen=True)
class ExportPlan(Plan):
    """Settings of an export.

    Attributes:
        model: demo, smollm2, a folder or a hub id.
        out: the folder to write.
        deltas: delta files to apply.
        lora: whether to write a LoRA adapter too.
        overwrite: whether to replace an earlier export.
        certify: whether to write down what attacks bring back; those not tried yet are run.
        request: what was to be forgotten, for the attacks.
    """

    KIND: ClassVar[str] = "export"

    out: str = ""
    deltas: tuple[str, ...] = ()
    lora: bool = False
    overwrite: bool = False
    certify: bool = False
    request: str = ""

    def arguments(self) -> list[str]:
        """Return the command's words behind `workbench export MODEL`."""
        return options(
            out=self.out,
            delta=self.deltas,
            lora=self.lora,
            overwrite=self.overwrite,
            certify=self.certify,
            request=self.request,
        )

    def attacks(self) -> AttackPlan:
        """Return the attacks of the certificate.

        Raises:
            WorkbenchError: it is not said what was to be forgotten, or there is no edit.
        """
        if not self.request or not self.deltas:
            raise WorkbenchError(
                "A certificate needs an edit and the request it was made for; give --delta and "
                "--request."
            )
        return AttackPlan(
            self.model, request=self.request, deltas=self.deltas, oracle=oracle_for(self.model)
        )

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
    store: RunStore | None = None,
    progress: Progress = SILENT,
) -> Recorded[ExportResult]:
    """Export; the folder is its own record.

    Args:
        plan: what to do.
        base: the plan's model, if it is loaded already.
        edited: the same with the plan's deltas, if it is at hand already.
        store: where attacks were recorded, and are; the user's own by default.
        progress: where to report.

    Raises:
        WorkbenchError: the folder cannot be written, or what was written is not the model.
    """
    target = plan.target()
    attacks = plan.attacks() if plan.certify else None
    deltas = [] if edited else load_deltas(plan.deltas)
    base = base or load(plan.model, progress=progress)
    edited = edited or apply_deltas(base, deltas)
    proof = None
    if attacks is not None:
        proof = certificate(attack_missing(attacks, base, edited, store=store, progress=progress))
    made = export(
        edited,
        target,
        base=base,
        certificate=proof,
        formats=plan.formats,
        overwrite=plan.overwrite,
        progress=progress,
    )
    return Recorded("", made.folder, made)
