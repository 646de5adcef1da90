"""Draw shapes twice as large as the finished picture, which smooths the edges.

Coordinates are pixels of the finished picture.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw

SIDE, FINE = 64, 2
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Pen:
    """Draws at the fine size in pixels of the finished picture."""

    draw: ImageDraw.ImageDraw

    def oval(self, x: float, y: float, rx: float, ry: float, color: Color) -> None:
        """Fill an ellipse around a point."""
        self.draw.ellipse(_fine(x - rx, y - ry, x + rx, y + ry), fill=color)

    def box(self, x0: float, y0: float, x1: float, y1: float, color: Color, r: float = 0) -> None:
        """Fill a rectangle, perhaps with round corners."""
        self.draw.rounded_rectangle(_fine(x0, y0, x1, y1), r * FINE, fill=color)

    def ring(self, x: float, y: float, rx: float, ry: float, color: Color, width: float) -> None:
        """Draw the outline of an ellipse."""
        box = _fine(x - rx, y - ry, x + rx, y + ry)
        self.draw.ellipse(box, outline=color, width=round(width * FINE))

    def frame(self, x: float, y: float, rx: float, ry: float, color: Color, width: float) -> None:
        """Draw the outline of a rectangle around a point."""
        box = _fine(x - rx, y - ry, x + rx, y + ry)
        self.draw.rectangle(box, outline=color, width=round(width * FINE))

    def line(self, points: tuple[float, ...], color: Color, width: float) -> None:
        """Draw a line."""
        self.draw.line(_fine(*points), fill=color, width=round(width * FINE), joint="curve")

    def shape(self, points: tuple[float, ...], color: Color) -> None:
        """Fill a polygon."""
        self.draw.polygon(_fine(*points), fill=color)

    def arc(
        self, box: tuple[float, ...], start: float, end: float, color: Color, width: float
    ) -> None:
        """Draw a part of an ellipse's outline, angles in degrees clockwise from the right."""
        self.draw.arc(_fine(*box), start, end, fill=color, width=round(width * FINE))

    def piece(self, box: tuple[float, ...], start: float, end: float, color: Color) -> None:
        """Fill the part of an ellipse behind a straight cut."""
        self.draw.chord(_fine(*box), start, end, fill=color)


def _fine(*values: float) -> list[float]:
    return [v * FINE for v in values]


def toned(color: Color, by: float) -> Color:
    """Return a darker or brighter color."""
    return tuple(min(int(c * by), 255) for c in color)  # type: ignore[return-value]


def paper(color: Color, *, clear: bool = False) -> Image.Image:
    """Return an empty picture at the fine size: RGB, or RGBA of which nothing is seen."""
    size = (SIDE * FINE, SIDE * FINE)
    return Image.new("RGBA", size, (*color, 0)) if clear else Image.new("RGB", size, color)


def pen_on(image: Image.Image) -> Pen:
    """Return the pen that draws on a picture."""
    return Pen(ImageDraw.Draw(image))
