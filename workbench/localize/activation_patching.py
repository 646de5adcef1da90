"""Activation patching, exact: exchange one state between a clean and a corrupted run.

    denoising: score = mean(metric of the corrupted run with a clean state - metric corrupted)
                       / mean(metric clean - metric corrupted)
    noising:   score = mean(metric clean - metric of the clean run with a corrupted state)
                       / mean(metric clean - metric corrupted)

Either way 0 = the patch does nothing and 1 = it carries the whole effect: it restores everything
(denoising), or destroys everything (noising). Denoising finds what is enough for the answer,
noising what is needed for it (Heimersheim & Nanda 2024, arXiv 2404.15255, sec. 2). In noising the
clean run is compared with as many corrupted donors as the corruption has samples.

Cost: two forward passes a prompt and the causal cone of every cell (`cone`); the heads of a layer
cost as much as that many layers. One state at a time: interactions between cells are not measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.fact import FactSet
from workbench.localize.cone import Direction, Variant
from workbench.localize.corruption import Corruption, Replacement
from workbench.localize.localization import CellKind, Localization
from workbench.localize.metrics import metric_named
from workbench.localize.patching import localize_cells
from workbench.models.model import Model
from workbench.progress import SILENT, Progress

KINDS: tuple[CellKind, ...] = get_args(CellKind)


def activation_patching(
    model: Model,
    facts: FactSet,
    *,
    corruption: Corruption = Replacement(),  # noqa: B008 - a frozen value
    direction: Direction = "denoising",
    kinds: Sequence[str] = KINDS,
    metric: str | None = None,
    progress: Progress = SILENT,
) -> Localization:
    """Patch the residual stream, MLPs, attentions and heads at every position, exactly.

    Facts the model does not know are left out and counted in the result.

    Args:
        model: the model to look into.
        facts: what it should recall.
        corruption: how the subject is lost.
        direction: denoising or noising.
        kinds: resid (block outputs), mlp, attn, head.
        metric: probability, log_probability or logit_difference; None takes the logit difference
            if every known fact has a foil, the probability otherwise.
        progress: where to report.

    Raises:
        WorkbenchError: an unknown direction, kind or metric, no known fact, or no effect to locate.
    """
    if direction not in get_args(Direction):
        raise unknown_name("direction", direction, get_args(Direction))
    if metric is not None:
        metric_named(metric)  # a wrong name is told before the long work
    return localize_cells(
        "activation_patching",
        model,
        facts,
        cell_variants(model, kinds),
        corruption=corruption,
        metric=metric,
        config={"direction": direction, "kinds": list(kinds)},
        direction=direction,
        progress=progress,
    )


def cell_variants(model: Model, kinds: Sequence[str]) -> list[Variant]:
    """Return every cell of the given kinds, each patched in its own layer.

    Raises:
        WorkbenchError: an unknown kind, or none at all.
    """
    if not kinds:
        raise WorkbenchError(f"No kind is chosen; give some of {', '.join(KINDS)}.")
    out = []
    for kind in kinds:
        if kind not in KINDS:
            raise unknown_name("kind of cell", kind, KINDS)
        heads = range(model.structure.n_heads) if kind == "head" else [-1]
        out += [
            Variant((kind, layer, head), layer, layer)  # type: ignore[arg-type]
            for layer in range(model.n_layers)
            for head in heads
        ]
    return out
