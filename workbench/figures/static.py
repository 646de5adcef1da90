"""The trace heatmaps as one small SVG, without a script: for a README, a report, a paper.

The picture follows the reader's light or dark setting; every cell carries its number as a title.
"""

from __future__ import annotations

import math
from html import escape

from workbench.figures.grids import Grid, common_limit, grids_of
from workbench.figures.theme import DIVERGING, colour_of, kind_label, method_label
from workbench.localize.localization import Localization

_CELL_HEIGHT, _TOP, _BOTTOM, _GAP = 26, 62, 44, 22
_CHARACTER = 7.0  # width of one character of a 12-pixel label, generously
_STYLE = (
    "text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#3a4150}"
    ".t{font-size:15px;font-weight:600}.p{font-weight:600}.s{font-size:11px}"
    "@media(prefers-color-scheme:dark){text{fill:#c9d1d9}}"
)


def trace_svg(
    localization: Localization,
    *,
    title: str | None = None,
    width: int = 980,
    limit: float | None = None,
) -> str:
    """Draw the panels of a localization side by side.

    Args:
        localization: what to draw.
        title: heading; default the method and the number of facts.
        width: of the picture in pixels.
        limit: end of the colour scale, to share it with another picture.
    """
    grids = grids_of(localization)
    end = limit or common_limit(grids)
    left = 16 + _CHARACTER * max(len(row) for row in grids[0].rows)
    panel = (width - left - 92 - _GAP * (len(grids) - 1)) / len(grids)
    height = _TOP + _CELL_HEIGHT * max(len(g.rows) for g in grids) + _BOTTOM
    n = localization.n_facts
    heading = title or f"{method_label(localization.method)} over {n} fact{'s' if n > 1 else ''}"
    parts = [_text(8, 22, heading, "t"), *_row_labels(grids[0], left)]
    for i, grid in enumerate(grids):
        parts += _panel(grid, left + i * (panel + _GAP), panel, end)
    parts += _colour_bar(width - 68, _TOP, height - _TOP - _BOTTOM, end)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'role="img" aria-label="{escape(heading)}"><style>{_STYLE}</style>'
        f"{''.join(parts)}</svg>\n"
    )


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _row_labels(grid: Grid, left: float) -> list[str]:
    middle = _TOP + _CELL_HEIGHT / 2 + 4
    return [
        _text(left - 8, middle + i * _CELL_HEIGHT, row, "", "end")
        for i, row in enumerate(grid.rows)
    ]


def _panel(grid: Grid, x: float, width: float, limit: float) -> list[str]:
    cell = width / len(grid.layers)
    parts = [_text(x, _TOP - 10, kind_label(grid.kind), "p")]
    for i, row in enumerate(grid.rows):
        for j, layer in enumerate(grid.layers):
            value, error = float(grid.score[i, j]), float(grid.stderr[i, j])
            if math.isnan(value):
                continue
            tip = f"{kind_label(grid.kind)}, layer {layer}, {row}: {value:.3f} ± {error:.3f}"
            parts.append(
                f'<rect x="{x + j * cell:.2f}" y="{_TOP + i * _CELL_HEIGHT}" '
                f'width="{cell - 1:.2f}" height="{_CELL_HEIGHT - 1}" rx="2" '
                f'fill="{colour_of(value, limit)}"><title>{escape(tip)}</title></rect>'
            )
    bottom = _TOP + len(grid.rows) * _CELL_HEIGHT
    step = max(1, math.ceil(len(grid.layers) * 18 / width))
    for j, layer in enumerate(grid.layers):
        if j % step == 0:
            parts.append(_text(x + (j + 0.5) * cell, bottom + 15, str(layer), "s", "middle"))
    return [*parts, _text(x + width / 2, bottom + 32, "layer", "s", "middle")]


def _colour_bar(x: float, y: float, height: float, limit: float) -> list[str]:
    last = len(DIVERGING) - 1
    stops = "".join(
        f'<stop offset="{i / last}" stop-color="{c}"/>' for i, c in enumerate(reversed(DIVERGING))
    )
    marks = ((limit, y + 9), (0.0, y + height / 2 + 4), (-limit, y + height))
    return [
        f'<defs><linearGradient id="scale" x1="0" y1="0" x2="0" y2="1">{stops}</linearGradient>'
        f'</defs><rect x="{x}" y="{y}" width="12" height="{height}" rx="2" fill="url(#scale)"/>',
        *(_text(x + 18, at, f"{value:+.2f}" if value else "0", "s") for value, at in marks),
    ]
