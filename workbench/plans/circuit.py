"""Through which edges does a model recall some facts: as a plan, and as a recorded run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from workbench.errors import WorkbenchError
from workbench.facts.fact import Request
from workbench.localize.circuit import circuit, faithfulness
from workbench.localize.circuit_graph import Circuit
from workbench.localize.corruption import Corruption, corruption_named
from workbench.models.load import load
from workbench.models.model import Model
from workbench.plans.facts import FactsPlan
from workbench.plans.plan import Recorded, options
from workbench.progress import SILENT, Progress
from workbench.store.store import RunStore


@dataclass(frozen=True)
class CircuitPlan(FactsPlan):
    """Settings of a circuit.

    Attributes:
        model: demo, smollm2, a folder or a hub id.
        request, facts, relation, subject, most, seed: which facts; see `FactsPlan`.
        edges: edges to keep and to measure.
        steps: gradients along the path.
        heads: take attentions apart into heads.
        corruption: noise, replace or image; replace needs facts about several subjects.
        samples: corrupted samples per fact.
        metric: what is measured.
    """

    KIND: ClassVar[str] = "circuit"

    edges: int = 100
    steps: int = 5
    heads: bool = True
    corruption: str = "replace"
    samples: int | None = None
    metric: str | None = None

    def arguments(self) -> list[str]:
        """Return the command's words behind `workbench circuit MODEL`."""
        changed = {
            name: value
            for name in ("edges", "steps", "corruption", "most", "seed")
            if (value := getattr(self, name)) != getattr(CircuitPlan, name)
        }
        return options(
            request=self.request,
            facts=self.facts,
            relation=self.relation,
            subject=self.subject,
            no_heads=not self.heads,
            samples=self.samples,
            metric=self.metric,
            **changed,
        )

    def lost(self) -> Corruption:
        """Return how a prompt loses its subject.

        Raises:
            WorkbenchError: no corruption of this name.
        """
        more = {"samples": self.samples} if self.samples else {}
        return corruption_named(self.corruption)(seed=self.seed, **more)


@dataclass(frozen=True, eq=False)
class FoundCircuit:
    """What a circuit run found.

    Attributes:
        whole: every edge, scored.
        faithfulness: one row, for the edges that the plan keeps.
    """

    whole: Circuit
    faithfulness: pd.DataFrame


def run_circuit(
    plan: CircuitPlan,
    model: Model | None = None,
    request: Request | None = None,
    *,
    store: RunStore | None = None,
    progress: Progress = SILENT,
) -> Recorded[FoundCircuit]:
    """Find a circuit, measure it and record the run.

    Args:
        plan: what to do.
        model: the plan's model, if it is loaded already.
        request: the plan's request, if it is loaded already.
        store: where to record; the user's own by default.
        progress: where to report.

    Raises:
        WorkbenchError: the plan does not fit the model or its facts.
    """
    lost = plan.lost()
    if plan.edges < 1:
        raise WorkbenchError("A circuit keeps at least one edge; set edges to 1 or more.")
    model = model or load(plan.model, progress=progress)
    facts = plan.chosen(model, request, progress)
    store = store or RunStore.default()
    with store.start("circuit", plan.to_json(), name=plan.request, seed=plan.seed) as run:
        settings: dict[str, Any] = {"corruption": lost, "metric": plan.metric}
        settings |= {"steps": plan.steps, "heads": plan.heads}
        whole = circuit(model, facts, progress=progress, **settings)
        table = faithfulness(model, facts, whole, [plan.edges], progress=progress)
        run.save_table("edges", whole.edges)
        run.save_table("faithfulness", table)
        run.save_json("circuit", whole.to_json())
    return Recorded(run.id, run.path, FoundCircuit(whole, table))
