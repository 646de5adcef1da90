"""What causal tracing and activation patching share: from facts to a `Localization` by patching.

The facts the model does not know are left out and counted; the rest are patched pair by pair over
the causal cone, and the result carries what is needed to run it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from workbench.facts.fact import FactSet
from workbench.facts.known import split_known
from workbench.localize.cone import Direction, Variant, patch_effects
from workbench.localize.corruption import Corruption, left_out
from workbench.localize.localization import Localization, summarise
from workbench.localize.metrics import default_metric, metric_named
from workbench.localize.patch_grid import patches_of
from workbench.models.model import Model
from workbench.models.text import decode
from workbench.progress import SILENT, Progress


def localize_cells(
    method: str,
    model: Model,
    facts: FactSet,
    variants: Sequence[Variant],
    *,
    corruption: Corruption,
    metric: str | None,
    config: Mapping[str, Any],
    direction: Direction = "denoising",
    progress: Progress = SILENT,
) -> Localization:
    """Patch all variants for the facts the model knows; without a metric, take what foils allow."""
    known = split_known(model, facts, progress=progress).require()
    metric = metric or default_metric(known)
    read, pairs = metric_named(metric), corruption.pairs(model, known)
    effects = patch_effects(
        model,
        pairs,
        variants,
        read,
        direction=direction,
        progress=progress,
        label=method.replace("_", " "),
    )
    ids = effects[0].prompt.ids
    origin = {
        **config,
        "corruption": asdict(corruption),
        "model": model.name,
        "model_fingerprint": model.fingerprint,
        "facts_fingerprint": facts.fingerprint,
        **patches_of(model, [e.prompt for e in effects]),
    }
    return summarise(
        method,
        effects,
        model.structure,
        left_out=left_out(facts, pairs),
        config=origin | {"metric": metric},
        tokens=[decode(model, [i]) for i in ids] if len(effects) == 1 else None,
    )
