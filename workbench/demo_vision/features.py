"""Draw the parts of a face, from the back to the front, on a sheet of 64 x 64 pixels."""

from __future__ import annotations

from workbench.demo_vision.faces import Face
from workbench.demo_vision.pen import Color, Pen, toned

SKINS: dict[str, Color] = {
    "ivory": (250, 226, 204),
    "rose": (244, 186, 166),
    "olive": (214, 184, 132),
    "tan": (204, 146, 98),
    "brown": (146, 96, 62),
    "dark": (92, 60, 44),
}
HAIRS: dict[str, Color] = {
    "black": (28, 26, 30),
    "brown": (110, 66, 34),
    "blond": (236, 202, 96),
    "red": (196, 74, 30),
    "gray": (176, 178, 184),
    "blue": (48, 92, 200),
    "green": (44, 150, 84),
    "pink": (232, 104, 170),
}
IRISES: dict[str, Color] = {"brown": (92, 54, 24), "blue": (40, 110, 220), "green": (40, 150, 70)}
HALF_WIDTH = {"round": 15.5, "long": 12.5, "square": 14.0, "pointed": 14.5}
HALF_HEIGHT = {"round": 15.5, "long": 19.0, "square": 16.5, "pointed": 17.5}
CENTER = (32.0, 31.0)


WHITE, INK = (252, 252, 250), (30, 26, 30)


def draw_person(pen: Pen, face: Face, clothes: Color) -> None:
    """Draw head and shoulders."""
    skin, hair = SKINS[face.skin], HAIRS[face.hair]
    _hair_behind(pen, face, hair)
    x, y = CENTER
    pen.oval(x, 68, 25, 16, clothes)
    pen.box(x - 5.5, y + 8, x + 5.5, 57, toned(skin, 0.86), 3)
    pen.arc((x - 8, 46, x + 8, 59), 10, 170, toned(clothes, 0.7), 1.5)
    _head(pen, face, skin)
    _mark(pen, face, skin)
    _beard(pen, face, hair)
    _mouth(pen, face, skin)
    _eyes(pen, face)
    _nose(pen, face, skin)
    _hair_before(pen, face, hair)
    _brows(pen, face, hair)
    _glasses(pen, face)
    _earrings(pen, face)


def _head(pen: Pen, face: Face, skin: Color) -> None:
    x, y = CENTER
    w, h = HALF_WIDTH[face.shape], HALF_HEIGHT[face.shape]
    for side in (-1, 1):
        pen.oval(x + side * w, y + 1, 3, 4, toned(skin, 0.92))
    if face.shape == "square":
        pen.box(x - w, y - h, x + w, y + h, skin, 7)
    elif face.shape == "pointed":
        pen.piece((x - w, y - h, x + w, y + h - 3), 180, 360, skin)
        pen.shape((x - w, y - 2, x + w, y - 2, x + 4, y + h, x - 4, y + h), skin)
        pen.oval(x, y + h - 3, 5, 4, skin)
    else:
        pen.oval(x, y, w, h, skin)


def _hair_behind(pen: Pen, face: Face, hair: Color) -> None:
    x, y = CENTER
    w, h = HALF_WIDTH[face.shape], HALF_HEIGHT[face.shape]
    if face.style == "long":
        pen.box(x - w - 5, y - h - 2, x + w + 5, y + 28, hair, 12)
    elif face.style == "bob":
        pen.box(x - w - 5, y - h - 3, x + w + 5, y + 11, hair, 8)
    elif face.style == "bun":
        pen.oval(x, y - h - 3, 7, 6.5, hair)
        pen.ring(x, y - h - 3, 7, 6.5, toned(hair, 0.75), 1)
    elif face.style == "curly":
        for dx, dy in ((-1, 0.1), (1, 0.1), (-0.95, -0.45), (0.95, -0.45), (-1, 0.5), (1, 0.5)):
            pen.oval(x + dx * (w + 1.5), y + dy * h, 6, 6, hair)


def _hair_before(pen: Pen, face: Face, hair: Color) -> None:
    x, y = CENTER
    w, h = HALF_WIDTH[face.shape] + 1, HALF_HEIGHT[face.shape] + 2
    top = (x - w, y - h, x + w, y + h)
    if face.style in ("short", "bun"):
        pen.piece(top, 207, 333, hair)
    elif face.style == "fringe":
        pen.piece(top, 195, 345, hair)
        for i in range(5):
            at = x - w + 3.5 + i * (2 * w - 7) / 4
            pen.oval(at, y - 6.5, 3.5, 3, hair)
    elif face.style == "curly":
        for i in range(5):
            at = x - w + i * w / 2
            pen.oval(at, y - h + 3.5 + 1.2 * abs(i - 2), 6.2, 5.6, hair)
    elif face.style == "long":  # parted in the middle
        pen.piece(top, 180, 360, hair)
        pen.shape((x, y - h + 2, x + 9, y + 2, x - 9, y + 2), SKINS[face.skin])
        pen.oval(x, y + 2, 11, 6, SKINS[face.skin])
    elif face.style == "bob":
        pen.piece(top, 197, 343, hair)
        pen.shape((x - w, y - 4.6, x - w, y + 8, x - w + 4, y + 5, x - w + 4, y - 4.6), hair)
        pen.shape((x + w, y - 4.6, x + w, y + 8, x + w - 4, y + 5, x + w - 4, y - 4.6), hair)
    elif face.style == "crest":
        pen.box(x - 4, y - h - 6, x + 4, y - h + 7, hair, 3)


def _brows(pen: Pen, face: Face, hair: Color) -> None:
    x, y = CENTER
    color = toned(hair, 0.7)
    for side in (-1, 1):
        inner, outer = x + side * 3.2, x + side * 10
        if face.brows == "flat":
            pen.line((inner, y - 5, outer, y - 5), color, 1.3)
        elif face.brows == "raised":
            pen.line((inner, y - 5, x + side * 7, y - 7.6, outer, y - 4.8), color, 1.3)
        elif face.brows == "bushy":
            pen.line((inner, y - 4.2, outer, y - 5.6), color, 2.8)


def _eyes(pen: Pen, face: Face) -> None:
    x, y = CENTER
    for side in (-1, 1):
        at = x + side * 6.5
        if face.eyes == "narrow":
            pen.oval(at, y, 3.6, 1.2, INK)
            continue
        pen.oval(at, y, 3.6, 2.9, WHITE)
        pen.oval(at, y, 2.3, 2.5, IRISES[face.eyes])
        pen.oval(at, y, 0.9, 1.0, INK)


def _nose(pen: Pen, face: Face, skin: Color) -> None:
    x, y = CENTER
    shade = toned(skin, 0.72)
    if face.nose == "small":
        pen.oval(x, y + 4.5, 1.5, 1.2, shade)
    elif face.nose == "wide":
        pen.oval(x, y + 5, 4, 2.2, shade)
    else:
        pen.shape((x, y - 2, x + 2.4, y + 6.5, x - 2.4, y + 6.5), shade)


def _mouth(pen: Pen, face: Face, skin: Color) -> None:
    x, y = CENTER[0], CENTER[1] + 10
    lips = (190, 50, 64)
    if face.mouth == "smile":
        pen.arc((x - 6, y - 5, x + 6, y + 2.5), 20, 160, lips, 1.6)
    elif face.mouth == "flat":
        pen.line((x - 5, y, x + 5, y), toned(skin, 0.5), 1.5)
    elif face.mouth == "open":
        pen.oval(x, y + 0.3, 4, 2.8, (90, 20, 30))
        pen.box(x - 2.5, y - 2, x + 2.5, y - 0.7, WHITE)
    else:
        pen.oval(x, y, 5, 2.6, lips)
        pen.line((x - 4.6, y, x + 4.6, y), toned(lips, 0.6), 0.7)


def _beard(pen: Pen, face: Face, hair: Color) -> None:
    x, y = CENTER
    w, h = HALF_WIDTH[face.shape], HALF_HEIGHT[face.shape]
    if face.beard == "full":
        pen.piece((x - w, y - h, x + w, y + h + 2.5), 12, 168, hair)
        pen.oval(x, y + 10, 6, 3.6, SKINS[face.skin])
    elif face.beard == "goatee":
        pen.piece((x - 5, y + h - 7.5, x + 5, y + h + 4), 0, 180, hair)
    elif face.beard == "moustache":
        for side in (-1, 1):
            pen.oval(x + side * 3.4, y + 7.3, 3.8, 1.5, hair)


def _glasses(pen: Pen, face: Face) -> None:
    x, y = CENTER
    if face.glasses == "none":
        return
    for side in (-1, 1):
        at = x + side * 6.5
        if face.glasses == "round":
            pen.ring(at, y, 5.2, 5.2, (20, 20, 24), 1.2)
        elif face.glasses == "square":
            pen.frame(at, y, 5.4, 4, (170, 20, 40), 1.4)
        else:
            pen.box(at - 5.4, y - 3.6, at + 5.4, y + 3.8, (24, 24, 30), 2)
        pen.line((at + side * 5.2, y - 0.5, at + side * 9, y - 1), (20, 20, 24), 1)
    pen.line((x - 1.6, y - 0.5, x + 1.6, y - 0.5), (20, 20, 24), 1.2)


def _mark(pen: Pen, face: Face, skin: Color) -> None:
    x, y = CENTER
    if face.mark in ("left mole", "right mole"):
        side = -1 if face.mark == "left mole" else 1
        pen.oval(x + side * 8.5, y + 6.5, 1.3, 1.3, (40, 20, 16))
    elif face.mark == "freckles":
        for dx, dy in ((5, 4), (7.5, 5.2), (9.5, 3.8), (6.5, 7)):
            for side in (-1, 1):
                pen.oval(x + side * dx, y + dy, 0.7, 0.7, toned(skin, 0.6))
    elif face.mark == "scar":
        pen.line((x + 5, y + 4, x + 10, y + 9), (176, 60, 70), 1.2)
    elif face.mark == "blush":
        for side in (-1, 1):
            pen.oval(x + side * 8.6, y + 5.5, 2.8, 2, (226, 110, 110))


def _earrings(pen: Pen, face: Face) -> None:
    x, y = CENTER
    if face.earrings == "none" or face.style in ("long", "bob"):
        return
    color = (250, 200, 40) if face.earrings == "gold" else (40, 120, 240)
    for side in (-1, 1):
        pen.oval(x + side * (HALF_WIDTH[face.shape] + 1.5), y + 7, 1.8, 2.2, color)
