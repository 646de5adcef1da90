"""STAMP: send the forget set's activations to a refusal, in closed form, at the chosen components.

For each chosen matrix W that writes to the residual stream (y = W x), in layer order, each seeing
the edits below it:

    X_f  keys of the forget prompts at the site:
         subject   the subject's last token - where the fact is looked up
         answer    the prompt's last token and the refusal's tokens - where it is read out
    D    asked change of the outputs, by the target rule (`targets`); a target of the residual
         stream is asked of each matrix as far as the ones before it have not met it, and
         `counterpart` a little past the reference, against relearning (`aim`)
    C    second moment of the keys to leave alone, over the retain buffer (`buffer`): of others the
         base's, read once for many edits (`kept_keys`), of the very subjects behind the edits below
    Delta = argmin  w |Delta X_f - strength D|^2 + |Delta X_r|^2 + lambda m |Delta|^2   (`solvers`)

No training step; one pass of activations through all layers together (the target `relation` reads
gradients besides, once for a model). `rank` is STAMP-LR. It removes what these prompts recall
through these components; whether the fact can be recalled otherwise is for measures and attacks to
say.

Source: RePAIR, Rachapudi et al. 2026 (arXiv 2604.12820), the pseudoinverse update of MLP outputs
towards refusal; the least-squares form with a retain moment is MEMIT's (Meng et al. 2023, arXiv
2210.07229, eq. 14). Sites, per-prompt targets, weights and `beyond` are this project's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from workbench.edit.aim import Aim
from workbench.edit.buffer import Site
from workbench.edit.edit import Edit, finish, origin
from workbench.edit.kept_keys import kept_moments
from workbench.edit.matrix import matrices, solve_matrix
from workbench.edit.relation_reading import Reading, whole_subjects
from workbench.edit.retain import retain_rows
from workbench.edit.stamp_config import SITES, StampConfig
from workbench.edit.stream import Stream
from workbench.edit.targets import TargetName, build_task, target_for
from workbench.facts.fact import Request
from workbench.models.components import ComponentSet
from workbench.models.delta import Dense, Update, WeightDelta
from workbench.models.model import Model, replace_parameter
from workbench.models.noisy_vision import PictureNoise
from workbench.progress import SILENT, Progress

Sites = Mapping[Site, ComponentSet]


def stamp(
    model: Model,
    request: Request,
    components: ComponentSet | Sites,
    config: StampConfig | None = None,
    *,
    per_site: Mapping[Site, Mapping[str, Any]] | None = None,
    progress: Progress = SILENT,
) -> Edit:
    """Edit a model so that it refuses the forget set.

    Args:
        model: the model to edit; it stays as it is.
        request: what to forget, what to keep, what the model does not know.
        components: MLPs, attentions, heads or neurons; or one such set for each site, edited in the
            order subject, answer.
        config: settings.
        per_site: settings that differ at one site.
        progress: where to report; cancelling changes nothing.

    Raises:
        WorkbenchError: settings, components or request do not fit, or nothing finite solves it.
    """
    start = time.perf_counter()
    config = config or StampConfig()
    sites: Sites = {config.at: components} if isinstance(components, ComponentSet) else components
    working = model
    updates: dict[str, Update] = {}
    steps: list[dict[str, Any]] = []
    for site in (s for s in SITES if s in sites):
        settings = replace(config, at=site, **(per_site or {}).get(site, {}))
        settings.check()
        model.structure.check(sites[site])
        target = settings.target
        if target == "auto":
            target = target_for(model, request, site)
        stage, rows = _stage(model, working, request, sites[site], settings, target, progress)
        steps += rows
        for name, update in stage.items():
            updates[name] = _join(updates.get(name), update)
        source = origin(model, request, "", method="stamp", config={}, seed=config.seed)
        working = working.with_delta(WeightDelta(stage, source))
    union = ComponentSet(tuple(c for s in sites.values() for c in s))
    written = (
        str(union)
        if len(sites) == 1
        else "; ".join(f"{site}: {chosen}" for site, chosen in sites.items())
    )
    settings_json = {**asdict(config), "at": "+".join(sites)}
    if per_site:
        settings_json["per_site"] = {k: dict(v) for k, v in per_site.items()}
    return finish(
        model,
        request,
        union,
        updates,
        origin(model, request, written, method="stamp", config=settings_json, seed=config.seed),
        steps=pd.DataFrame(steps),
        seconds=time.perf_counter() - start,
    )


def _join(old: Update | None, new: Update) -> Update:
    return new if old is None else Dense(old.dense() + new.dense())


def _stage(
    base: Model,
    model: Model,
    request: Request,
    components: ComponentSet,
    config: StampConfig,
    target: TargetName,
    progress: Progress,
) -> tuple[dict[str, Update], list[dict[str, Any]]]:
    """Solve every matrix of one site in layer order.

    Args:
        base: the model before any site was edited; what it says and reads of others is to stay.
        model: the model with the sites so far edited.
        request: what to forget and to keep.
        components: where to edit.
        config: settings of the site.
        target: its target rule.
        progress: where to report.
    """
    groups = matrices(model.structure, components)
    layers = sorted({g.layer for g in groups})
    reading = None
    if target == "relation":
        reading = Reading.of(
            model,
            request,
            layers,
            tokens=config.tokens,
            prompts=config.read,
            spare=config.spare,
            damp=config.damp,
            seed=config.seed,
            progress=progress,
        )
        request = whole_subjects(request)
    task = build_task(
        model, request, config.at, target, counterparts=config.counterparts, tokens=config.tokens
    )
    forget = Stream(model, task.forget, layers, label="forget activations", progress=progress)
    aim = Aim.of(
        model,
        task,
        target,
        layers,
        beyond=config.beyond,
        margin=config.margin,
        dimensions=config.dimensions,
        noise=PictureNoise(config.noise, config.noise_strength, config.seed),
        reading=reading,
        progress=progress,
    )
    buffer = retain_rows(
        base,
        request,
        config.at,
        confusable=config.confusable,
        named=config.named,
        confusable_weight=config.confusable_weight,
        related_weight=config.related_weight,
        context=config.context,
        generations=config.generations,
        chats=config.chats,
        context_weight=config.context_weight,
        tokens=config.tokens,
        seed=config.seed,
    )
    current = model.fork()
    edited = current.hf
    updates: dict[str, Update] = {}
    steps = []
    others = kept_moments(base, buffer.others, groups, progress=progress)
    related = Stream(model, buffer.related, layers, label="retain activations", progress=progress)
    label = f"solving at the {config.at} site"
    pairs = zip(groups, others, strict=True)
    for i, (group, moments) in enumerate(progress.track(pairs, label, total=len(groups))):
        for stream in (forget, related):
            stream.advance(edited, group.layer)
        left = len(groups) - i if config.spread else 1
        x, change = aim.asked(current, forget, group.writer, left)
        change = config.strength * change
        moments = moments.copy()
        for keys, weights in related.keys(edited, group.writer):
            moments = moments.add(keys, weights)
        old = model.parameters[group.writer.parameter]
        update, step = solve_matrix(
            x,
            change,
            moments,
            group.writer,
            old,
            solver=config.solve,
            weight=config.weight,
            ridge=config.ridge,
            rank=config.rank,
            seed=config.seed,
        )
        updates[group.writer.parameter] = update
        change = update.dense().to(old.dtype)
        new = edited.get_parameter(group.writer.parameter) + change
        replace_parameter(edited, group.writer.parameter, new)
        for stream in (forget, related):
            stream.edited(edited, group.writer, change)
        steps.append({"site": config.at, "target": target, "layer": group.layer, **step})
    return updates, steps
