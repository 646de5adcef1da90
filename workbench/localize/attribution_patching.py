"""Attribution patching: activation patching to first order.

    score(c) = sum_d (clean_c - corrupted_c) * d metric / d c  on the corrupted run        (atp)

Two forward passes and one backward pass score every component at every position; exact patching
needs a forward pass for each. The estimate fails where the metric is curved: the residual stream of
the first layers, saturated attention. Two variants mend that:

    ig    the gradient averaged over `steps` points of the path of the input embeddings from
          corrupted to clean (Hanna et al. 2024, arXiv 2403.17806): 2 + steps forward and steps
          backward passes
    atp*  gradient drop, and the query/key fix for `heads="query"` and `"key"` (Kramar et al. 2024,
          arXiv 2403.00745): 2 forward and 1 + layers backward passes

`verify` patches exactly too and keeps both numbers of the best cells side by side.

Source: Syed et al. 2023 (arXiv 2310.10348) eq. 2. Scores are denoising ones: clean states put into
the corrupted run. They are estimates in float32; half precision loses small gradients.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.fact import FactSet
from workbench.facts.known import split_known
from workbench.localize.agreement import agreement
from workbench.localize.atp_star import gradient_drop, query_key_effects
from workbench.localize.corruption import Corruption, Pair, Replacement, left_out
from workbench.localize.gradients import (
    HOOKS,
    Group,
    groups,
    node_names,
    path_gradients,
    run,
    run_with_gradients,
)
from workbench.localize.localization import (
    Cell,
    CellKind,
    FactEffects,
    Localization,
    summarise,
)
from workbench.localize.metrics import Metric, default_metric, metric_named
from workbench.localize.patch_grid import patches_of
from workbench.models.model import Model
from workbench.progress import SILENT, Progress

Variant = Literal["atp", "atp*", "ig"]
HeadPart = Literal["output", "query", "key"]
_REPLACEMENT = Replacement()


def attribution_patching(
    model: Model,
    facts: FactSet,
    *,
    corruption: Corruption = _REPLACEMENT,
    variant: Variant = "ig",
    steps: int = 5,
    kinds: Sequence[CellKind] = ("mlp", "attn", "head", "resid"),
    heads: HeadPart = "output",
    metric: str | None = None,
    verify: int = 0,
    progress: Progress = SILENT,
) -> Localization:
    """Estimate what putting each clean state back into the corrupted run would restore.

    Facts the model does not know are left out and counted in the result.

    Args:
        model: the model.
        facts: what is recalled.
        corruption: how a prompt loses its subject.
        variant: atp, atp* or ig.
        steps: gradients along the path, for ig.
        kinds: what to score.
        heads: what of a head is exchanged; "query" and "key" need variant atp or atp*.
        metric: what is measured; default the logit difference if all facts have foils, else the
            probability.
        verify: patch exactly too, and put estimate and exact score of so many best cells and the
            rank correlations into `config["verified"]`.
        progress: where to report.

    Raises:
        WorkbenchError: no fact is known, an unknown variant, kind or metric, or no effect.
    """
    check(variant, steps, kinds, heads)
    if verify and heads != "output":
        raise WorkbenchError(
            f"Exact patching exchanges a head's output, not its {heads}; leave out verify or heads."
        )
    used = split_known(model, facts, progress=progress).require()
    chosen = metric or default_metric(used)
    pairs = corruption.pairs(model, used)
    effects = attribute(
        model,
        pairs,
        variant=variant,
        steps=steps,
        kinds=kinds,
        heads=heads,
        metric=metric_named(chosen),
        progress=progress,
    )
    config: dict[str, Any] = {
        "corruption": asdict(corruption),
        "variant": variant,
        "steps": steps,
        "kinds": list(kinds),
        "heads": heads,
        "metric": chosen,
        "model": model.name,
        "model_fingerprint": model.fingerprint,
        "facts_fingerprint": facts.fingerprint,
        **patches_of(model, [p.prompt for p in pairs]),
    }
    tokens = [model.tokenizer.decode([i]) for i in pairs[0].prompt.ids] if len(pairs) == 1 else None
    found = summarise(
        "attribution_patching",
        effects,
        model.structure,
        left_out=left_out(facts, pairs),
        config=config,
        tokens=tokens,
    )
    if verify:
        config["verified"] = _verified(
            found, model, used, verify, corruption=corruption, metric=chosen, progress=progress
        )
    return found


def attribute(
    model: Model,
    pairs: Sequence[Pair],
    *,
    metric: Metric,
    variant: Variant = "ig",
    steps: int = 5,
    kinds: Sequence[CellKind] = ("mlp", "attn", "head", "resid"),
    heads: HeadPart = "output",
    progress: Progress = SILENT,
) -> list[FactEffects]:
    """Score every cell of every pair, in the pairs' order.

    Raises:
        WorkbenchError: an unknown variant or kind, no step, or heads' inputs along a path.
    """
    check(variant, steps, kinds, heads)
    out: dict[int, FactEffects] = {}
    for group in progress.track(list(groups(pairs)), "attribution patching"):
        clean, corrupted, cells = _group_effects(model, group, metric, variant, steps, kinds, heads)
        parts = {cell: group.split(values) for cell, values in cells.items()}
        for n, (i, base) in enumerate(zip(group.indices, group.split(corrupted), strict=True)):
            own = {cell: part[n] for cell, part in parts.items()}
            span = pairs[i].prompt.seen_subject
            # To first order what several tokens do together is the sum of what each does.
            whole = {c: v[:, slice(*span)].sum(1) for c, v in own.items()} if span else None
            out[i] = FactEffects(pairs[i].prompt, float(clean[n]), base, own, whole)
    return [out[i] for i in range(len(pairs))]


def check(variant: str, steps: int, kinds: Sequence[str], heads: str) -> None:
    """Refuse settings that name nothing.

    Raises:
        WorkbenchError: an unknown variant or kind, no step, or heads' inputs along a path.
    """
    if variant not in get_args(Variant):
        raise unknown_name("variant of attribution patching", variant, get_args(Variant))
    if heads not in get_args(HeadPart):
        raise unknown_name("part of a head", heads, get_args(HeadPart))
    for kind in kinds:
        if kind not in HOOKS:
            raise unknown_name("kind", kind, HOOKS)
    if not kinds or steps < 1:
        raise WorkbenchError("Attribution needs at least one kind and one step; give some.")
    if variant == "ig" and heads != "output" and "head" in kinds:
        raise WorkbenchError(
            f"A head's {heads} is scored by the variants 'atp' and 'atp*' only; choose one of them."
        )


def _group_effects(
    model: Model,
    group: Group,
    metric: Metric,
    variant: Variant,
    steps: int,
    kinds: Sequence[CellKind],
    heads: HeadPart,
) -> tuple[Tensor, Tensor, dict[Cell, Tensor]]:
    """Return clean metric by fact, corrupted metric by row, and [row pos] effects by cell."""
    plain = [k for k in kinds if k != "head" or heads == "output"]
    names = node_names(model, plain)
    with torch.no_grad():
        logits, clean = run(model, group.clean, names)
        clean_metric = group.measure(metric, logits, group.each)
    gradients: Mapping[str, Tensor] = {}
    if variant == "atp":
        corrupted, states, gradients = run_with_gradients(
            model, group, group.corrupted, names, metric
        )
    else:
        with torch.no_grad():
            logits, states = run(model, group.corrupted, names)
            corrupted = group.measure(metric, logits, group.fact)
    change = {n: clean[n][group.fact] - states[n] for n in names}
    if variant == "ig":
        gradients = path_gradients(model, group, names, metric, steps)
    if variant == "atp*":
        effects = gradient_drop(model, group, names, metric, change) if names else {}
    else:
        effects = {n: (change[n] * gradients[n]).sum(-1) for n in names}
    cells = {
        c: v for k in plain for c, v in _cells(k, [effects[n] for n in node_names(model, [k])])
    }
    if heads != "output" and "head" in kinds:
        found = query_key_effects(model, group, metric, heads, fix=variant == "atp*")
        cells |= dict(_cells("head", found))
    return clean_metric, corrupted, cells


def _cells(kind: CellKind, by_layer: Sequence[Tensor]) -> list[tuple[Cell, Tensor]]:
    """Name the effects of one kind; heads are taken apart."""
    if kind != "head":
        return [((kind, layer, -1), values) for layer, values in enumerate(by_layer)]
    return [
        ((kind, layer, head), values[..., head])
        for layer, values in enumerate(by_layer)
        for head in range(values.shape[-1])
    ]


def _verified(
    found: Localization, model: Model, facts: FactSet, k: int, **settings: Any
) -> dict[str, Any]:
    """Patch exactly and hold the estimates of the k best components against it."""
    from workbench.localize.activation_patching import activation_patching

    exact = activation_patching(
        model, facts, direction="denoising", kinds=tuple(found.kinds), **settings
    )
    by_kind = {kind: asdict(agreement(found, exact, kind)) for kind in found.kinds}
    cell = ["kind", "layer", "index", "role", "position"]
    both = found.table[[*cell, "score"]].merge(exact.table[[*cell, "score"]], on=cell)
    both = both.rename(columns={"score_x": "estimate", "score_y": "exact"})
    best = both.loc[both["estimate"].abs().nlargest(k).index]
    return {"agreement": by_kind, "cells": json.loads(best.to_json(orient="records"))}
