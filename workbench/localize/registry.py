"""Every localizer by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from workbench.errors import unknown_name
from workbench.facts.fact import FactSet
from workbench.localize.activation_patching import activation_patching
from workbench.localize.attribution_patching import attribution_patching
from workbench.localize.causal_tracing import causal_tracing
from workbench.localize.fact_lookup import fact_lookup_localization
from workbench.localize.localization import Localization
from workbench.localize.logit_lens import logit_attribution
from workbench.models.model import Model
from workbench.progress import SILENT, Progress

Localizer = Callable[..., Localization]

LOCALIZERS: dict[str, Localizer] = {
    "causal_tracing": causal_tracing,
    "activation_patching": activation_patching,
    "attribution_patching": attribution_patching,
    "fact_lookup": fact_lookup_localization,
    "logit_lens": logit_attribution,
}


def localize(
    name: str,
    model: Model,
    facts: FactSet,
    *,
    progress: Progress = SILENT,
    **settings: Any,
) -> Localization:
    """Run a localizer by its name.

    Args:
        name: one of `LOCALIZERS`.
        model: the model.
        facts: what is recalled.
        progress: where to report.
        settings: the localizer's own options.

    Raises:
        WorkbenchError: no localizer or no option of this name, or what the localizer raises.
    """
    if name not in LOCALIZERS:
        raise unknown_name("localizer", name, LOCALIZERS)
    localizer = LOCALIZERS[name]
    options = [p for p in settings_of(localizer) if p != "progress"]
    for setting in settings:
        if setting not in options:
            raise unknown_name(f"setting of {name}", setting, options)
    return localizer(model, facts, progress=progress, **settings)


def settings_of(localizer: Localizer) -> list[str]:
    """Return the names of a localizer's keyword-only options."""
    parameters = inspect.signature(localizer).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
