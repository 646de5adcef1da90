"""The measures of a model before and after an edit, side by side, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

from plotly import graph_objects as go

from workbench.figures.theme import BASE_COLOUR, EDITED_COLOUR, INK, measure_label, style
from workbench.measure.scorecard import Scorecard

SHOWN = (
    *("acc_f", "paraphrase_f", "statement_f", "held_out_f", "mcq_f", "refusal_f", "replaced_f"),
    *("acc_r", "paraphrase_r", "statement_r", "mcq_r", "refusal_r", "neighborhood"),
    *("everyday", "refusal_everyday"),
)


def scorecard_bars(
    before: Scorecard, after: Scorecard, *, measures: Sequence[str] = SHOWN
) -> go.Figure:
    """Draw one pair of bars a measure with 95 % intervals; unmeasured ones are left out."""
    shown = [m for m in measures if before.scores.get(m) and after.scores.get(m)]
    figure = go.Figure(
        [
            _bars(before, shown, "before", BASE_COLOUR),
            _bars(after, shown, "after", EDITED_COLOUR),
        ]
    )
    figure.update_xaxes(
        range=[0, 1.02], tickformat=".0%", gridcolor="rgba(127,127,127,0.25)", automargin=True
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    style(figure, title="Before and after, with 95 % intervals", height=140 + 40 * len(shown))
    return figure.update_layout(
        barmode="group",
        bargap=0.3,
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
    )


def _bars(card: Scorecard, shown: Sequence[str], name: str, colour: str) -> go.Bar:
    scores = [s for m in shown if (s := card.scores[m])]
    return go.Bar(
        y=[measure_label(m) for m in shown],
        x=[s.value for s in scores],
        name=name,
        orientation="h",
        marker={"color": colour},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [max(s.high - s.value, 0) for s in scores],
            "arrayminus": [max(s.value - s.low, 0) for s in scores],
            "color": INK,
            "thickness": 1.2,
            "width": 3,
        },
        customdata=[[s.n, s.low, s.high] for s in scores],
        hovertemplate=(
            "%{y}, " + name + "<br><b>%{x:.3f}</b>, 95 % interval %{customdata[1]:.3f} to "
            "%{customdata[2]:.3f}, n = %{customdata[0]}<extra></extra>"
        ),
    )
