"""`workbench circuit`: through which edges a model recalls some facts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.console import (
    LOST_BY,
    FactsFile,
    Json,
    MetricName,
    ModelName,
    Most,
    Overwrite,
    Relation,
    RequestName,
    Samples,
    Seed,
    SubjectName,
    check_output,
    columns,
    emit,
    progress_bar,
)

if TYPE_CHECKING:
    from workbench.localize.circuit_graph import Circuit

_SHOWN = 12


def circuit(
    model: ModelName,
    facts: FactsFile = None,
    request: RequestName | None = None,
    edges: Annotated[int, typer.Option(min=1, help="Edges to keep.")] = 100,
    steps: Annotated[int, typer.Option(min=1, help="Gradients along the path.")] = 5,
    heads: Annotated[bool, typer.Option(help="Take attentions apart into heads.")] = True,
    corruption: Annotated[str, typer.Option(help=LOST_BY)] = "replace",
    samples: Samples = None,
    metric: MetricName = None,
    relation: Relation = None,
    subject: SubjectName = None,
    most: Most = 48,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file for the kept circuit.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Find the circuit through which a model recalls some facts, and how faithful it is.

    Example: workbench circuit demo --request athletes --relation sport --out circuit.json
    """
    if out:
        out = check_output(out, overwrite)
    from workbench.plans import CircuitPlan, run_circuit

    plan = CircuitPlan(
        model,
        request=request or "",
        facts=str(facts or ""),
        edges=edges,
        steps=steps,
        heads=heads,
        corruption=corruption,
        samples=samples,
        metric=metric,
        relation=relation,
        subject=subject,
        most=most,
        seed=seed,
    )
    with progress_bar(as_json) as progress:
        recorded = run_circuit(plan, progress=progress)
    whole, table = recorded.result.whole, recorded.result.faithfulness
    kept = whole.pruned(edges=edges)
    if out:
        kept.save(out)
    _report(recorded.run, whole, kept, table.to_dict("records")[0], as_json)


def _report(
    run: str, whole: Circuit, kept: Circuit, measured: dict[Any, Any], as_json: bool
) -> None:
    result = {"run": run, "whole": len(whole.edges), "faithfulness": measured, **kept.to_json()}
    strongest = result["edges"][:_SHOWN]
    share, error = measured["faithfulness"], measured["stderr"]
    lines = [
        f"{whole.n_facts} facts; {len(whole.left_out)} left out, not known or not to be corrupted.",
        f"{len(kept.edges)} of {len(whole.edges)} edges, {len(kept.nodes)} nodes: faithfulness "
        f"{share:.3f} ± {error:.3f} (1 = as the whole model, 0 = as without the subject).",
        columns([(e["source"], "→", e["target"], f"{e['score']:.3f}") for e in strongest])
        if strongest
        else "No path from the embedding to the logits among these edges; keep more.",
        f"Recorded as run {run}.",
    ]
    emit(result, "\n".join(lines), as_json)
