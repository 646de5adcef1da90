"""A circuit as a graph: the embedding at the bottom, one row a layer, the logits on top.

Heads stand in columns by their number, the MLP behind them and half a row higher, for it reads them
in most families. An edge's width is its |score|; orange edges carry the right answer, blue ones
work against it. Nodes are markers whose `customdata` is their name, which `node_of` reads back from
a click.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from plotly import graph_objects as go

from workbench.errors import unknown_name
from workbench.figures.theme import DIVERGING, colour_of, style
from workbench.localize.circuit_graph import Circuit, Edge
from workbench.localize.wiring import EMBED, LOGITS
from workbench.models.components import ComponentSet

_ROWS, _HEIGHT = (44, 74), 1000  # least and most pixels of a layer, and of all if they fit
_WIDTH = 860  # pixels of the graph on a small screen
_MLP_RISE = 0.45  # height of MLPs above their layer's row
_SIZE, _READABLE = 28, 22  # pixels of a node where there is room; smaller ones have no text
_THIN, _THICK, _FAINT = 0.7, 7.0, 0.12
_BOW = 0.14  # of an edge to the right, in columns for each layer it passes
_CLEAR = 0.3  # rows or columns between an edge's hover spot and the nodes
_LEVELS = 12  # of width and colour for each sign: edges of one level are one trace
_LEAST = 0.35  # of the colour scale: the weakest edge can still be told from the page
_NODE, _PALE = "#8b93a1", "rgba(139,147,161,0.25)"
Place = tuple[float, float]


def circuit_graph(
    circuit: Circuit,
    *,
    among: Circuit | None = None,
    focus: str | None = None,
    pinned: Sequence[str] = (),
) -> go.Figure:
    """Draw a circuit.

    Args:
        circuit: nodes and edges to draw.
        among: the circuit it was pruned from; nodes that dropped out stay as pale marks, so that
            nothing moves when the threshold does.
        focus: node whose edges are drawn strongly, all others faintly.
        pinned: nodes that are outlined and labelled.

    Raises:
        WorkbenchError: focus or pinned is no node.
    """
    whole = among or circuit
    for node in (*([focus] if focus is not None else []), *pinned):
        if node not in (*whole.nodes, *circuit.nodes):
            raise unknown_name("node of this circuit", node, whole.nodes)
    places = node_places({*whole.nodes, *circuit.nodes})
    edges = _edges(circuit)
    limit = max((abs(e.score) for e in edges), default=1.0) or 1.0
    near = [e for e in edges if focus is None or focus in (e.source, e.target)]
    far = [e for e in edges if e not in near]
    figure = go.Figure(
        [
            *_lines(far, places, limit, _FAINT),
            *_lines(near, places, limit, 0.9),
            _middles(near, places),
            _pale(circuit, places),
            _nodes(circuit, places, focus, pinned),
        ]
    )
    _axes(figure, places)
    if not edges:
        text = "No path from the embedding to the logits among these edges; keep more."
        figure.add_annotation(text=text, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    rows = max((y for _, y in places.values()), default=0) + 2
    row = min(max(_HEIGHT / rows, _ROWS[0]), _ROWS[1])
    title = (
        f"{_title(circuit)}<br><sup>orange carries the right answer, blue works against it</sup>"
    )
    return style(figure, title=title, height=round(150 + row * rows))


def node_of(event: Mapping[str, Any] | None) -> str | None:
    """Read the clicked node from a chart's event; None if no node is selected."""
    points = ((event or {}).get("selection") or {}).get("points") or []
    names = [p.get("customdata") for p in points]
    return next((str(d[0]) for d in names if d and len(d) == 1), None)


def node_places(nodes: Iterable[str]) -> dict[str, Place]:
    """Return x (head number, MLPs behind the last) and y (layer, the embedding at -1) of nodes."""
    given = set(nodes)
    parts = {str(c): c for n in given - {EMBED, LOGITS} for c in ComponentSet.parse(n)}
    heads = max((c.index for c in parts.values()), default=0) + 1
    column = max(heads, 1)
    last = max((c.layer for c in parts.values()), default=0)
    out: dict[str, Place] = {}
    for name, c in parts.items():
        if c.kind == "mlp":
            out[name] = (float(column), c.layer + _MLP_RISE)
        else:
            out[name] = (float(max(c.index, 0)), float(c.layer))
    ends = {EMBED: (column / 2, -1.0), LOGITS: (column / 2, last + 1.0 + _MLP_RISE)}
    return out | {n: p for n, p in ends.items() if n in given}


def _title(circuit: Circuit) -> str:
    n, edges = circuit.n_facts, len(circuit.edges)
    facts = "one fact" if n == 1 else f"{n} facts"
    return f"Circuit of {facts}: {edges} edge{'' if edges == 1 else 's'}"


def _edges(circuit: Circuit) -> list[Edge]:
    """Return the edges, weak ones first, so that strong ones are drawn over them."""
    columns = (circuit.edges[c].tolist() for c in ("source", "target", "score", "stderr"))
    return sorted((Edge(*row) for row in zip(*columns, strict=True)), key=lambda e: abs(e.score))


def _curve(start: Place, end: Place) -> tuple[np.ndarray, np.ndarray]:
    """Bow a line to the right, the more the further it goes, past the nodes in between."""
    (x0, y0), (x1, y1) = start, end
    middle = ((x0 + x1) / 2 + _BOW * (y1 - y0 - 1), (y0 + y1) / 2)
    t = np.linspace(0, 1, 13)
    weights = ((1 - t) ** 2, 2 * t * (1 - t), t**2)
    x, y = (
        sum(w * p[i] for w, p in zip(weights, (start, middle, end), strict=True)) for i in (0, 1)
    )
    return np.asarray(x), np.asarray(y)


def _lines(
    edges: Sequence[Edge], places: Mapping[str, Place], limit: float, opacity: float
) -> list[go.Scatter]:
    """Draw edges of one level of |score| and one sign as one trace."""
    levels: dict[int, list[Edge]] = {}
    for edge in edges:
        level = max(1, round(abs(edge.score) / limit * _LEVELS))
        levels.setdefault(level if edge.score >= 0 else -level, []).append(edge)
    out = []
    for level, same in sorted(levels.items(), key=lambda item: abs(item[0])):
        xs: list[float | None] = []
        ys: list[float | None] = []
        for edge in same:
            x, y = _curve(places[edge.source], places[edge.target])
            xs += [*x.tolist(), None]
            ys += [*y.tolist(), None]
        share = abs(level) / _LEVELS
        signed = (1 if level > 0 else -1) * (_LEAST + (1 - _LEAST) * share)
        line = {"width": _THIN + (_THICK - _THIN) * share, "color": colour_of(signed, 1.0)}
        out.append(
            go.Scatter(x=xs, y=ys, mode="lines", line=line, opacity=opacity, hoverinfo="skip")
        )
    return out


def _middles(edges: Sequence[Edge], places: Mapping[str, Place]) -> go.Scatter:
    """Put an unseen marker on each edge, to say its numbers, away from the nodes."""
    nodes = np.array(list(places.values())).reshape(-1, 2)
    spots = [_free_spot(_curve(places[e.source], places[e.target]), nodes) for e in edges]
    return go.Scatter(
        x=[x for x, _ in spots],
        y=[y for _, y in spots],
        mode="markers",
        marker={"size": 9, "opacity": 0},
        customdata=[[e.source, e.target, e.score, e.stderr] for e in edges],
        hovertemplate=(
            "%{customdata[0]} → %{customdata[1]}<br><b>%{customdata[2]:.4f}</b> "
            "± %{customdata[3]:.4f} of the effect (standard error)<extra></extra>"
        ),
    )


def _free_spot(curve: tuple[np.ndarray, np.ndarray], nodes: np.ndarray) -> Place:
    """Return the middle of a curve, or the point nearest to it that is clear of all nodes."""
    points = np.stack(curve, -1)
    room = np.abs(points[:, None] - nodes).max(-1).min(-1)
    last = len(points) - 1
    from_middle = sorted(range(last + 1), key=lambda i: abs(2 * i - last))
    best = next((i for i in from_middle if room[i] >= _CLEAR), int(room.argmax()))
    return float(points[best, 0]), float(points[best, 1])


def _pale(circuit: Circuit, places: Mapping[str, Place]) -> go.Scatter:
    names = [n for n in places if n not in circuit.nodes]
    return go.Scatter(
        x=[places[n][0] for n in names],
        y=[places[n][1] for n in names],
        mode="markers",
        marker={"size": 9, "color": _PALE, "symbol": [_symbol(n) for n in names]},
        customdata=[[n] for n in names],
        hovertemplate="%{customdata[0]}<br>in no kept path<extra></extra>",
        unselected={"marker": {"opacity": 1}},
    )


def _nodes(
    circuit: Circuit, places: Mapping[str, Place], focus: str | None, pinned: Sequence[str]
) -> go.Scatter:
    names = list(circuit.nodes)
    marked = [n == focus or n in pinned for n in names]
    columns = max((x for x, _ in places.values()), default=0) + 1
    size = min(_SIZE, 0.8 * _WIDTH / columns)
    return go.Scatter(
        x=[places[n][0] for n in names],
        y=[places[n][1] for n in names],
        mode="markers+text" if size >= _READABLE else "markers",
        text=[_label(n) for n in names],
        textposition="middle center",
        textfont={"size": 10, "color": "#ffffff"},
        marker={
            "size": [1.2 * size if n == focus else size for n in names],
            "color": [
                DIVERGING[0] if n == focus else "#4a515e" if n in pinned else _NODE for n in names
            ],
            "opacity": 1,
            "symbol": [_symbol(n) for n in names],
            "line": {"width": [3 if m else 0 for m in marked], "color": DIVERGING[3]},
        },
        customdata=[[n] for n in names],
        hovertext=[_tip(circuit, n) for n in names],
        hovertemplate="%{hovertext}<extra></extra>",
        unselected={"marker": {"opacity": 1}, "textfont": {"color": "#ffffff"}},
    )


def _symbol(node: str) -> str:
    if node in (EMBED, LOGITS):
        return "hexagon2"
    return "square" if node.startswith("mlp") else "circle"


def _label(node: str) -> str:
    if node in (EMBED, LOGITS):
        return "emb" if node == EMBED else "out"
    kind, _, rest = node.partition(".")
    return f"m{rest}" if kind == "mlp" else f"a{rest}" if kind == "attn" else rest


def _tip(circuit: Circuit, node: str) -> str:
    lines = [f"<b>{node}</b>"]
    for edges, way in zip(circuit.edges_of(node), ("read", "written"), strict=True):
        if edges:
            total = sum(e.score for e in edges)
            lines.append(f"{way}: {len(edges)} edges, {total:.4f} of the effect")
            ends = ((e.source if way == "read" else e.target, e.score) for e in edges[:3])
            lines += [f"  {end} {score:.4f}" for end, score in ends]
    return "<br>".join(lines)


def _axes(figure: go.Figure, places: Mapping[str, Place]) -> None:
    parts = {n: p for n, p in places.items() if n not in (EMBED, LOGITS)}
    columns = {round(x): _column(n) for n, (x, _) in parts.items()}
    layers = sorted({int(y) for _, y in parts.values()})
    ends = {
        places[n][1]: text for n, text in ((EMBED, "embedding"), (LOGITS, "logits")) if n in places
    }
    right = max((x for x, _ in places.values()), default=0.0)
    figure.update_xaxes(
        range=[-0.5, right + _BOW * (len(layers) + 1) / 2 + 0.3],  # room for the bows, always
        tickvals=list(columns),
        ticktext=list(columns.values()),
        showgrid=False,
        zeroline=False,
        fixedrange=True,
        automargin=True,
    )
    figure.update_yaxes(
        tickvals=[*ends, *layers],
        ticktext=[*ends.values(), *(f"layer {i}" for i in layers)],
        showgrid=False,
        zeroline=False,
        fixedrange=True,
        automargin=True,
    )
    figure.update_layout(showlegend=False, dragmode=False, clickmode="event+select")


def _column(node: str) -> str:
    kind, *numbers = node.split(".")
    return {"mlp": "MLP", "attn": "attention"}.get(kind, f"head {numbers[-1]}")
