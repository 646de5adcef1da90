"""The residual stream behind every layer, at chosen positions of many prompts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.localize.runs import Parts, behind, first_of
from workbench.models.model import Model
from workbench.models.text import batches
from workbench.progress import SILENT, Progress


@torch.no_grad()
def residuals(
    model: Model,
    sequences: Sequence[Sequence[int]],
    positions: Sequence[Sequence[int]],
    *,
    progress: Progress = SILENT,
) -> Float[Tensor, "layer prompt pos d_model"]:
    """Read the stream behind every block.

    Args:
        model: the model.
        sequences: the prompts' tokens.
        positions: for each prompt, which positions to read; the same number for all.
        progress: where to report.
    """
    parts = Parts.of(model)
    shape = (model.n_layers, len(sequences), len(positions[0]), model.d_model)
    out = torch.empty(shape, device=model.device)
    for batch in progress.track(list(batches(model, sequences)), "reading activations"):
        rows = list(batch.rows)
        at = torch.tensor([positions[row] for row in rows], device=model.device)
        each = torch.arange(len(rows), device=model.device)[:, None]

        def keep(layer: int, rows: list[int] = rows, each: Tensor = each, at: Tensor = at):
            def hook(module: object, args: tuple, found: object) -> None:
                out[layer, rows] = first_of(found)[each, at].float()

            return hook

        with ExitStack() as hooks:
            for layer, block in enumerate(parts.blocks):
                behind(hooks, block, keep(layer))
            parts.hf.base_model(**batch.inputs, use_cache=False)
    return out
