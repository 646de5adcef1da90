"""Which MLPs look the fact up: probes at the subject's last token, under mean ablation.

A linear probe reads the answer off the residual stream at the subject's last token, trained on some
subjects and tested on others. Once attention has put the subject's tokens together, what comes
later no longer needs it; the MLPs that turn the name into the answer do their work after that:

    lookup = { k : the probe survives mean-ablating attention from layer k on,
                   and not mean-ablating the MLPs from layer k on }

and the MLP of the layer below these, which already sees what that layer's attention brought, if it
alone is worth a tenth of the effect.

    score(mlp.l) = (accuracy - accuracy with mlp.l alone mean-ablated) / (accuracy - chance)

The stream is read behind `read`, the first layer where the probe is as good as anywhere (within
0.02); ablation replaces an output at that one position by its mean over the facts.

Source: Nanda et al. 2023, "Fact Finding"; Guo et al. 2024, arXiv 2410.12949 (their manual fact
lookup localization, here automatic). Cost: 3 layers + 1 forward passes of the prompts up to the
subject, and a cross-validated logistic regression for each and for each layer. A probe finds what
can be read, which is not always what the model uses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet
from workbench.facts.known import split_known
from workbench.facts.prompts import Prompt, tokenize
from workbench.localize.localization import Cell, FactEffects, Localization, summarise
from workbench.localize.lookup_probes import FOLDS, Ablated, Probes, Reader
from workbench.models.model import Model
from workbench.progress import SILENT, Progress

_SURVIVES = 0.5  # share of (accuracy - chance) that must be left
_OWN = 0.1  # share of it that the first MLP of a lookup must be worth alone


@dataclass(frozen=True, eq=False)
class FactLookup:
    """Where a relation's answers become readable at the subject's last token.

    Attributes:
        accuracy: probe accuracy behind each layer, nothing ablated.
        attn_ablated: accuracy behind layer `read`, attention ablated from layer k on.
        mlp_ablated: the same for MLPs.
        read: the layer behind which the ablated streams are read.
        chance: accuracy of always naming the most frequent answer.
        layers: the MLP layers that only MLP ablation destroys; empty if there are none.
        localization: score of each MLP up to `read`, ablated alone.
    """

    accuracy: tuple[float, ...]
    attn_ablated: tuple[float, ...]
    mlp_ablated: tuple[float, ...]
    read: int
    chance: float
    layers: tuple[int, ...]
    localization: Localization


def fact_lookup_localization(
    model: Model, facts: FactSet, *, seed: int = 0, progress: Progress = SILENT
) -> Localization:
    """Score the MLPs by the facts of every relation that can be probed.

    Each relation is probed by itself (`fact_lookup`); its facts then count like any other's. The
    config holds the accuracies of each, and why a relation could not be probed.

    Args:
        model: the model.
        facts: of some relations, many subjects each, answers repeating among them.
        seed: seed of the split into training and test subjects.
        progress: where to report.

    Raises:
        WorkbenchError: no relation can be probed; with the first reason.
    """
    if len(facts.relations) < 2:
        return fact_lookup(model, facts, seed=seed, progress=progress).localization
    found: dict[str, _Found] = {}
    why: dict[str, str] = {}
    for relation in facts.relations:
        own = facts.where(lambda f, r=relation: f.relation == r)
        try:
            found[relation] = _look_up(model, own, seed, progress)
        except WorkbenchError as error:
            why[relation] = str(error)
    if not found:
        raise WorkbenchError(next(iter(why.values())))
    config = {
        **_made_of(model, facts, seed),
        "relations": {relation: one.numbers for relation, one in found.items()},
        "not_probed": why,
    }
    left_out = [prompt for one in found.values() for prompt in one.left_out]
    left_out += [f.prompt for f in facts if f.relation in why]
    effects = [effect for one in found.values() for effect in one.effects]
    return _localized(model, effects, left_out, config)


def fact_lookup(
    model: Model, facts: FactSet, *, seed: int = 0, progress: Progress = SILENT
) -> FactLookup:
    """Find the MLP layers that look an answer up.

    Args:
        model: the model.
        facts: one relation of many subjects, answers repeating among them.
        seed: seed of the split into training and test subjects.
        progress: where to report.

    Raises:
        WorkbenchError: no fact is known, several relations, fewer than two answers with four
            subjects each, or answers that no probe can read.
    """
    found = _look_up(model, facts, seed, progress)
    config = {**_made_of(model, facts, seed), **found.numbers}
    return FactLookup(
        found.reading.accuracy,
        found.reading.attn_ablated,
        found.reading.mlp_ablated,
        found.reading.read,
        found.chance,
        found.layers,
        _localized(model, found.effects, found.left_out, config),
    )


@dataclass(frozen=True, eq=False)
class _Found:
    """What the probes of one relation say."""

    reading: _Reading
    chance: float
    layers: tuple[int, ...]
    effects: list[FactEffects]
    left_out: list[str]

    @property
    def numbers(self) -> dict[str, Any]:
        """Everything but the effects, in JSON types."""
        kept = ("accuracy", "attn_ablated", "mlp_ablated")
        return {
            "chance": self.chance,
            "layers": list(self.layers),
            "read": self.reading.read,
            **{name: list(getattr(self.reading, name)) for name in kept},
        }


@torch.no_grad()
def _look_up(model: Model, facts: FactSet, seed: int, progress: Progress) -> _Found:
    known = split_known(model, facts, progress=progress)
    prompts, rare = _frequent(model, known.require())
    probes = Probes([p.fact.target for p in prompts], [p.fact.subject for p in prompts], seed)
    reading = _probe_all(model, prompts, probes, progress)
    return _Found(
        reading,
        probes.chance,
        _lookup_layers(reading, probes.chance),
        _effects(prompts, reading, probes.chance, model.n_layers),
        [*(f.prompt for f in known.unknown), *rare],
    )


def _made_of(model: Model, facts: FactSet, seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "model": model.name,
        "model_fingerprint": model.fingerprint,
        "facts_fingerprint": facts.fingerprint,
    }


def _localized(
    model: Model, effects: list[FactEffects], left_out: list[str], config: dict[str, Any]
) -> Localization:
    """Summarise the effects at the one place where something was ablated."""
    where = summarise("fact_lookup", effects, model.structure, left_out=left_out, config=config)
    here = where.table["role"] == "last subject"
    return replace(where, table=where.table[here].reset_index(drop=True))


@dataclass(frozen=True, eq=False)
class _Reading:
    """Probe accuracies, and which facts were read right at layer `read`."""

    accuracy: tuple[float, ...]
    read: int
    attn_ablated: tuple[float, ...]
    mlp_ablated: tuple[float, ...]
    plain: NDArray[np.float64]
    alone: tuple[NDArray[np.float64], ...]  # each MLP up to `read` ablated alone


def _probe_all(
    model: Model, prompts: Sequence[Prompt], probes: Probes, progress: Progress
) -> _Reading:
    """Probe every layer, then layer `read` under every ablation."""
    reader = Reader(model, prompts)
    layers = range(model.n_layers)
    streams = reader.streams({})
    plain = [probes.correct(s) for s in progress.track(streams, "probing each layer")]
    accuracy = tuple(float(c.mean()) for c in plain)
    read = next(i for i, a in enumerate(accuracy) if a >= max(accuracy) - 0.02)
    if accuracy[read] - probes.chance < 0.05:
        raise WorkbenchError(
            "No probe reads the answers off the subject's last token "
            f"(accuracy {accuracy[read]:.2f}, chance {probes.chance:.2f}), so there is no lookup "
            "to find there; use causal tracing, or more facts."
        )
    both: tuple[Ablated, ...] = ("attn", "mlp")
    jobs: list[tuple[Ablated, range]] = [("mlp", range(i, i + 1)) for i in layers[: read + 1]]
    jobs.extend((kind, range(k, read + 1)) for kind in both for k in layers)
    found: list[NDArray[np.float64]] = []
    for kind, span in progress.track(jobs, "probing with ablation"):
        # Ablating only layers above `read` changes nothing there.
        ablated = reader.streams({kind: span})[read] if span else streams[read]
        found.append(probes.correct(ablated))
    after = tuple(float(c.mean()) for c in found[read + 1 :])
    return _Reading(
        accuracy,
        read,
        after[: len(layers)],
        after[len(layers) :],
        plain[read],
        tuple(found[: read + 1]),
    )


def _lookup_layers(reading: _Reading, chance: float) -> tuple[int, ...]:
    """Return the layers where MLPs are needed and attention is not."""
    full = reading.accuracy[reading.read] - chance
    need = chance + _SURVIVES * full
    later = (*reading.attn_ablated[1:], reading.accuracy[reading.read])
    out = []
    for k, alone in enumerate(reading.alone):
        own = float((reading.plain - alone).mean()) >= _OWN * full
        gathered = reading.attn_ablated[k] >= need or (later[k] >= need and own)
        if gathered and reading.mlp_ablated[k] < need:
            out.append(k)
    return tuple(out)


def _frequent(model: Model, facts: FactSet) -> tuple[list[Prompt], list[str]]:
    """Keep facts whose answer enough subjects share; return them and the prompts of the others."""
    if len(facts.relations) > 1:
        raise WorkbenchError(
            f"Fact lookup probes one relation at a time, not {', '.join(facts.relations)}; choose "
            "the facts of one."
        )
    subjects = {(f.target, f.subject) for f in facts}
    count = Counter(target for target, _ in subjects)
    kept = [f for f in facts if count[f.target] >= FOLDS]
    if len({f.target for f in kept}) < 2:
        raise WorkbenchError(
            f"Fact lookup needs at least two answers with {FOLDS} subjects each to train a probe; "
            "give more facts of one relation whose answers repeat, such as a player's sport."
        )
    rare = [f.prompt for f in facts if count[f.target] < FOLDS]
    return [tokenize(model, f) for f in kept], rare


def _effects(
    prompts: Sequence[Prompt], reading: _Reading, chance: float, n_layers: int
) -> list[FactEffects]:
    out = []
    for n, prompt in enumerate(prompts):
        cells: dict[Cell, Tensor] = {}
        for layer in range(n_layers):
            cell = torch.zeros(1, len(prompt.ids))
            if layer <= reading.read:
                drop = reading.plain[n] - reading.alone[layer][n]
                cell[0, prompt.last_subject] = float(drop)
            cells["mlp", layer, -1] = cell
        out.append(FactEffects(prompt, float(reading.plain[n]), torch.tensor([chance]), cells))
    return out
