"""Draw scenes for plain questions about what is seen: some equal shapes of one color.

Scenes have the size of portraits and say nothing about anybody.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image

from workbench.demo_vision.pen import FINE, SIDE, Color, Pen, paper, pen_on
from workbench.demo_vision.portraits import lit

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLORS: dict[str, Color] = {
    "red": (214, 40, 44),
    "blue": (40, 80, 210),
    "green": (40, 150, 70),
    "yellow": (244, 206, 40),
    "purple": (136, 60, 170),
    "orange": (240, 130, 30),
    "black": (24, 24, 28),
    "white": (252, 252, 252),
}
COUNTS = ("one", "two", "three", "four", "five")
SCENES: dict[str, tuple[str, ...]] = {"color": tuple(COLORS), "form": SHAPES, "count": COUNTS}
_PAPERS: tuple[Color, ...] = (
    (176, 200, 214),
    (206, 190, 170),
    (190, 206, 186),
    (200, 186, 206),
    (172, 172, 178),
)
_CELLS, _MARGIN, _GAP = 3, 2, 1.5


@dataclass(frozen=True)
class Scene:
    """What is shown: so many of a shape in a color."""

    color: str
    form: str
    count: str

    def labels(self) -> dict[str, int]:
        """Return the number of each value's option."""
        return {name: options.index(getattr(self, name)) for name, options in SCENES.items()}


def draw_scene(rng: random.Random) -> Scene:
    """Draw what to show."""
    return Scene(**{name: rng.choice(options) for name, options in SCENES.items()})


def scene_picture(scene: Scene, rng: random.Random) -> Image.Image:
    """Draw a scene, its places, sizes and light at random; RGB, 64 x 64 pixels."""
    image = paper(rng.choice(_PAPERS))
    pen, cell = pen_on(image), (SIDE - 2 * _MARGIN) / _CELLS
    for place in rng.sample(range(_CELLS**2), COUNTS.index(scene.count) + 1):
        r = rng.uniform(6, 7.8)
        row, column = divmod(place, _CELLS)
        x, y = (
            _MARGIN + (at + 0.5) * cell + rng.uniform(-1, 1) * (cell / 2 - r - _GAP)
            for at in (column, row)
        )
        _shape(pen, scene.form, x, y, r, COLORS[scene.color])
    return lit(image.reduce(FINE), rng.uniform(0.88, 1.1), rng.uniform(-0.08, 0.08))


def _shape(pen: Pen, form: str, x: float, y: float, r: float, color: Color) -> None:
    if form == "circle":
        pen.oval(x, y, r, r, color)
    elif form == "ring":
        pen.ring(x, y, r, r, color, 2.6)
    elif form == "square":
        pen.box(x - 0.86 * r, y - 0.86 * r, x + 0.86 * r, y + 0.86 * r, color)
    elif form == "cross":
        pen.box(x - r, y - 0.3 * r, x + r, y + 0.3 * r, color)
        pen.box(x - 0.3 * r, y - r, x + 0.3 * r, y + r, color)
    elif form == "triangle":
        pen.shape((x, y - r, x + r, y + 0.8 * r, x - r, y + 0.8 * r), color)
    else:
        points = []
        for i in range(10):
            angle, far = math.pi * i / 5, r * (1.1 if i % 2 == 0 else 0.48)
            points += [x + far * math.sin(angle), y - far * math.cos(angle)]
        pen.shape(tuple(points), color)
