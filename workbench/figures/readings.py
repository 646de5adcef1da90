"""What one prompt's activations say: attention of a head, who writes which token, the lens."""

from __future__ import annotations

from collections.abc import Sequence

from plotly import graph_objects as go

from workbench.errors import WorkbenchError
from workbench.figures.theme import DIVERGING, INK, colour_of, style
from workbench.figures.tokens import numbered, visible
from workbench.localize.logit_lens import LogitLens
from workbench.localize.readings import (
    AttentionPatterns,
    HeadContributions,
    NeuronContributions,
    PromotedTokens,
)

_ROW, _WIDTH = 26, 450  # pixels of a row, and of a chart on a small screen
_LENS_ROW, _LENS_FONT = 34, 9  # pixels of a layer, and of its words
_SHARE = [(i / 2, colour) for i, colour in enumerate(DIVERGING[2:])]  # 0 to 1


def attention_heatmap(patterns: AttentionPatterns, layer: int, head: int) -> go.Figure:
    """Draw one head's attention: from each token (row) to each token before it (column).

    Raises:
        WorkbenchError: there is no such head.
    """
    n_layers, n_heads, length, _ = patterns.pattern.shape
    if not (0 <= layer < n_layers and 0 <= head < n_heads):
        raise WorkbenchError(
            f"There is no head {head} in layer {layer}; layers go from 0 to {n_layers - 1} and "
            f"heads from 0 to {n_heads - 1}."
        )
    names, pattern = numbered(patterns.tokens), patterns.pattern[layer, head].tolist()
    # What lies behind a token it cannot see: left blank, which is not the same as 0.
    seen = [[v if k <= q else None for k, v in enumerate(row)] for q, row in enumerate(pattern)]
    figure = go.Figure(
        go.Heatmap(
            z=seen,
            x=list(range(length)),
            y=list(range(length)),
            customdata=[[[names[q], names[k]] for k in range(length)] for q in range(length)],
            hovertemplate=(
                "%{customdata[0]}<br>attends to %{customdata[1]}<br><b>%{z:.4f}</b><extra></extra>"
            ),
            hoverongaps=False,
            colorscale=_SHARE,
            zmin=0,
            zmax=1,
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": "share"}, "thickness": 12, "outlinewidth": 0},
        )
    )
    ticks = {"tickvals": list(range(length)), "ticktext": names, "showgrid": False}
    figure.update_xaxes(
        **ticks, tickangle=-45, zeroline=False, automargin=True, title_text="attended to"
    )
    figure.update_yaxes(**ticks, autorange="reversed", zeroline=False, automargin=True)
    title = f"Attention of head.{layer}.{head}"
    return style(figure, title=title, height=220 + _ROW * length)


def contribution_bars(contributions: HeadContributions, *, k: int = 20) -> go.Figure:
    """Draw what the k most contributing heads, MLPs and biases write for the target, in logits."""
    values = {"embed": contributions.embedding}
    for layer, heads in enumerate(contributions.heads.tolist()):
        values |= {f"head.{layer}.{h}": value for h, value in enumerate(heads)}
        values[f"bias of attn.{layer}"] = float(contributions.biases[layer])
        values[f"mlp.{layer}"] = float(contributions.mlps[layer])
    best = sorted(values, key=lambda name: -abs(values[name]))[:k]
    best = [name for name in best if values[name] != 0]
    place = numbered(contributions.tokens)[contributions.position]
    towards = _towards(contributions.target, contributions.foil)
    title = f"Written by heads and MLPs<br><sup>{towards}, at token {place}</sup>"
    return _bars(best, [values[n] for n in best], title, "logits")


def neuron_bars(contributions: NeuronContributions) -> go.Figure:
    """Draw what the most contributing neurons of an MLP write for the target, in logits."""
    names = [f"neuron.{contributions.layer}.{n}" for n in contributions.top]
    values = contributions.values[list(contributions.top)].tolist()
    more = [f"activation {float(contributions.activations[n]):.4f}" for n in contributions.top]
    place = numbered(contributions.tokens)[contributions.position]
    towards = _towards(contributions.target, contributions.foil)
    title = f"Neurons of mlp.{contributions.layer}<br><sup>{towards}, at token {place}</sup>"
    return _bars(names, values, title, "logits", more)


def promoted_bars(promoted: PromotedTokens) -> go.Figure:
    """Draw the tokens that a component raises most, and below them those it lowers most."""
    lowered = list(zip(promoted.bottom, promoted.lowered.tolist(), strict=True))[::-1]
    both = [*zip(promoted.top, promoted.raised.tolist(), strict=True), *lowered]
    place = numbered(promoted.tokens)[promoted.position]
    title = f"{promoted.component} raises and lowers<br><sup>at token {place}</sup>"
    return _bars([visible(t) for t, _ in both], [v for _, v in both], title, "logits")


def _towards(target: str, foil: str | None) -> str:
    against = "the mean token" if foil is None else visible(foil)
    return f"for {visible(target)} against {against}"


def _bars(
    names: Sequence[str],
    values: Sequence[float],
    title: str,
    unit: str,
    more: Sequence[str] | None = None,
) -> go.Figure:
    """Draw signed bars, first one on top; names may repeat."""
    limit = max(map(abs, values), default=1.0) or 1.0
    extra = more or [""] * len(names)
    figure = go.Figure(
        go.Bar(
            x=list(values),
            y=list(range(len(names))),
            orientation="h",
            marker={
                "color": [colour_of(v, limit) for v in values],
                "line": {"width": 1, "color": "rgba(127,127,127,0.5)"},
            },
            customdata=[[name, text] for name, text in zip(names, extra, strict=True)],
            hovertemplate="%{customdata[0]}<br><b>%{x:.4f}</b> %{customdata[1]}<extra></extra>",
        )
    )
    figure.update_xaxes(
        title_text=unit,
        range=[-1.08 * limit, 1.08 * limit],
        zeroline=True,
        zerolinecolor=INK,
        gridcolor="rgba(127,127,127,0.25)",
        automargin=True,
    )
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=list(names),
        autorange="reversed",
        showgrid=False,
        zeroline=False,
        automargin=True,
    )
    return style(figure, title=title, height=150 + _ROW * max(len(names), 1))


def lens_grid(
    lens: LogitLens, *, target: bool = False, chosen: tuple[int, int] | None = None
) -> go.Figure:
    """Draw each layer's most probable next token behind each token, in markers that can be clicked.

    Each marker's `customdata` is [layer, position].

    Args:
        lens: what to draw.
        target: colour by the target's probability instead of the top token's.
        chosen: layer and position of a cell to outline.

    Raises:
        WorkbenchError: the lens was made without a target.
    """
    if target and (lens.target_probability is None or lens.target_rank is None):
        raise WorkbenchError("This lens was read without a target; give one to colour by it.")
    coloured = lens.target_probability if target else lens.probability[..., 0]
    assert coloured is not None
    layers, length = len(lens.top), len(lens.tokens)
    cells = [(layer, position) for layer in range(layers) for position in range(length)]
    shade = [float(coloured[cell]) for cell in cells]
    letters = int(_WIDTH / max(length, 1) / (0.58 * _LENS_FONT))
    # The heatmap fits its cells to the page; what can be clicked are the unseen markers on it.
    figure = go.Figure(
        [
            go.Heatmap(
                z=coloured.tolist(),
                text=_lens_texts(lens, letters),
                texttemplate="%{text}" if letters > 2 else None,
                textfont={"size": _LENS_FONT},
                colorscale=_SHARE,
                zmin=0,
                zmax=1,
                xgap=2,
                ygap=2,
                hoverinfo="skip",
                colorbar={"title": {"text": "p"}, "thickness": 12, "outlinewidth": 0},
            ),
            go.Scatter(
                x=[position for _, position in cells],
                y=[layer for layer, _ in cells],
                mode="markers",
                marker={
                    "symbol": "square",
                    "size": max(8.0, min(40.0, 0.9 * _WIDTH / max(length, 1))),
                    "color": shade,
                    "opacity": 0,
                },
                customdata=[list(cell) for cell in cells],
                hovertext=[_lens_tip(lens, la, p) for la, p in cells],
                hovertemplate="%{hovertext}<extra></extra>",
                selected={"marker": {"opacity": 0}},
                unselected={"marker": {"opacity": 0}},
            ),
        ]
    )
    if chosen is not None:
        layer, position = chosen
        figure.add_shape(
            type="rect",
            x0=position - 0.5,
            x1=position + 0.5,
            y0=layer - 0.5,
            y1=layer + 0.5,
            line={"width": 3, "color": DIVERGING[0]},
        )
    figure.update_xaxes(
        tickvals=list(range(length)),
        ticktext=numbered(lens.tokens),
        tickangle=-45,
        showgrid=False,
        zeroline=False,
        automargin=True,
    )
    figure.update_yaxes(
        tickvals=list(range(layers)),
        ticktext=[f"layer {i}" for i in range(layers)],
        showgrid=False,
        zeroline=False,
        automargin=True,
    )
    figure.update_layout(showlegend=False)
    title = "What each layer would say next (logit lens)"
    return style(figure, title=title, height=round(200 + _LENS_ROW * layers))


def _lens_texts(lens: LogitLens, letters: int) -> list[list[str]]:
    best = [[tokens[0] for tokens in layer] for layer in lens.top]
    return [[visible(t.strip() or t, width=letters) for t in layer] for layer in best]


def _lens_tip(lens: LogitLens, layer: int, position: int) -> str:
    lines = [f"layer {layer}, behind {numbered(lens.tokens)[position]}"]
    pairs = zip(lens.top[layer][position], lens.probability[layer, position].tolist(), strict=True)
    lines += [f"{visible(token)} {p:.4f}" for token, p in pairs]
    if lens.target_probability is not None and lens.target_rank is not None:
        at = layer, position
        rank = int(lens.target_rank[at]) + 1
        lines.append(f"target {float(lens.target_probability[at]):.4f}, rank {rank}")
    return "<br>".join(lines)
