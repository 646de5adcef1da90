"""Settings that every training edit has."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from workbench.errors import WorkbenchError, unknown_name


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of every training edit.

    Attributes:
        steps: optimiser steps.
        lr: largest learning rate; it falls to 0 along a cosine.
        batch: forget examples a step.
        retain_batch: retain examples a step, neutral texts among them.
        forget_weight: weight of the forget loss.
        retain_weight: weight of the retain loss.
        clip: largest norm of the gradient.
        kept: most retained prompts.
        neutral: texts the model makes up.
        seed: seed of every draw.
    """

    steps: int = 60
    lr: float = 3e-4
    batch: int = 32
    retain_batch: int = 32
    forget_weight: float = 1.0
    retain_weight: float = 1.0
    clip: float = 1.0
    kept: int = 512
    neutral: int = 64
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        self.check_signs(
            positive=("steps", "lr", "batch", "retain_batch", "clip", "kept"),
            not_negative=("forget_weight", "retain_weight", "neutral"),
        )

    def check_signs(
        self, *, positive: Sequence[str] = (), not_negative: Sequence[str] = ()
    ) -> None:
        """Refuse settings with the wrong sign, by name.

        Raises:
            WorkbenchError: with the first of them.
        """
        for name in positive:
            if not getattr(self, name) > 0:
                raise WorkbenchError(f"{name} must be positive, not {getattr(self, name)}.")
        for name in not_negative:
            if not getattr(self, name) >= 0:
                raise WorkbenchError(f"{name} must not be negative, not {getattr(self, name)}.")

    def check_choice(self, name: str, known: Collection[str]) -> None:
        """Refuse a setting that is none of the known words.

        Raises:
            WorkbenchError: it is not.
        """
        if getattr(self, name) not in known:
            raise unknown_name(f"choice of {name}", getattr(self, name), known)
