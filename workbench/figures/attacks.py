"""What attacks bring back: one bar an attack, with the oracle's beside it."""

from __future__ import annotations

import pandas as pd
from plotly import graph_objects as go

from workbench.figures.theme import BASE_COLOUR, EDITED_COLOUR, INK, style


def recovered_bars(table: pd.DataFrame, *, allowed: float) -> go.Figure:
    """Draw each attack's worst recovery; what was not measured is left out.

    Args:
        table: `Robustness.table`.
        allowed: the share that may come back, drawn as a line.
    """
    shown = table[table["recovered"].notna()]
    names = [_label(row) for row in shown.to_dict("records")]
    bars = [
        go.Bar(
            y=names,
            x=shown[column],
            name=name,
            orientation="h",
            marker={"color": colour},
            customdata=shown[["setting", "value", "before", "base", "n"]],
            hovertemplate=(
                "%{y}<br>worst setting: %{customdata[0]}<br>"
                "brought back: %{x:.3f}<br>attacked %{customdata[1]:.3f}, before "
                "%{customdata[2]:.3f}, base %{customdata[3]:.3f}<br>n = %{customdata[4]:.0f}"
                "<extra></extra>"
            ),
        )
        for column, name, colour in (
            ("oracle_worst", "oracle, which never knew", BASE_COLOUR),
            ("recovered", "edited model", EDITED_COLOUR),
        )
        if shown[column].notna().any()
    ]
    figure = go.Figure(bars)
    figure.add_vline(x=allowed, line={"color": INK, "dash": "dot"})
    figure.update_xaxes(
        title="Share of what was removed", tickformat=".0%", gridcolor="rgba(127,127,127,0.25)"
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    style(figure, title="What comes back", height=190 + 46 * len(shown))
    return figure.update_layout(
        barmode="group",
        margin={"l": 8, "r": 8, "t": 72, "b": 48},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
    )


def _label(row: dict) -> str:
    name = str(row["attack"]).replace("_", " ")
    return f"{name} (needs the base)" if row["diagnostic"] else name
