"""The circuit behind some facts: which node's output the next nodes read, edge by edge.

Nodes are the embedding, every head (or whole attention), every MLP and the logits. An edge from u
to v is scored by edge attribution patching with integrated gradients,

    score(u -> v) = sum_d (u_clean - u_corrupted) * mean_k d metric / d input_v   /  mean effect

where input_v is the residual stream that v alone reads, its norm included in the gradient, k runs
over `steps` midpoints of the path of the input embeddings, and the mean effect is metric clean -
corrupted. The sign is the opposite of the sources': a positive edge carries the right answer, and
its score is the first-order share of the effect that is lost when it alone is corrupted. The scores
of all edges out of the embedding sum to 1 for many steps. Query, key and value of a head share one
input, so an edge into a head is the sum of the three.

Faithfulness of a circuit is measured, not estimated: with every edge outside it corrupted,

    faithfulness = (metric(circuit) - metric(corrupted)) / (metric(clean) - metric(corrupted))

Source: Syed et al. 2023 (arXiv 2310.10348) eq. 2; Hanna et al. 2024 (arXiv 2403.17806) eq. 4, and
its definition of faithfulness. Cost: 2 + steps forward and steps backward passes, with attention
once per head in the latter; faithfulness 2 forward passes and one more per circuit. Facts of one
length go together.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet
from workbench.facts.known import split_known
from workbench.localize.circuit_graph import EDGE_COLUMNS, Circuit
from workbench.localize.corruption import (
    Corruption,
    Pair,
    Replacement,
    corruption_named,
    left_out,
)
from workbench.localize.edges import ablate_edges, drive, path_reader_gradients
from workbench.localize.gradients import Group, groups
from workbench.localize.metrics import Metric, default_metric, metric_named
from workbench.localize.runs import before, stream_of
from workbench.localize.wiring import Graph, Wiring, not_wired, wire
from workbench.models.model import Model
from workbench.progress import SILENT, Progress

_REPLACEMENT = Replacement()
_MAX_VALUES = 1 << 25  # of one tensor over nodes, tokens and the stream's width


def circuit(
    model: Model,
    facts: FactSet,
    *,
    corruption: Corruption = _REPLACEMENT,
    metric: str | None = None,
    steps: int = 5,
    heads: bool = True,
    progress: Progress = SILENT,
) -> Circuit:
    """Score every edge by what the answer loses when it carries the corrupted prompt's states.

    Facts the model does not know are left out and counted in the result.

    Args:
        model: the model.
        facts: what is recalled.
        corruption: how a prompt loses its subject.
        metric: what is measured; default the logit difference if all facts have foils, else the
            probability.
        steps: gradients along the path.
        heads: take attentions apart into heads.
        progress: where to report.

    Raises:
        WorkbenchError: no fact is known, an unknown metric, no step, corruption has no effect, or
            the model's stream cannot be taken apart.
    """
    if steps < 1:
        raise WorkbenchError("Edges are scored from at least one step; set steps to 1 or more.")
    used = split_known(model, facts, progress=progress).require()
    chosen = metric or default_metric(used)
    read, pairs = metric_named(chosen), corruption.pairs(model, used)
    wiring = _wired(model, heads)
    rows: list[Tensor] = [torch.empty(0)] * len(pairs)
    clean, corrupted = torch.zeros(len(pairs)), torch.zeros(len(pairs))
    for group in progress.track(list(_groups(wiring, pairs)), "scoring edges"):
        whole, base, scores = edge_scores(wiring, group, read, steps)
        parts = zip(group.indices, group.split(scores), group.split(base), whole, strict=True)
        for i, own, own_base, own_clean in parts:
            rows[i], corrupted[i], clean[i] = own.cpu(), own_base.mean(), own_clean
    config = {
        "corruption": asdict(corruption),
        "metric": chosen,
        "steps": steps,
        "heads": heads,
        "model": model.name,
        "model_fingerprint": model.fingerprint,
        "facts_fingerprint": facts.fingerprint,
    }
    return Circuit(
        wiring.graph.nodes,
        _table(wiring.graph, rows, _effect(clean, corrupted)),
        float(clean.mean()),
        float(corrupted.mean()),
        len(pairs),
        left_out(facts, pairs),
        config,
    )


def edge_scores(
    wiring: Wiring, group: Group, metric: Metric, steps: int
) -> tuple[Float[Tensor, " fact"], Float[Tensor, " row"], Float[Tensor, "row writer reader"]]:
    """Score every edge for facts of one length.

    Returns:
        The clean metric of each fact, the corrupted metric of each row, and the scores in units of
        the metric; pairs that are no edge have score 0.
    """
    with torch.no_grad():
        logits, clean = drive(wiring, group.clean)
        whole = group.measure(metric, logits, group.each)
        logits, corrupted = drive(wiring, group.corrupted)
        base = group.measure(metric, logits, group.fact)
    gradients = path_reader_gradients(wiring, group, metric, steps)
    change = clean[:, group.fact] - corrupted
    scores = torch.einsum("urpd,vrpd->ruv", change, gradients)
    return whole, base, scores * wiring.graph.edges.to(scores)


def faithfulness(
    model: Model,
    facts: FactSet,
    circuit: Circuit,
    n_edges: Sequence[int],
    *,
    progress: Progress = SILENT,
) -> pd.DataFrame:
    """Measure how much of the effect a circuit's strongest edges keep, all others corrupted.

    Corruption and metric are those of the circuit; the model may be an edited one.

    Args:
        model: the model to run.
        facts: what is recalled; those the model does not know are left out.
        circuit: where the edges come from.
        n_edges: for each row of the result, how many edges `circuit.pruned(edges=n)` starts from.
        progress: where to report.

    Returns:
        Columns edges, kept (those on a path from embedding to logits), faithfulness, stderr (of a
        ratio of means over facts, to first order), n (facts).

    Raises:
        WorkbenchError: no fact is known, the circuit is of another model, or no effect.
    """
    used = split_known(model, facts, progress=progress).require()
    settings = dict(circuit.config["corruption"])
    pairs = corruption_named(settings.pop("name"))(**settings).pairs(model, used)
    metric = metric_named(circuit.config["metric"])
    wiring = _wired(model, bool(circuit.config["heads"]))
    pruned = [circuit.pruned(edges=n) for n in n_edges]
    masks = [_mask(wiring.graph, part) for part in pruned]
    clean, corrupted = torch.zeros(len(pairs)), torch.zeros(len(pairs))
    left = torch.zeros(len(masks), len(pairs))
    for group in progress.track(list(_groups(wiring, pairs)), "measuring faithfulness"):
        at = list(group.indices)
        ends, values = _ablated(wiring, group, metric, masks)
        clean[at], corrupted[at], left[:, at] = *ends, values
    effect = _effect(clean, corrupted)
    shares = (left - corrupted).double() / effect
    mean = shares.mean(1)
    spread = shares - mean[:, None] * (clean - corrupted).double() / effect
    return pd.DataFrame(
        {
            "edges": list(n_edges),
            "kept": [len(part.edges) for part in pruned],
            "faithfulness": mean.tolist(),
            "stderr": [_stderr(row.numpy()) for row in spread],
            "n": len(pairs),
        }
    )


def _ablated(
    wiring: Wiring, group: Group, metric: Metric, masks: Sequence[Tensor]
) -> tuple[tuple[Tensor, Tensor], Float[Tensor, "mask fact"]]:
    """Return each fact's clean and corrupted metric, and that with all but a mask's edges cut."""

    def by_fact(logits: Tensor) -> Tensor:
        values = group.measure(metric, logits, group.fact)
        return torch.stack([own.mean() for own in group.split(values)]).cpu()

    rows = group.clean[group.fact]
    with torch.no_grad():
        clean, _ = drive(wiring, rows)
        corrupted, outputs = drive(wiring, group.corrupted)
    left = [by_fact(ablate_edges(wiring, rows, outputs, mask)) for mask in masks]
    none = torch.zeros(0, len(group.clean))
    return (by_fact(clean), by_fact(corrupted)), torch.stack(left) if left else none


def _mask(graph: Graph, circuit: Circuit) -> Bool[Tensor, "writer reader"]:
    """Mark a circuit's edges.

    Raises:
        WorkbenchError: the graph has no such edge.
    """
    writers, readers = ({n: i for i, n in enumerate(x)} for x in (graph.writers, graph.readers))
    mask = torch.zeros_like(graph.edges)
    for source, target in zip(circuit.edges["source"], circuit.edges["target"], strict=True):
        at = writers.get(source), readers.get(target)
        if at[0] is None or at[1] is None or not graph.edges[at]:
            raise WorkbenchError(
                f"This model has no edge from {source} to {target}; use the circuit with the model "
                "it was found in."
            )
        mask[at] = True
    return mask


def _table(graph: Graph, rows: Sequence[Tensor], effect: float) -> pd.DataFrame:
    """Average over facts, or over the samples of a single one; strongest edges first."""
    samples = rows[0] if len(rows) == 1 else torch.stack([r.mean(0) for r in rows])
    shares = (samples.double() / effect).numpy()
    edges = [
        (graph.writers[u], graph.readers[v], float(own.mean()), _stderr(own))
        for u, v in graph.edges.nonzero().tolist()
        for own in [shares[:, u, v]]
    ]
    table = pd.DataFrame(edges, columns=list(EDGE_COLUMNS))
    return table.sort_values("score", key=np.abs, ascending=False, ignore_index=True, kind="stable")


def _stderr(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


def _effect(clean: Tensor, corrupted: Tensor) -> float:
    effect = float((clean - corrupted).double().mean())
    if abs(effect) < 1e-6:  # what rounding makes of batches of other sizes
        raise WorkbenchError(
            "Corrupting the subject does not change the answer, so no edge carries it; check that "
            "the subject is what the answer depends on, or use stronger noise."
        )
    return effect


def _groups(wiring: Wiring, pairs: Sequence[Pair]) -> list[Group]:
    width = pairs[0].clean.shape[-1] * len(wiring.graph.readers)
    return list(groups(pairs, max_tokens=max(_MAX_VALUES // width, 1)))


def _wired(model: Model, heads: bool) -> Wiring:
    """Wire a model, and check on two tokens that the stream is the sum of what is written to it.

    Raises:
        WorkbenchError: it is not (a family that scales what it adds, for example).
    """
    wiring = wire(model, heads=heads)
    ends: list[Tensor] = []
    tokens = torch.tensor([[0], [1]], device=model.device)
    with ExitStack() as hooks, torch.no_grad():
        before(hooks, wiring.final_norm, lambda m, a, k: ends.append(stream_of(a, k)))
        _, outputs = drive(wiring, model.hf.get_input_embeddings()(tokens))
    change, written = (x[..., 0, :, :] - x[..., 1, :, :] for x in (ends[0], outputs.sum(0)))
    if not torch.allclose(change, written, rtol=1e-2, atol=1e-3 * float(change.abs().max())):
        raise not_wired(model)
    return wiring
