"""STAMP with strength and weight searched for: least harm among the edits that forget.

Each candidate is a closed-form solve. It is judged on prompts that the edit itself may use: the
share of forget prompts still completed with the target, and KL(base || edited) at the last position
of kept facts. Among the candidates that forget most, the one with the least KL wins. Evaluation
prompts and held-out wordings are never looked at.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch

from workbench.edit.buffer import Site
from workbench.edit.edit import Edit
from workbench.edit.forms import prompts_of
from workbench.edit.stamp import Sites, StampConfig, stamp
from workbench.facts.fact import Fact, FactSet, Request
from workbench.facts.known import split_known
from workbench.models.components import ComponentSet
from workbench.models.model import Model
from workbench.models.text import next_token_logits
from workbench.progress import SILENT, Progress

GRID: tuple[Mapping[str, float], ...] = (
    {"weight": 10.0},
    {"weight": 100.0},
    {"weight": 1000.0},
    {"weight": 1000.0, "strength": 1.3},
)


@dataclass(frozen=True)
class Trial:
    """One candidate and how it did."""

    settings: Mapping[str, float]
    still_known: float
    kl: float
    edit: Edit


def auto_stamp(
    model: Model,
    request: Request,
    components: ComponentSet | Sites,
    config: StampConfig | None = None,
    *,
    grid: Sequence[Mapping[str, float]] = GRID,
    per_site: Mapping[Site, Mapping[str, Any]] | None = None,
    progress: Progress = SILENT,
) -> Edit:
    """Run STAMP with each setting of the grid and return the best edit.

    Its `steps` hold the search too: one row per candidate, with kind "trial".

    Raises:
        WorkbenchError: what `stamp` refuses.
    """
    config = config or StampConfig()
    probes = _probes(request, config.seed)
    kept = _kept(request, config.seed)
    before = next_token_logits(model, kept).log_softmax(-1) if kept else None
    trials = []
    for settings in progress.track(list(grid), "searching settings"):
        chosen = replace(config, **settings)
        edit = stamp(model, request, components, chosen, per_site=per_site, progress=progress)
        known = len(split_known(edit.model, probes).known) / len(probes)
        trials.append(Trial(settings, known, _kl(before, edit.model, kept), edit))
    best = min(trials, key=lambda t: (round(t.still_known, 3), t.kl))
    table = pd.DataFrame(
        [{**t.settings, "still_known": t.still_known, "kl": t.kl, "kind": "trial"} for t in trials]
    )
    return replace(best.edit, steps=pd.concat([best.edit.steps, table], ignore_index=True))


def _probes(request: Request, seed: int, most: int = 256) -> FactSet:
    """Return forget prompts, each as a fact of its own."""
    out = [
        Fact(f.subject, p, f.target, relation=f.relation)
        for f in request.forget
        for p in prompts_of(f)
    ]
    random.Random(seed).shuffle(out)
    return FactSet(tuple(out[:most]))


def _kept(request: Request, seed: int, most: int = 128) -> list[str]:
    """Return prompts of kept facts, those of the forgotten relations first."""
    relations = set(request.forget.relations)
    near = [f.prompt for f in request.retain if f.relation in relations]
    far = [f.prompt for f in request.retain if f.relation not in relations]
    draw = random.Random(seed + 7)
    draw.shuffle(near)
    draw.shuffle(far)
    return (near[: most * 3 // 4] + far)[:most]


def _kl(before: torch.Tensor | None, edited: Model, prompts: Sequence[str]) -> float:
    """Return the mean KL(base || edited) of the next token, in nats."""
    if before is None:
        return 0.0
    after = next_token_logits(edited, prompts).log_softmax(-1)
    return float((before.exp() * (before - after)).sum(-1).mean())
