"""Draw portraits: a face in a view, 64 x 64 pixels.

The face decides what the person looks like, the view everything else: where and how large the head
is, how it leans, light, background and clothes.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image

from workbench.demo_vision.faces import Face
from workbench.demo_vision.features import CENTER, draw_person
from workbench.demo_vision.pen import FINE, SIDE, Color, paper, pen_on, toned

BACKGROUNDS: tuple[Color, ...] = (
    (238, 238, 240),
    (150, 190, 228),
    (188, 224, 176),
    (250, 232, 160),
    (232, 188, 204),
    (196, 176, 226),
    (120, 128, 140),
    (96, 150, 150),
    (230, 170, 120),
    (150, 120, 96),
    (70, 84, 130),
    (206, 214, 140),
)
CLOTHES: dict[str, Color] = {
    "red": (200, 40, 48),
    "blue": (36, 70, 150),
    "green": (40, 120, 70),
    "yellow": (235, 190, 50),
    "black": (40, 40, 46),
    "white": (240, 240, 240),
    "purple": (130, 60, 140),
    "orange": (230, 120, 40),
}
PATTERNS = ("plain", "stripes", "halves", "spots")


@dataclass(frozen=True)
class View:
    """How somebody is shown.

    Attributes:
        shift: of the head, in pixels to the right and down.
        scale: of the head.
        lean: rotation, in degrees.
        light: brightness of the whole picture; 1 changes nothing.
        slant: how much brighter the right side is than the left.
        background: number in `BACKGROUNDS`.
        pattern: of the background.
        clothes: number in `CLOTHES`.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    lean: float = 0.0
    light: float = 1.0
    slant: float = 0.0
    background: int = 0
    pattern: str = "plain"
    clothes: int = 0


def draw_view(rng: random.Random, backgrounds: tuple[int, ...] | None = None) -> View:
    """Draw a view in front of one of these backgrounds; of all by default."""
    return View(
        shift=(rng.uniform(-2.2, 2.2), rng.uniform(-2, 2)),
        scale=rng.uniform(0.92, 1.07),
        lean=rng.uniform(-7, 7),
        light=rng.uniform(0.88, 1.1),
        slant=rng.uniform(-0.12, 0.12),
        background=rng.choice(backgrounds or tuple(range(len(BACKGROUNDS)))),
        pattern=rng.choice(PATTERNS),
        clothes=rng.randrange(len(CLOTHES)),
    )


def portrait(face: Face, view: View) -> Image.Image:
    """Draw somebody; RGB, 64 x 64 pixels."""
    color = BACKGROUNDS[view.background]
    person = paper(color, clear=True)
    draw_person(pen_on(person), face, list(CLOTHES.values())[view.clothes])
    person = person.transform(
        person.size, Image.Transform.AFFINE, _back(view), Image.Resampling.BILINEAR
    )
    behind = background(view.background, view.pattern)
    behind.paste(person, mask=person)
    return lit(behind.reduce(FINE), view.light, view.slant)


def background(number: int, pattern: str) -> Image.Image:
    """Draw what is behind somebody, at the fine size."""
    color = BACKGROUNDS[number]
    image, other = paper(color), toned(color, 0.86)
    pen = pen_on(image)
    if pattern == "stripes":
        for x in range(0, SIDE, 16):
            pen.box(x, 0, x + 8, SIDE, other)
    elif pattern == "halves":
        pen.box(0, SIDE / 2, SIDE, SIDE, other)
    elif pattern == "spots":
        for x in range(4, SIDE, 14):
            for y in range(4, SIDE, 14):
                pen.oval(x, y, 3, 3, other)
    return image


def lit(image: Image.Image, light: float, slant: float) -> Image.Image:
    """Light a picture, and one side of it more than the other."""
    across = light + slant * np.linspace(-1, 1, image.width)[None, :, None]
    return Image.fromarray(np.clip(np.asarray(image) * across, 0, 255).astype(np.uint8))


def _back(view: View) -> tuple[float, ...]:
    """Return the affine map from a finished pixel to where it is taken from."""
    angle = math.radians(view.lean)
    c, s = math.cos(angle) / view.scale, math.sin(angle) / view.scale
    x, y = CENTER[0] * FINE, (CENTER[1] + 12) * FINE  # lean about the neck
    dx, dy = (FINE * d for d in view.shift)
    return (c, s, x - c * (x + dx) - s * (y + dy), -s, c, y + s * (x + dx) - c * (y + dy))
