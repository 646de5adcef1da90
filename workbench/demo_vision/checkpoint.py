"""Keep the state of a training run in a file now and then, so that it can go on after a stop."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

SECONDS = 60.0  # between two writings


@dataclass
class Checkpoint:
    """A file with the last state of one run.

    Attributes:
        path: the file; written whole or not at all.
    """

    path: Path
    _last: float = field(default_factory=time.monotonic, repr=False)

    def restore(
        self, model: nn.Module, made: list[torch.optim.Optimizer], rng: random.Random
    ) -> int:
        """Put the kept state back; return the steps that were done, 0 if none is kept."""
        if not self.path.is_file():
            return 0
        kept = torch.load(self.path, weights_only=True)
        model.load_state_dict(kept["model"])
        for optimizer, state in zip(made, kept["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        version, numbers, gauss = kept["random"]
        rng.setstate((version, tuple(numbers), gauss))
        return kept["step"]

    def keep(
        self, step: int, model: nn.Module, made: list[torch.optim.Optimizer], rng: random.Random
    ) -> None:
        """Write the state after a step, if the last writing was long enough ago."""
        if time.monotonic() - self._last < SECONDS:
            return
        state = {
            "step": step,
            "model": model.state_dict(),
            "optimizers": [o.state_dict() for o in made],
            "random": rng.getstate(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.path)
        self._last = time.monotonic()
