"""Fact-lookup probes as curves, and the logit lens as a table."""

from __future__ import annotations

from plotly import graph_objects as go

from workbench.figures.theme import BASE_COLOUR, DIVERGING, EDITED_COLOUR, INK, style
from workbench.localize.fact_lookup import FactLookup
from workbench.localize.logit_lens import LogitLens


def lookup_curves(lookup: FactLookup) -> go.Figure:
    """Draw probe accuracy by layer: intact, attention ablated from there on, MLPs ablated.

    The layers that look the fact up are shaded: there only MLP ablation destroys the probe.
    """
    curves = (
        ("nothing ablated, read here", lookup.accuracy, INK, "dot"),
        ("attention ablated from here on", lookup.attn_ablated, BASE_COLOUR, "solid"),
        ("MLPs ablated from here on", lookup.mlp_ablated, EDITED_COLOUR, "solid"),
    )
    figure = go.Figure(
        [
            go.Scatter(
                x=list(range(len(values))),
                y=list(values),
                name=name,
                mode="lines+markers",
                line={"color": colour, "dash": dash},
                hovertemplate=f"layer %{{x}}, {name}<br><b>%{{y:.3f}}</b><extra></extra>",
            )
            for name, values, colour, dash in curves
        ]
    )
    for layer in lookup.layers:
        figure.add_vrect(
            x0=layer - 0.5, x1=layer + 0.5, fillcolor=EDITED_COLOUR, opacity=0.12, line_width=0
        )
    figure.add_hline(y=lookup.chance, line={"color": INK, "width": 1, "dash": "dash"})
    figure.update_xaxes(title_text="layer", dtick=1, showgrid=False)
    figure.update_yaxes(
        title_text="probe accuracy", range=[0, 1.03], gridcolor="rgba(127,127,127,0.25)"
    )
    title = "Where the answer becomes readable at the subject's last token (dashed: chance)"
    style(figure, title=title, height=400)
    return figure.update_layout(legend={"orientation": "h", "y": -0.2})


def lens_table(lens: LogitLens) -> go.Figure:
    """Draw each layer's most probable next token at each position; colour is its probability.

    Hover lists the runners-up.
    """
    layers, positions = len(lens.top), len(lens.tokens)
    names = [f"{i} {_shown(token)}" for i, token in enumerate(lens.tokens)]
    best = [[_shown(lens.top[la][p][0]) for p in range(positions)] for la in range(layers)]
    tips = [[_tip(lens, la, p) for p in range(positions)] for la in range(layers)]
    figure = go.Figure(
        go.Heatmap(
            z=lens.probability[..., 0].tolist(),
            x=names,
            y=[f"layer {la}" for la in range(layers)],
            text=best,
            texttemplate="%{text}",
            customdata=tips,
            hovertemplate="%{y}, behind %{x}<br>%{customdata}<extra></extra>",
            colorscale=[[i / 2, colour] for i, colour in enumerate(DIVERGING[2:])],
            zmin=0,
            zmax=1,
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": "probability"}, "thickness": 12, "outlinewidth": 0},
        )
    )
    figure.update_xaxes(type="category", tickangle=-45, showgrid=False)
    figure.update_yaxes(type="category", showgrid=False)
    title = "What each layer would say next (logit lens)"
    return style(figure, title=title, height=190 + 30 * layers)


def _tip(lens: LogitLens, layer: int, position: int) -> str:
    pairs = zip(lens.top[layer][position], lens.probability[layer, position].tolist(), strict=True)
    return "<br>".join(f"{_escaped(_shown(t))} {p:.3f}" for t, p in pairs)


def _shown(token: str) -> str:
    """Make white space visible."""
    return token.replace("\n", "⏎").strip() or "␣"


def _escaped(text: str) -> str:
    """Keep Plotly from reading a token as markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
