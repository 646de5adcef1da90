"""A localization laid over the picture of its fact: which patches the answer passes through."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.theme import INK, effect_axis, kind_label, style
from workbench.localize.localization import Localization
from workbench.localize.patch_grid import patch_grid

_ACROSS = 7  # panels in a row
_PANEL = 150  # pixels
_CLEAR = 0.62  # of the cells, so that the picture shows through


def portrait_panels(
    localization: Localization,
    kind: str,
    picture: UInt8[np.ndarray, "height width 3"] | None = None,
    *,
    limit: float | None = None,
) -> go.Figure:
    """Draw the scores of a picture's patches over the picture, layer by layer.

    Args:
        localization: of a single fact with an image.
        kind: resid, mlp, attn or head, whose heads are summed.
        picture: what the vision tower saw, drawn first and behind every layer; None for the scores
            alone.
        limit: end of the colour scale, to share it with another figure.

    Raises:
        WorkbenchError: the localization is of several facts or of one without an image, or lacks
            the kind.
    """
    scores = patch_grid(localization, kind)
    errors = patch_grid(localization, kind, value="stderr")
    layers = [f"layer {layer}" for layer in localization.grid(kind).index]
    titles = [*(["picture"] if picture is not None else []), *layers]
    across = min(len(titles), _ACROSS)
    down = -(-len(titles) // across)
    figure = make_subplots(
        rows=down,
        cols=across,
        subplot_titles=titles,
        horizontal_spacing=0.012,
        vertical_spacing=0.25 / down,
    )
    figure.update_annotations(font={"size": 12, "color": INK})
    height, width = scores.shape[1:]
    places = [(i // across + 1, i % across + 1) for i in range(len(titles))]
    cells = places[-len(layers) :]
    behind = None
    if picture is not None:
        figure.add_trace(_placed(picture, height, width), row=1, col=1)
        behind = _placed(_faint(picture), height, width)  # made once, for every layer
    for (row, column), score, error in zip(cells, scores, errors, strict=True):
        if behind is not None:
            figure.add_trace(behind, row=row, col=column)
        figure.add_trace(
            go.Heatmap(
                z=score,
                customdata=np.nan_to_num(error),
                coloraxis="coloraxis",
                opacity=1.0 if behind is None else _CLEAR,
                xgap=1,
                ygap=1,
                hovertemplate=(
                    "patch in row %{y}, column %{x}<br><b>%{z:.3f}</b> ± %{customdata:.3f} "
                    "(standard error)<extra></extra>"
                ),
            ),
            row=row,
            col=column,
        )
    hidden = {"showgrid": False, "zeroline": False, "showticklabels": False, "ticks": ""}
    figure.update_xaxes(**hidden, range=[-0.5, width - 0.5], constrain="domain")
    figure.update_yaxes(**hidden, range=[height - 0.5, -0.5], constrain="domain")
    for i in range(1, len(titles) + 1):
        number = "" if i == 1 else str(i)
        figure.update_layout({f"yaxis{number}": {"scaleanchor": f"x{number}"}})
    end = limit or max(float(np.nanmax(np.abs(scores))), 1e-12)
    figure.update_layout(coloraxis=effect_axis(end))
    title = f"{kind_label(kind)}, patch by patch"
    return style(figure, title=title, height=100 + (_PANEL + 30) * down)


def _faint(picture: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    """Take a picture's colors away, which would mix with those of the scores, and lighten it."""
    gray = np.asarray(Image.fromarray(picture).convert("L"), dtype=np.float32)
    return np.repeat((255 - 0.6 * (255 - gray)).astype(np.uint8)[..., None], 3, -1)


def _placed(picture: UInt8[np.ndarray, "height width 3"], rows: int, columns: int) -> go.Image:
    """Lay a picture out over a grid of patches that are one unit wide each."""
    high, wide = picture.shape[:2]
    dx, dy = columns / wide, rows / high
    file = BytesIO()
    Image.fromarray(picture).save(file, "png")
    source = f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
    place = {"x0": -0.5 + dx / 2, "y0": -0.5 + dy / 2, "dx": dx, "dy": dy}
    return go.Image(source=source, **place, hoverinfo="skip")
