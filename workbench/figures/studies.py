"""Pictures of a study: what is forgotten against what is kept, and how it comes back."""

from __future__ import annotations

import pandas as pd
from plotly import graph_objects as go

from workbench.figures.theme import INK, measure_label, style

# Okabe & Ito's colours, which colour-blind readers can tell apart, and shapes besides.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7a7a")
_SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon")
_FILLS = ("", "-open", "-dot", "-open-dot")
_GRID = "rgba(127,127,127,0.25)"


def pareto(table: pd.DataFrame, *, forget: str = "acc_f", retain: str = "acc_r") -> go.Figure:
    """Draw each method and place: forgotten facts still answered against kept ones.

    A method has a colour, a place a shape. An arrow leads from what is left after the edit to what
    the worst attack brings back, measured in what the base answers.

    Args:
        table: `StudyResult.table`.
        forget: measure across; smaller is better.
        retain: measure upwards; larger is better.
    """
    figure = go.Figure()
    methods, places = (list(dict.fromkeys(table[column])) for column in ("method", "place"))
    of_base = table.loc[table["method"] == "base", forget].dropna().tolist()
    whole = of_base[0] if of_base else 1.0
    for row in table.to_dict("records"):
        if row[forget] != row[forget] or row[retain] != row[retain]:
            continue  # nothing was measured
        i, j = methods.index(row["method"]), places.index(row["place"])
        colour = _COLOURS[i % len(_COLOURS)]
        name = f"{row['method']} at {row['place']}" if row["place"] else str(row["method"])
        known = row["recovered"] == row["recovered"]
        back = (whole - row[forget]) * row["recovered"] if known else 0.0
        figure.add_trace(
            go.Scatter(
                x=[row[forget]],
                y=[row[retain]],
                name=name,
                mode="markers",
                marker={
                    "color": colour,
                    "symbol": _SHAPES[j % len(_SHAPES)] + _FILLS[i // len(_COLOURS) % len(_FILLS)],
                    "size": 11,
                    "line": {"width": 1, "color": "#ffffff"},
                },
                error_x=_interval(row, forget),
                error_y=_interval(row, retain),
                hovertemplate=(
                    f"{name}<br>{measure_label(forget)} %{{x:.3f}}<br>"
                    f"{measure_label(retain)} %{{y:.3f}}<br>n = {row['seeds']} seeds"
                    + (f"<br>brought back by {row['worst_attack']}: {row['recovered']:.2f}") * known
                    + "<extra></extra>"
                ),
            )
        )
        if back > 0:
            figure.add_annotation(
                x=row[forget] + back,
                y=row[retain],
                ax=row[forget],
                ay=row[retain],
                xref="x",
                yref="y",
                axref="x",
                ayref="y",
                arrowhead=2,
                arrowwidth=1,
                arrowcolor=colour,
                opacity=0.6,
            )
    figure.update_xaxes(title=measure_label(forget), range=[-0.04, 1.04], gridcolor=_GRID)
    figure.update_yaxes(title=measure_label(retain), gridcolor=_GRID, automargin=True)
    style(figure, title="Forgotten against kept; arrows: after the worst attack", height=620)
    return figure.update_layout(margin={"l": 8, "r": 8, "t": 72, "b": 48})


def curves(lines: pd.DataFrame, *, attack: str, across: str) -> go.Figure:
    """Draw the accuracy under an attack along one of its settings; base and oracle dashed.

    Args:
        lines: `compare.table.along`: method, place, at, value, low, high.
        attack: its name.
        across: the setting drawn along.
    """
    figure = go.Figure()
    for i, ((method, where), part) in enumerate(lines.groupby(["method", "place"], sort=False)):
        name = f"{method} at {where}" if where else str(method)
        figure.add_trace(
            go.Scatter(
                x=part["at"],
                y=part["value"],
                name=name,
                mode="lines+markers",
                line={
                    "color": _COLOURS[i % len(_COLOURS)],
                    "dash": "solid" if where else "dash",
                },
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": part["high"] - part["value"],
                    "arrayminus": part["value"] - part["low"],
                    "width": 3,
                    "thickness": 1,
                },
                hovertemplate=f"{name}<br>{across} %{{x}}: %{{y:.3f}}<extra></extra>",
            )
        )
    figure.update_xaxes(title=across, gridcolor=_GRID)
    figure.update_yaxes(title="Accuracy on forgotten facts", range=[-0.02, 1.02], gridcolor=_GRID)
    style(figure, title=f"Under the attack {attack}; bars: smallest and largest seed", height=480)
    return figure.update_layout(margin={"l": 8, "r": 8, "t": 72, "b": 48})


def _interval(row: dict, measure: str) -> dict:
    low, high = row[f"{measure}_low"], row[f"{measure}_high"]
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(high - row[measure], 0)],
        "arrayminus": [max(row[measure] - low, 0)],
        "color": INK,
        "thickness": 1,
        "width": 3,
    }
