"""A repair plan that is right, for tests that change something in it."""

from __future__ import annotations

from typing import Any

from workbench.facts.fact import Fact

FACT = Fact("Ada", "Ada lives in", " Graz", foil=" Linz", relation="city")
GOOD: dict[str, Any] = {
    "model": "demo",
    "fingerprint": "0" * 64,
    "action": "forget",
    "subject": "Ada",
    "facts": [FACT.to_json()],
    "sites": {"answer": "mlp.1-2"},
}
