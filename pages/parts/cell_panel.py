"""Tokens x layers: what each layer would say next, and what lies behind one cell."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from workbench.figures.readings import contribution_bars, lens_grid, neuron_bars
from workbench.figures.tokens import shown
from workbench.localize.logit_lens import LogitLens
from workbench.localize.readings import (
    HeadContributions,
    NeuronContributions,
    head_contributions,
    neuron_contributions,
)

from parts import node_panel, show
from parts.looking import Look, guarded

_BARS = 16  # parts and neurons in one picture
_COLOURS = {"top": "the top token's probability", "target": "the answer's probability"}
_DIRECT = (
    "Direct logit attribution: what a part writes here for the answer's logit against the wrong "
    "answer's (or the mean of all tokens), the final norm's scale held as it is. What later parts "
    "make of it is not counted."
)


@st.fragment
@guarded
def lens_section(look: Look) -> None:
    """Draw the lens and what is behind the chosen cell."""
    st.subheader(
        "Tokens and layers",
        help="Logit lens: the residual stream behind each layer, read as if it were the last's.",
    )
    lens = look.lens
    colour = st.segmented_control(
        "Colour",
        list(_COLOURS),
        default="top",
        format_func=_COLOURS.__getitem__,
        key="lens colour",
        required=True,
    )
    cell = _clicked(look, lens)
    figure = lens_grid(lens, target=colour == "target", chosen=cell)
    show.chart(figure, f"lens {look.key}", _lens_table(lens), select=True)
    layer, position = _widgets(look, lens, cell)
    with st.container(border=True):
        _behind(look, lens, layer, position)


def _clicked(look: Look, lens: LogitLens) -> tuple[int, int]:
    """Return the chosen cell: a new click's, or what the widgets below say."""
    state = st.session_state
    event = state.get(f"lens {look.key}") or {}
    points = (event.get("selection") or {}).get("points") or []
    named = points[0].get("customdata") if points else None
    if named and state.get(f"lens taken {look.key}") != list(named):
        state[f"layer {look.key}"], state[f"position {look.key}"] = int(named[0]), int(named[1])
    state[f"lens taken {look.key}"] = list(named) if named else None
    last = state.get(f"cell {look.key}", (len(lens.top) - 1, len(lens.tokens) - 1))
    return (
        int(state.get(f"layer {look.key}", last[0])),
        int(state.get(f"position {look.key}", last[1])),
    )


def _widgets(look: Look, lens: LogitLens, cell: tuple[int, int]) -> tuple[int, int]:
    """Offer what a click does."""
    for name, value in zip(("layer", "position"), cell, strict=True):
        st.session_state.setdefault(f"{name} {look.key}", value)
    st.caption("Click a cell, or choose it here.")
    left, right = st.columns([1, 2])
    layer = left.selectbox("Layer", list(range(len(lens.top))), key=f"layer {look.key}")
    position = right.selectbox(
        "Token", list(range(len(lens.tokens))), format_func=look.token, key=f"position {look.key}"
    )
    st.session_state[f"cell {look.key}"] = (layer, position)
    return layer, position


def _behind(look: Look, lens: LogitLens, layer: int, position: int) -> None:
    top, more = node_panel.side_by_side()
    with top:
        st.markdown(f"**Layer {layer} would say**")
        table = pd.DataFrame(
            {
                "next token": [shown(t) for t in lens.top[layer][position]],
                "probability": lens.probability[layer, position].tolist(),
            }
        )
        bar = st.column_config.ProgressColumn(min_value=0.0, max_value=1.0, format="%.3f")
        st.dataframe(table, hide_index=True, width="stretch", column_config={"probability": bar})
    with more:
        st.markdown("**The answer here**")
        if lens.target_probability is not None and lens.target_rank is not None:
            one, two = st.columns(2)
            one.metric(
                "Probability",
                show.number(float(lens.target_probability[layer, position])),
                help="Of the answer's first token, read off the stream behind this layer.",
            )
            two.metric(
                "Rank",
                f"{int(lens.target_rank[layer, position]) + 1:,}",
                help="Among all tokens; 1 is the most probable.",
            )
        st.text(f"read behind token {look.token(position)}")
    view = st.segmented_control(
        "Behind this cell", list(_VIEWS), default=next(iter(_VIEWS)), key="cell view", required=True
    )
    _VIEWS[str(view)](look, layer, position)


def contributions_of(look: Look, position: int) -> HeadContributions:
    """Return what each part writes for the answer at a position."""
    asked = look.question
    return look.read(
        ("heads", position),
        lambda m: head_contributions(m, asked.prompt, position, asked.target, asked.foil),
    )


def _attention(look: Look, layer: int, position: int) -> None:
    own = contributions_of(look, position).heads[layer].tolist()
    key = f"{look.key} {layer} {position}"
    head = st.selectbox(
        "Head",
        list(range(len(own))),
        max(range(len(own)), key=lambda h: abs(own[h])),
        format_func=lambda h: f"head.{layer}.{h}: writes {own[h]:+.3f} logits for the answer",
        key=f"head {key}",
        help=_DIRECT,
    )
    left, right = node_panel.side_by_side()
    with left:
        node_panel.attention(look, layer, head, f"cell {key}")
    with right:
        node_panel.promoted(look, f"head.{layer}.{head}", position, f"head {key}")
    node_panel.add_button(look, f"head.{layer}.{head}", position, f"head {key}")


def _parts(look: Look, layer: int, position: int) -> None:
    found = contributions_of(look, position)
    values = {f"mlp.{i}": v for i, v in enumerate(found.mlps.tolist())}
    for i, row in enumerate(found.heads.tolist()):
        values |= {f"head.{i}.{h}": v for h, v in enumerate(row)}
    names = sorted(values, key=lambda n: -abs(values[n]))
    key = f"{look.key} {layer} {position}"
    name = st.selectbox(
        "Head or MLP",
        names,
        names.index(f"mlp.{layer}"),
        format_func=lambda n: f"{n}: writes {values[n]:+.3f} logits for the answer",
        key=f"part {key}",
        help=_DIRECT,
    )
    left, right = node_panel.side_by_side()
    table = pd.DataFrame({"component": names, "logits": [values[n] for n in names]})
    with left:
        show.chart(contribution_bars(found, k=_BARS), f"contributions {key}", table)
    with right:
        node_panel.promoted(look, name, position, f"part {key}")
    node_panel.add_button(look, name, position, f"part {key}")


def _neurons(look: Look, layer: int, position: int) -> None:
    asked = look.question
    found: NeuronContributions = look.read(
        ("neurons", layer, position),
        lambda m: neuron_contributions(
            m, asked.prompt, layer, position, asked.target, asked.foil, k=_BARS
        ),
    )
    key = f"{look.key} {layer} {position}"
    number = st.selectbox(
        "Neuron",
        list(found.top),
        format_func=lambda n: (
            f"neuron.{layer}.{n}: writes {float(found.values[n]):+.3f} logits for the answer"
        ),
        key=f"neuron {key}",
        help=_DIRECT,
    )
    left, right = node_panel.side_by_side()
    every = range(len(found.values))
    table = pd.DataFrame(
        {
            "neuron": [f"neuron.{layer}.{n}" for n in every],
            "logits": found.values.tolist(),
            "activation": found.activations.tolist(),
        }
    )
    with left:
        show.chart(neuron_bars(found), f"neurons {key}", table)
    with right:
        node_panel.promoted(look, f"neuron.{layer}.{number}", position, f"neuron {key}")
    with st.container(horizontal=True):
        node_panel.add_button(look, f"neuron.{layer}.{number}", position, f"neuron {key}")
        node_panel.add_button(look, f"mlp.{layer}", position, f"whole mlp {key}")


def _lens_table(lens: LogitLens) -> pd.DataFrame:
    rows = []
    for layer, cells in enumerate(lens.top):
        for position, tokens in enumerate(cells):
            own = lens.target_probability
            answer = float(own[layer, position]) if own is not None else None
            first = float(lens.probability[layer, position, 0])
            rows.append((layer, position, lens.tokens[position], tokens[0], first, answer))
    columns = ["layer", "position", "token", "top token", "probability", "answer's probability"]
    return pd.DataFrame(rows, columns=columns)


_VIEWS: dict[str, Callable[[Look, int, int], None]] = {
    "Attention": _attention,
    "Heads and MLPs": _parts,
    "Neurons": _neurons,
}
