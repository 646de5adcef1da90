"""A circuit as a layered graph: a threshold, what it keeps, and one node at a time."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from workbench.figures.circuits import circuit_graph, node_of, node_places
from workbench.localize.circuit_graph import Circuit, Edge
from workbench.localize.wiring import EMBED, LOGITS
from workbench.plans import plan_of
from workbench.store.run import RunRecord

from parts import node_panel, show
from parts.background import finished
from parts.circuit_find import (
    EDGES,
    circuit_of,
    controls,
    find_button,
    keep_measured,
    measure_later,
    measured,
    shown_run,
)
from parts.looking import Look, guarded

_MOST = 1000  # edges that a picture can hold
_ABREAST = 9  # columns of nodes that leave room for a panel beside them
_ENDS = {EMBED: "embedding", LOGITS: "logits"}
_FAITHFUL = (
    "With every edge outside the circuit corrupted: the share of the effect that is left. 1 = as "
    "the whole model, 0 = as without the subject; above 1, what was cut worked against the answer. "
    "± is the standard error over facts."
)


def circuit_section(look: Look) -> None:
    """Find a circuit and look at it."""
    st.subheader(
        "The circuit",
        help="Which node's output the next nodes read, edge by edge: edge attribution patching "
        "with integrated gradients (EAP-IG), of the base model.",
    )
    plan = controls(look)
    if plan is not None:
        find_button(plan)
    made = finished("circuit")
    if made is not None:
        st.session_state["circuit run"] = made
        st.rerun()
    numbers = finished("faithfulness")
    if numbers is not None:
        keep_measured(numbers)
        st.rerun()
    record = shown_run()
    if record is not None:
        _shown(look, record)
        show.copy_plan(plan_of("circuit", record.config), "copy shown circuit")


@st.fragment
@guarded
def _shown(look: Look, record: RunRecord) -> None:
    whole = circuit_of(record)
    kept = _kept(record, whole)
    _numbers(record, whole, kept)
    focus = _focus(record.id, whole)
    pinned = _pinned(record.id, whole)
    wide = max(x for x, _ in node_places(whole.nodes).values()) > _ABREAST
    graph, side = (st.container(), st.container()) if wide else node_panel.side_by_side(560, 340)
    with graph:
        figure = circuit_graph(kept, among=whole, focus=focus, pinned=pinned)
        st.caption("Hover to preview a node or an edge, click a node to open it.")
        show.chart(figure, f"graph {record.id}", kept.edges, select=True)
    with side:
        node = _node_widgets(record.id, whole)
        if node:
            _edges(kept if node in kept.nodes else whole, node, inside=node in kept.nodes)
    if node and node not in _ENDS:
        with st.container(border=True):
            _open(look, record.id, node)


def _kept(record: RunRecord, whole: Circuit) -> Circuit:
    most = max(min(len(whole.edges), _MOST), 2)
    start = min(int(record.config.get("edges", EDGES)), most)
    key = f"edges {record.id}"
    st.session_state.setdefault(key, st.session_state.get(f"kept {key}", start))
    edges = st.slider(
        "Edges kept",
        1,
        most,
        key=key,
        help="The strongest edges, taken from the logits on; those on no path from the embedding "
        "to the logits are dropped then.",
    )
    st.session_state[f"kept {key}"] = edges
    return whole.pruned(edges=edges)


def _numbers(record: RunRecord, whole: Circuit, kept: Circuit) -> None:
    edges = int(st.session_state[f"kept edges {record.id}"])
    row = measured(record, whole, edges)
    columns = st.columns(4)
    text = "?" if row is None else show.number(row["faithfulness"])
    columns[0].metric("Faithfulness", text, help=_FAITHFUL)
    columns[1].metric(
        f"Edges of {len(whole.edges):,}", len(kept.edges), help="On a path, of all there are."
    )
    columns[2].metric(f"Nodes of {len(whole.nodes)}", len(kept.nodes), help="At such an edge.")
    columns[3].metric(
        "Facts",
        whole.n_facts,
        help=f"Looked at; {len(whole.left_out)} more left out, which the model does not know or "
        "whose subject could not be replaced.",
    )
    if row is None:
        if columns[0].button("Measure", key=f"measure circuit {record.id}"):
            measure_later(record, whole, edges)
            st.rerun()
    elif row["stderr"] > 0:
        columns[0].caption(f"± {row['stderr']:.3f}")
    name = str(whole.config["metric"]).replace("_", " ").capitalize()
    st.caption(
        f"{name}: {whole.clean:.2f} with the subject as it is, {whole.corrupted:.2f} with the "
        "subject lost. An edge's score is its share of that difference."
    )


def _focus(run: str, whole: Circuit) -> str | None:
    """Return the opened node: a new click's, or what the widget says."""
    state = st.session_state
    clicked = node_of(state.get(f"graph {run}"))
    if clicked in whole.nodes and state.get(f"clicked {run}") != clicked:
        state[f"node {run}"] = clicked
    state[f"clicked {run}"] = clicked
    return state.get(f"node {run}", state.get(f"kept node {run}", "")) or None


def _pinned(run: str, whole: Circuit) -> list[str]:
    state = st.session_state
    pinned = state.get(f"pinned {run}", state.get(f"kept pinned {run}", []))
    return [n for n in whole.nodes if n in pinned]


def _node_widgets(run: str, whole: Circuit) -> str:
    """Offer what clicks do: open a node, pin it."""
    state = st.session_state
    for name, default in (("node", ""), ("pinned", [])):
        state.setdefault(f"{name} {run}", state.get(f"kept {name} {run}", default))
    node = st.selectbox("Node", ["", *whole.nodes], format_func=_name, key=f"node {run}")
    if node:
        there = node in state[f"pinned {run}"]
        st.button(
            f"Unpin {_name(node)}" if there else f"Pin {_name(node)}",
            key=f"pin {run}",
            icon=":material/keep_off:" if there else ":material/keep:",
            on_click=_turn,
            args=(run, node),
            help="Pinned nodes stay outlined.",
        )
    pinned = st.multiselect(
        "Pinned", list(whole.nodes), format_func=_name, key=f"pinned {run}", placeholder="none yet"
    )
    state[f"kept node {run}"], state[f"kept pinned {run}"] = node, pinned
    return node


def _turn(run: str, node: str) -> None:
    key = f"pinned {run}"
    now = list(st.session_state.get(key, []))
    st.session_state[key] = [n for n in now if n != node] if node in now else [*now, node]


def _name(node: str) -> str:
    return _ENDS.get(node, node) or "none: click one"


def _edges(circuit: Circuit, node: str, *, inside: bool) -> None:
    if not inside:
        st.caption("This node is on no kept path; these are its edges in the whole model.")
    incoming, outgoing = circuit.edges_of(node)
    for title, edges, end in (("Reads", incoming, "source"), ("Is read by", outgoing, "target")):
        if edges:
            st.markdown(f"**{title}**")
            _edge_table(edges, end)


def _edge_table(edges: tuple[Edge, ...], end: str) -> None:
    table = pd.DataFrame(
        [(_name(getattr(e, end)), e.score, e.stderr) for e in edges],
        columns=["from" if end == "source" else "to", "share", "±"],
    )
    number = st.column_config.NumberColumn
    st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        height=min(35 * len(edges) + 38, 250),
        column_config={
            "share": number(
                format="%.4f", help="Of the whole effect; positive carries the right answer."
            ),
            "±": number(format="%.4f", help="Standard error."),
        },
    )


def _open(look: Look, run: str, node: str) -> None:
    """Show what a node does on the prompt above."""
    component = node_panel.component_of(node)
    tokens = list(range(len(look.lens.tokens)))
    position = st.selectbox(
        f"{node} at token",
        tokens,
        len(tokens) - 1,
        format_func=look.token,
        key=f"node token {run} {look.key}",
        help="Of the prompt chosen on top of this page.",
    )
    key = f"node {run} {node} {position}"
    left, right = node_panel.side_by_side()
    with left:
        node_panel.promoted(look, node, position, key)
    if component.kind == "head":
        with right:
            node_panel.attention(look, component.layer, component.index, key)
    node_panel.add_button(look, node, position, key)
