"""An interpretability-driven edit workbench: localize, edit, measure, export.

    from workbench import load, load_request, causal_tracing, recall_sites, stamp, export
    from workbench.measure.scorecard import measure

The public names stand below in the order of the story; `localize`, `edit` and `measure` are
folders, and the functions of these names are in their registries and scorecard. Names are imported
when first used, so that `import workbench` and the command line's `--help` do not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from workbench.edit.registry import METHODS
    from workbench.edit.stamp import StampConfig, stamp
    from workbench.errors import WorkbenchError
    from workbench.facts.fact import Fact, FactSet, Refuse, Replace, Request
    from workbench.facts.readers import read_facts, write_facts
    from workbench.facts.request_files import load_request, request_names
    from workbench.job import JobSettings, run_job
    from workbench.localize.activation_patching import activation_patching
    from workbench.localize.attribution_patching import attribution_patching
    from workbench.localize.causal_tracing import causal_tracing
    from workbench.localize.circuit import circuit, faithfulness
    from workbench.localize.circuit_graph import Circuit
    from workbench.localize.fact_lookup import fact_lookup
    from workbench.localize.localization import Localization
    from workbench.localize.logit_lens import logit_lens
    from workbench.localize.registry import LOCALIZERS
    from workbench.localize.sites import recall_sites
    from workbench.measure.scorecard import Scorecard
    from workbench.models.components import Component, ComponentSet
    from workbench.models.delta import WeightDelta
    from workbench.models.export import export
    from workbench.models.load import load
    from workbench.models.model import Model
    from workbench.models.text import generate
    from workbench.progress import Cancelled, Progress
    from workbench.store.store import RunStore

_HOME = {
    "WorkbenchError": "errors",
    "Cancelled": "progress",
    "Progress": "progress",
    "Model": "models.model",
    "load": "models.load",
    "generate": "models.text",
    "Component": "models.components",
    "ComponentSet": "models.components",
    "WeightDelta": "models.delta",
    "Fact": "facts.fact",
    "FactSet": "facts.fact",
    "Request": "facts.fact",
    "Refuse": "facts.fact",
    "Replace": "facts.fact",
    "read_facts": "facts.readers",
    "write_facts": "facts.readers",
    "load_request": "facts.request_files",
    "request_names": "facts.request_files",
    "Localization": "localize.localization",
    "causal_tracing": "localize.causal_tracing",
    "activation_patching": "localize.activation_patching",
    "attribution_patching": "localize.attribution_patching",
    "fact_lookup": "localize.fact_lookup",
    "logit_lens": "localize.logit_lens",
    "Circuit": "localize.circuit_graph",
    "circuit": "localize.circuit",
    "faithfulness": "localize.circuit",
    "recall_sites": "localize.sites",
    "LOCALIZERS": "localize.registry",
    "StampConfig": "edit.stamp",
    "stamp": "edit.stamp",
    "METHODS": "edit.registry",
    "Scorecard": "measure.scorecard",
    "RunStore": "store.store",
    "export": "models.export",
    "JobSettings": "job",
    "run_job": "job",
}

__all__ = [  # noqa: RUF022 - in the order of the story
    "WorkbenchError",
    "Cancelled",
    "Progress",
    "Model",
    "load",
    "generate",
    "Component",
    "ComponentSet",
    "WeightDelta",
    "Fact",
    "FactSet",
    "Request",
    "Refuse",
    "Replace",
    "read_facts",
    "write_facts",
    "load_request",
    "request_names",
    "Localization",
    "causal_tracing",
    "activation_patching",
    "attribution_patching",
    "fact_lookup",
    "logit_lens",
    "Circuit",
    "circuit",
    "faithfulness",
    "recall_sites",
    "LOCALIZERS",
    "StampConfig",
    "stamp",
    "METHODS",
    "Scorecard",
    "RunStore",
    "export",
    "JobSettings",
    "run_job",
]


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
