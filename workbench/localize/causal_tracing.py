"""Causal tracing: restore clean states in a run whose subject is corrupted, one place at a time.

    effect(t, l) = metric(corrupted, clean state restored at token t, layer l) - metric(corrupted)

For the residual stream the block's output is restored; for MLPs and attention their outputs in a
window of layers centred on l. Meng et al. 2022 (arXiv 2202.05262, sec. 2.1) used noise, windows of
10 of 48 layers and 10 noise samples; Zhang & Nanda 2023 (arXiv 2309.16042) show that replacing the
subject by another one and single layers give sharper and more faithful pictures.

Cost: two forward passes a prompt and, over the causal cone (`cone`), about a quarter of the block
passes of a patched run for each cell. A restored state is not thereby used by the model in its
normal runs, and neither does a null effect exclude a part that others can stand in for.
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.fact import FactSet
from workbench.localize.cone import Variant
from workbench.localize.corruption import Corruption, Noise
from workbench.localize.localization import Localization
from workbench.localize.metrics import metric_named
from workbench.localize.patching import localize_cells
from workbench.models.model import Model
from workbench.progress import SILENT, Progress

KINDS = ("resid", "mlp", "attn")


def causal_tracing(
    model: Model,
    facts: FactSet,
    *,
    corruption: Corruption = Noise(),  # noqa: B008 - a frozen value
    kinds: Sequence[str] = KINDS,
    window: int = 1,
    metric: str = "probability",
    progress: Progress = SILENT,
) -> Localization:
    """Trace where the model's knowledge of some facts passes through.

    Facts the model does not know are left out and counted in the result.

    Args:
        model: the model to look into.
        facts: what it should recall.
        corruption: how the subject is lost.
        kinds: resid, mlp, attn.
        window: layers restored together for mlp and attn, cut off at the first and last layer.
        metric: probability, log_probability or logit_difference.
        progress: where to report.

    Raises:
        WorkbenchError: an unknown kind or metric, no window, no known fact, or no effect to locate.
    """
    metric_named(metric)  # a wrong name is told before the long work
    return localize_cells(
        "causal_tracing",
        model,
        facts,
        window_variants(model.n_layers, kinds, window),
        corruption=corruption,
        metric=metric,
        config={"kinds": list(kinds), "window": window},
        progress=progress,
    )


def window_variants(n_layers: int, kinds: Sequence[str], window: int) -> list[Variant]:
    """Return what to restore for each kind and layer.

    Raises:
        WorkbenchError: an unknown kind, none at all, or a window below one layer.
    """
    if window < 1:
        raise WorkbenchError(f"The window is {window} layers wide; give at least 1.")
    if not kinds:
        raise WorkbenchError(f"No kind is chosen; give some of {', '.join(KINDS)}.")
    out = []
    for kind in kinds:
        if kind not in KINDS:
            raise unknown_name("kind of cell", kind, KINDS)
        for layer in range(n_layers):
            width = 1 if kind == "resid" else window
            first = max(0, layer - width // 2)
            last = min(n_layers, layer - width // 2 + width) - 1
            out.append(Variant((kind, layer, -1), first, last))  # type: ignore[arg-type]
    return out
