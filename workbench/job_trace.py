"""Where the main job edits, and its two traces: the facts to forget before and after the edit.

After the edit the facts are no longer known and there is no effect left to be a share of. The
second trace is therefore in units of the first: 1 is the base model's whole effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from workbench.edit.targets import needed_sites
from workbench.facts.fact import FactSet, Request
from workbench.facts.known import split_known
from workbench.job_inputs import JobInputs, JobSettings
from workbench.localize.causal_tracing import KINDS, causal_tracing, window_variants
from workbench.localize.cone import patch_effects
from workbench.localize.localization import Localization, summarise
from workbench.localize.metrics import metric_named
from workbench.localize.sites import SiteName, recall_sites
from workbench.models.components import ComponentSet
from workbench.models.model import Model
from workbench.models.text import decode
from workbench.progress import SILENT, Progress


def trace_before(
    model: Model, inputs: JobInputs, settings: JobSettings, progress: Progress = SILENT
) -> tuple[Localization, Localization]:
    """Trace the facts to forget, and, where they are few, those joined by similar ones.

    Returns:
        The trace of the facts to forget, and the one to choose components by.

    Raises:
        WorkbenchError: the model knows none of the facts to forget.
    """
    own = trace(model, inputs.traced, settings, progress)
    if not inputs.similar:
        return own, own
    return own, trace(model, inputs.traced + inputs.similar, settings, progress)


def trace(
    model: Model, facts: FactSet, settings: JobSettings, progress: Progress = SILENT
) -> Localization:
    """Trace some facts with a job's settings.

    Raises:
        WorkbenchError: the model knows none of them.
    """
    return causal_tracing(
        model,
        facts,
        corruption=settings.corruption,
        window=settings.window,
        metric=settings.metric,
        progress=progress,
    )


def choose_sites(
    model: Model, request: Request, basis: Localization, settings: JobSettings
) -> Mapping[SiteName, ComponentSet]:
    """Choose the components of the sites to edit: those wanted, or all that the trace finds."""
    found = traced_sites(basis, settings)
    wanted = settings.at or needed_sites(model, request)
    return {site: found[site] for site in wanted if site in found} or found


def traced_sites(basis: Localization, settings: JobSettings) -> dict[SiteName, ComponentSet]:
    """Return the components of every site that a trace finds, by a job's settings.

    Raises:
        WorkbenchError: no site has any component.
    """
    return recall_sites(
        basis,
        share=settings.share,
        most=settings.most,
        kinds=tuple(settings.kinds),
        first=settings.first,
    )


def trace_after(
    edited: Model,
    base: Model,
    facts: FactSet,
    before: Localization,
    settings: JobSettings,
    progress: Progress = SILENT,
) -> Localization:
    """Trace the facts that the base knew in the edited model, in units of the base's effect.

    `causal_tracing` leaves out facts the model does not know, and normalises by an effect that is
    gone; here the base's scale stays, so 0 everywhere means that nothing is recalled any more.
    """
    known = split_known(base, facts).require()
    effects = patch_effects(
        edited,
        settings.corruption.pairs(edited, known),
        window_variants(edited.n_layers, KINDS, settings.window),
        metric_named(settings.metric),
        progress=progress,
        label="tracing the edited model",
    )
    # `summarise` divides by the difference of clean and corrupted runs: let it be the base's.
    base_runs = [
        replace(e, clean=before.clean, corrupted=torch.full_like(e.corrupted, before.corrupted))
        for e in effects
    ]
    after = summarise(
        before.method,
        base_runs,
        edited.structure,
        left_out=before.left_out,
        config={**before.config, "scale": "base"},
        tokens=[decode(base, [i]) for i in effects[0].prompt.ids] if len(effects) == 1 else None,
    )
    clean = sum(e.clean for e in effects) / len(effects)
    corrupted = sum(float(e.corrupted.mean()) for e in effects) / len(effects)
    return replace(after, clean=clean, corrupted=corrupted)
