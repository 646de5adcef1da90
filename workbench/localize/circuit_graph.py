"""A circuit as a value: nodes, scored edges, and what is left when only the strongest ones stay."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.readers import parse_json, read_text
from workbench.localize.wiring import EMBED, LOGITS
from workbench.models.atomic import unwritable, write_json
from workbench.models.components import ComponentSet

EDGE_COLUMNS = ("source", "target", "score", "stderr")


@dataclass(frozen=True)
class Edge:
    """One node's output as another one's input.

    Attributes:
        source: the node that writes.
        target: the node that reads.
        score: share of the whole effect; positive where the edge carries the right answer.
        stderr: its standard error.
    """

    source: str
    target: str
    score: float
    stderr: float = 0.0


@dataclass(frozen=True, eq=False)
class Circuit:
    """The edges through which some facts are recalled.

    Attributes:
        nodes: "embed", components by their names in the model's order, "logits".
        edges: source, target, score (share of the whole effect), stderr; strongest first.
        clean: mean metric of the clean runs.
        corrupted: mean metric of the corrupted runs.
        n_facts: facts that were used.
        left_out: prompts of facts that were not.
        config: settings, seed, model name and fingerprint.
    """

    nodes: tuple[str, ...]
    edges: pd.DataFrame
    clean: float
    corrupted: float
    n_facts: int
    left_out: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    def pruned(self, *, edges: int | None = None, threshold: float | None = None) -> Circuit:
        """Keep the strongest edges, and of these the ones on a path from embedding to logits.

        A number of edges is taken greedily from the logits: each time the strongest edge, by
        |score|, into a node that is in already (Hanna et al. 2024, arXiv 2403.17806), so that a
        larger number only adds edges. Dropping those on no path changes nothing in a run: what lies
        on none is either corrupted already or not read.

        Args:
            edges: start from this many.
            threshold: start from all with |score| of at least this.

        Raises:
            WorkbenchError: not exactly one of the two, or a negative one.
        """
        if (edges is None) == (threshold is None):
            raise WorkbenchError("Prune a circuit by exactly one of edges and threshold.")
        if (edges if edges is not None else threshold or 0) < 0:
            raise WorkbenchError("A circuit keeps 0 or more edges; give a number that is not < 0.")
        strong = self.edges["score"].abs() >= (threshold or 0)
        table = self.edges[strong] if edges is None else self.edges.loc[self._greedy(edges)]
        pairs = list(zip(table["source"], table["target"], strict=True))
        alive = _reached(EMBED, pairs) & _reached(LOGITS, [(v, u) for u, v in pairs])
        inside = table["source"].isin(alive) & table["target"].isin(alive)
        nodes = tuple(n for n in self.nodes if n in alive) if inside.any() else ()
        kept = table[inside].sort_values("score", key=abs, ascending=False, kind="stable")
        return replace(self, nodes=nodes, edges=kept.reset_index(drop=True))

    def _greedy(self, count: int) -> list[Hashable]:
        """Return the rows of so many edges, walking from the logits."""
        into: dict[str, list[tuple[float, int]]] = {}
        sources = self.edges["source"].tolist()
        ends = zip(self.edges["target"], self.edges["score"], strict=True)
        for row, (target, score) in enumerate(ends):
            into.setdefault(target, []).append((-abs(score), row))
        waiting, taken, inside = sorted(into.get(LOGITS, [])), [], {LOGITS}
        while waiting and len(taken) < count:
            _, row = heapq.heappop(waiting)
            taken.append(row)
            if sources[row] not in inside:
                inside.add(sources[row])
                for edge in into.get(sources[row], []):
                    heapq.heappush(waiting, edge)
        return [self.edges.index[row] for row in taken]

    def components(self) -> ComponentSet:
        """Return the nodes that are parts of the model."""
        parts = [n for n in self.nodes if n not in (EMBED, LOGITS)]
        return ComponentSet.parse(", ".join(parts)) if parts else ComponentSet()

    def edges_of(self, node: str) -> tuple[tuple[Edge, ...], tuple[Edge, ...]]:
        """Return a node's incoming and outgoing edges, strongest first.

        Raises:
            WorkbenchError: the circuit has no such node.
        """
        if node not in self.nodes:
            raise unknown_name("node of this circuit", node, self.nodes)
        every = sorted(self._each(), key=lambda edge: -abs(edge.score))
        incoming = tuple(e for e in every if e.target == node)
        return incoming, tuple(e for e in every if e.source == node)

    def _each(self) -> Iterable[Edge]:
        columns = [self.edges[c].tolist() for c in EDGE_COLUMNS]
        return (Edge(*row) for row in zip(*columns, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return one JSON document."""
        return {
            "nodes": list(self.nodes),
            "edges": [vars(edge) for edge in self._each()],
            "clean": self.clean,
            "corrupted": self.corrupted,
            "n_facts": self.n_facts,
            "left_out": list(self.left_out),
            "config": dict(self.config),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Circuit:
        """Read what `to_json` returned.

        Raises:
            WorkbenchError: it is no circuit.
        """
        try:
            config = dict(value["config"])
            for name in ("corruption", "metric", "heads"):
                _ = config[name]
            edges = [
                (str(e["source"]), str(e["target"]), float(e["score"]), float(e["stderr"]))
                for e in value["edges"]
            ]
            return Circuit(
                tuple(str(n) for n in value["nodes"]),
                pd.DataFrame(edges, columns=list(EDGE_COLUMNS)),
                float(value["clean"]),
                float(value["corrupted"]),
                int(value["n_facts"]),
                tuple(value["left_out"]),
                config,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WorkbenchError(
                f"This is no circuit ({type(error).__name__}: {error}); give a file that "
                "`workbench circuit --out` wrote."
            ) from error

    def save(self, path: str | Path) -> None:
        """Write the circuit to one JSON file.

        Raises:
            WorkbenchError: the file cannot be written.
        """
        try:
            write_json(Path(path), self.to_json())
        except OSError as error:
            raise unwritable(Path(path), error) from error

    @staticmethod
    def load(path: str | Path) -> Circuit:
        """Read what `save` wrote.

        Raises:
            WorkbenchError: the file is missing or holds no circuit.
        """
        value = parse_json(read_text(Path(path)), str(path))
        return Circuit.from_json(value)


def _reached(start: str, pairs: Sequence[tuple[str, str]]) -> set[str]:
    """Return the nodes at the end of some path from `start`, itself included."""
    following: dict[str, list[str]] = {}
    for source, target in pairs:
        following.setdefault(source, []).append(target)
    found, waiting = {start}, [start]
    while waiting:
        for node in following.get(waiting.pop(), ()):
            if node not in found:
                found.add(node)
                waiting.append(node)
    return found
