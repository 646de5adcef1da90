"""The result of an edit, and the guards that every method passes through.

An edit that moved nothing is reported as failed; one that touched anything outside its components,
or that made a value infinite, raises and leaves the base model as it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet, Request
from workbench.facts.prompts import continuation
from workbench.models.components import ComponentSet
from workbench.models.continuations import likelihoods
from workbench.models.delta import Origin, Update, WeightDelta
from workbench.models.model import Model
from workbench.models.text import encode
from workbench.models.versions import versions

_NO_OP = 1e-3  # least change of the targets' mean log-probability, in nats, that counts as an edit


@dataclass(frozen=True, eq=False)
class Edit:
    """An edit, the edited model, and what was checked.

    Attributes:
        delta: the change of the weights.
        model: the edited model.
        steps: one row per solved matrix: what was asked and what was achieved.
        seconds: wall time of the edit.
        parameters_touched: parameter values inside the components that may change.
        unchanged_outside: every value outside the components is byte-equal to the base.
        target_log_probability: of the forget targets, teacher-forced, before and after.
        failed: why the edit counts as failed, in one sentence; None if it does not.
    """

    delta: WeightDelta
    model: Model
    steps: pd.DataFrame
    seconds: float
    parameters_touched: int
    unchanged_outside: bool
    target_log_probability: tuple[float, float]
    failed: str | None

    def summary(self) -> dict[str, Any]:
        """Return the numbers as plain JSON types."""
        return {
            "method": self.delta.origin.method,
            "config": dict(self.delta.origin.config),
            "components": self.delta.origin.components,
            "seconds": self.seconds,
            "parameters_touched": self.parameters_touched,
            "unchanged_outside": self.unchanged_outside,
            "target_log_probability": list(self.target_log_probability),
            "failed": self.failed,
        }


def origin(
    model: Model,
    request: Request,
    components: str,
    *,
    method: str,
    config: Mapping[str, Any],
    seed: int,
) -> Origin:
    """Write down where a delta comes from."""
    below = model.deltas[0].origin if model.deltas else None
    return Origin(
        base_fingerprint=(below.base_fingerprint or below.model_fingerprint) if below else "",
        method=method,
        config=config,
        components=components,
        model=model.name,
        model_fingerprint=model.fingerprint,
        facts_fingerprint=request.fingerprint,
        seed=seed,
        versions=versions(),
    )


def finish(
    base: Model,
    request: Request,
    components: ComponentSet,
    updates: Mapping[str, Update],
    source: Origin,
    *,
    steps: pd.DataFrame,
    seconds: float,
) -> Edit:
    """Apply the updates to a new model and check them.

    Raises:
        WorkbenchError: a value is not finite, or something outside the components changed.
    """
    delta = WeightDelta(updates, source)
    edited = base.with_delta(delta)
    changed = outside(base, edited, components)
    if changed:
        raise WorkbenchError(
            f"The edit would change {changed[0]!r} outside the chosen components, so nothing was "
            "changed; this is a fault of the method, please report it."
        )
    before = target_log_probability(base, request.forget)
    after = target_log_probability(edited, request.forget)
    failed = None
    if abs(before - after) < _NO_OP:
        failed = (
            f"The edit changed nothing: the targets' mean log-probability moved by "
            f"{after - before:+.1e} nats; choose other components, or raise the strength."
        )
    touched = base.structure.n_parameters(components)
    return Edit(delta, edited, steps, seconds, touched, True, (before, after), failed)


def finish_by(
    method: str,
    model: Model,
    request: Request,
    components: ComponentSet,
    updates: Mapping[str, Update],
    config: Any,
    *,
    steps: pd.DataFrame,
    started: float,
) -> Edit:
    """Finish an edit that its method's name and config say all about.

    Args:
        method: name in the registry.
        model: the model before the edit.
        request: what was to be forgotten.
        components: what may have changed.
        updates: what changes.
        config: dataclass of the method's settings, its seed among them.
        steps: record of the edit.
        started: `time.perf_counter()` when it began.

    Raises:
        WorkbenchError: see `finish`.
    """
    source = origin(
        model, request, str(components), method=method, config=asdict(config), seed=config.seed
    )
    seconds = time.perf_counter() - started
    return finish(model, request, components, updates, source, steps=steps, seconds=seconds)


def outside(base: Model, edited: Model, components: ComponentSet) -> list[str]:
    """Return the parameters with a changed value outside the components."""
    masks = base.structure.masks(components, base.parameters)
    out = []
    for name, old in base.parameters.items():
        new = edited.parameters[name]
        if new is old or new.data_ptr() == old.data_ptr():
            continue
        differs = new != old
        if name in masks:
            differs &= ~masks[name]
        if bool(differs.any()):
            out.append(name)
    return out


def target_log_probability(model: Model, facts: FactSet) -> float:
    """Return the mean log-probability of the targets' tokens behind their prompts, in nats."""
    prompts = [encode(model, f.prompt) for f in facts]
    targets = [continuation(model, f.prompt, f.target) for f in facts]
    found = likelihoods(model, prompts, targets)
    means = (one.log_probability / len(t) for one, t in zip(found, targets, strict=True))
    return sum(means) / len(facts)
