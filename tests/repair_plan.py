"""A repair plan that is right, and an edit that is quick, for tests of repairs."""

from __future__ import annotations

from typing import Any

import torch

from workbench.facts.fact import Fact
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.models.model import Model

FACT = Fact("Ada", "Ada lives in", " Graz", foil=" Linz", relation="city")
GOOD: dict[str, Any] = {
    "model": "demo",
    "fingerprint": "0" * 64,
    "action": "forget",
    "subject": "Ada",
    "facts": [FACT.to_json()],
    "sites": {"answer": "mlp.1-2"},
}


def tiny_edit(base: Model, *_: Any, layer: int = 4, **__: Any) -> WeightDelta:
    """An edit that changes almost nothing, in the place of a solve."""
    name = f"model.layers.{layer}.mlp.down_proj.weight"
    change = torch.zeros_like(base.parameters[name])
    change[0, 0] = 1e-6
    return WeightDelta({name: Dense(change)}, Origin("test", model=base.name))
