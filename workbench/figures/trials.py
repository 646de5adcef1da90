"""What many repairs in a row leave: a curve for everything that should stay, one for what goes."""

from __future__ import annotations

import pandas as pd
from plotly import graph_objects as go

from workbench.figures.theme import BASE_COLOUR, EDITED_COLOUR, INK, style

_LINES = (
    ("not_named", "everything not named", BASE_COLOUR, "solid"),
    ("held_back", "held back for measuring", BASE_COLOUR, "dot"),
    ("beside", "the same subjects' other facts", BASE_COLOUR, "dash"),
    ("forgotten", "what was to be forgotten", EDITED_COLOUR, "solid"),
)


def trial_curves(table: pd.DataFrame, *, allowed: float = 0.02) -> go.Figure:
    """Draw the share still answered over the number of repairs in force.

    Args:
        table: `Trial.table`.
        allowed: the loss that may be, drawn as a line.
    """
    figure = go.Figure(
        [
            go.Scatter(
                x=table["repairs"],
                y=table[column],
                name=name,
                mode="lines+markers",
                line={"color": colour, "dash": dash},
                hovertemplate=f"%{{x}} repairs<br>{name}: %{{y:.3f}}<extra></extra>",
            )
            for column, name, colour, dash in _LINES
            if table[column].notna().any()
        ]
    )
    figure.add_hline(y=1 - allowed, line={"color": INK, "dash": "dot", "width": 1})
    figure.update_xaxes(title="Repairs in force", rangemode="tozero")
    figure.update_yaxes(title="Share still answered", range=[-0.03, 1.03])
    style(figure, title="What many repairs leave", height=420)
    return figure.update_layout(legend={"orientation": "h", "y": -0.25})
