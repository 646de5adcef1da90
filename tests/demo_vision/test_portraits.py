"""Portraits: the same each time, different between people, alike between views of one person."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from workbench.demo_vision.faces import (
    APART,
    FAR,
    FAR_APART,
    TRAITS,
    Face,
    differing,
    draw_apart,
    draw_face,
    is_nobody,
)
from workbench.demo_vision.pen import SIDE
from workbench.demo_vision.portraits import BACKGROUNDS, View, draw_view, portrait
from workbench.demo_vision.scenes import COLORS, COUNTS, SHAPES, Scene, scene_picture

PLAIN = Face(
    **{trait: options[0] for trait, options in TRAITS.items() if trait not in ("style", "brows")},
    style="short",
    brows="flat",
)


def pixels(face, view=None):
    return np.asarray(portrait(face, view or View())).astype(int)


def changed(one, other):
    return int((np.abs(one - other).max(-1) > 24).sum())


def test_equal_faces_and_views_give_equal_pixels():
    face, view = draw_face(random.Random(1)), draw_view(random.Random(2))
    assert np.array_equal(pixels(face, view), pixels(face, view))
    assert pixels(face, view).shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize(
    ("trait", "option"), [(t, o) for t, options in TRAITS.items() for o in options]
)
def test_every_option_of_every_trait_can_be_seen(trait, option):
    face = replace(PLAIN, **{trait: option})
    for other in TRAITS[trait]:
        if other != option:
            assert changed(pixels(face), pixels(replace(face, **{trait: other}))) >= 5


def test_covered_traits_are_not_counted_as_differences():
    dark = replace(PLAIN, glasses="dark", eyes="brown")
    assert differing(dark, replace(dark, eyes="blue")) == []
    assert np.array_equal(pixels(dark), pixels(replace(dark, eyes="blue")))
    bald = replace(PLAIN, style="bald", brows="none", beard="none")
    assert np.array_equal(pixels(bald), pixels(replace(bald, hair="pink")))
    assert "hair" in bald.hidden()


def test_faces_drawn_apart_are():
    rng, known = random.Random(3), []
    for _ in range(40):
        known.append(draw_apart(rng, known))
    for i, one in enumerate(known):
        assert is_nobody(one, known[:i])
        for other in known[:i]:
            apart = differing(one, other)
            assert len(apart) >= APART
            assert sum(t in FAR for t in apart) >= FAR_APART
    assert not is_nobody(replace(known[0], nose="wide"), known)


def test_a_view_changes_the_picture_and_not_the_person():
    rng = random.Random(4)
    faces = [draw_face(rng) for _ in range(12)]
    # The middle of the face, in front of any background: its colors stay nearer to the person's
    # own, seen plainly, than to most others'.
    plain = np.stack([pixels(f)[20:48, 18:46].mean((0, 1)) for f in faces])
    ranks = []
    for i, face in enumerate(faces):
        for _ in range(4):
            seen = pixels(face, draw_view(rng))[20:48, 18:46].mean((0, 1))
            far = np.abs(plain - seen).sum(-1)
            ranks.append(int((far < far[i]).sum()))
    assert np.mean(ranks) < 3


def test_views_are_in_front_of_the_backgrounds_asked_for():
    rng = random.Random(5)
    assert {draw_view(rng, (2, 7)).background for _ in range(50)} == {2, 7}
    assert {draw_view(rng).background for _ in range(400)} == set(range(len(BACKGROUNDS)))


@pytest.mark.parametrize("form", SHAPES)
def test_scenes_show_their_count_and_color(form):
    for i, count in enumerate(COUNTS):
        scene = Scene("red", form, count)
        image = np.asarray(scene_picture(scene, random.Random(i))).astype(int)
        red = np.abs(image - np.array(COLORS["red"])).max(-1) < 60
        assert _pieces(red) == i + 1


def _pieces(mask):
    """Count the connected regions of some size."""
    left, found = set(zip(*np.nonzero(mask), strict=True)), 0
    while left:
        edge, size = [left.pop()], 0
        while edge:
            y, x = edge.pop()
            size += 1
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if (y + dy, x + dx) in left:
                        left.discard((y + dy, x + dx))
                        edge.append((y + dy, x + dx))
        found += size >= 8
    return found
