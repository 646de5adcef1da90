"""Pictures of a study: what is forgotten against what is kept, and how it comes back."""

from __future__ import annotations

import pandas as pd
from plotly import graph_objects as go

from workbench.figures.theme import INK, measure_label, style

# Okabe & Ito's colours, which colour-blind readers can tell apart, and shapes besides.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7a7a")
_SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon")
_FILLS = ("", "-open", "-dot", "-open-dot")
_FAINT = 0.25
_GRID = "rgba(127,127,127,0.25)"


def pareto(table: pd.DataFrame) -> go.Figure:
    """Draw each method and place: forgotten facts still answered against kept ones.

    A method has a colour, a place a shape. An arrow leads from what is left after the edit to what
    the worst attack brings back. Rows that another one beats in both are faint.

    Args:
        table: `StudyResult.table`.
    """
    figure = go.Figure()
    methods, places = (list(dict.fromkeys(table[column])) for column in ("method", "place"))
    for row in table.dropna(subset=["acc_f", "acc_r"]).to_dict("records"):
        i, j = methods.index(row["method"]), places.index(row["place"])
        colour = _COLOURS[i % len(_COLOURS)]
        name = f"{row['method']} at {row['place']}" if row["place"] else str(row["method"])
        known = row["after"] == row["after"]
        faint = known and bool(row["place"]) and not row["front"]
        figure.add_trace(
            go.Scatter(
                x=[row["acc_f"]],
                y=[row["acc_r"]],
                name=name,
                mode="markers",
                opacity=_FAINT if faint else 1.0,
                marker={
                    "color": colour,
                    "symbol": _SHAPES[j % len(_SHAPES)] + _FILLS[i // len(_COLOURS) % len(_FILLS)],
                    "size": 11,
                    "line": {"width": 1, "color": "#ffffff"},
                },
                error_x=_interval(row, "acc_f"),
                error_y=_interval(row, "acc_r"),
                hovertemplate=(
                    f"{name}<br>{measure_label('acc_f')} %{{x:.3f}}<br>"
                    f"{measure_label('acc_r')} %{{y:.3f}}<br>n = {row['seeds']} seeds"
                    + (f"<br>brought back by {row['worst_attack']}: {row['recovered']:.2f}") * known
                    + "<extra></extra>"
                ),
            )
        )
        if known and row["after"] > row["acc_f"]:
            figure.add_annotation(
                x=row["after"],
                y=row["acc_r"],
                ax=row["acc_f"],
                ay=row["acc_r"],
                xref="x",
                yref="y",
                axref="x",
                ayref="y",
                arrowhead=2,
                arrowwidth=1,
                arrowcolor=colour,
                opacity=_FAINT if faint else 0.8,
            )
    figure.update_xaxes(title=measure_label("acc_f"), range=[-0.04, 1.04], gridcolor=_GRID)
    figure.update_yaxes(title=measure_label("acc_r"), gridcolor=_GRID, automargin=True)
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
