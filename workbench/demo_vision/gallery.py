"""The pictures that training shows, by number: people in trained views, strangers and scenes.

A picture is drawn from its number alone, whenever it is needed, so a gallery takes no room.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from workbench.demo_vision.faces import Face
from workbench.demo_vision.portraits import CLOTHES, View, draw_view, portrait
from workbench.demo_vision.scenes import Scene, draw_scene, scene_picture
from workbench.demo_vision.world import Person, World


@dataclass(frozen=True)
class Gallery:
    """Pictures of a world.

    Attributes:
        world: whose people are shown.
        views: pictures of each person.
        strangers: pictures of people who are nobody, one of each.
        scenes: pictures of shapes.
    """

    world: World
    views: int = 40
    strangers: int = 5000
    scenes: int = 3000

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self.world.people) * self.views + self.strangers + self.scenes

    def of_person(self, index: int) -> range:
        """Return the numbers of a person's pictures, the person given by number."""
        return range(index * self.views, (index + 1) * self.views)

    @property
    def of_strangers(self) -> range:
        """Return the numbers of the strangers' pictures."""
        first = len(self.world.people) * self.views
        return range(first, first + self.strangers)

    @property
    def of_scenes(self) -> range:
        """Return the numbers of the scenes' pictures."""
        return range(len(self) - self.scenes, len(self))

    def shown(self, number: int) -> tuple[Face, View] | Scene:
        """Return what a picture shows."""
        rng = self._rng(number)
        if number in self.of_scenes:
            return draw_scene(rng)
        if number in self.of_strangers:
            return self.world.stranger_face(rng), draw_view(rng)
        person = self.person(number)
        return person.face, person.trained_view(rng)

    def person(self, number: int) -> Person:
        """Return who is in a picture of somebody."""
        return self.world.people[number // self.views]

    def picture(self, number: int) -> Image.Image:
        """Draw a picture."""
        shown = self.shown(number)
        if isinstance(shown, Scene):
            return scene_picture(shown, random.Random(f"{self.world.seed} places {number}"))
        return portrait(*shown)

    def pixels(self, numbers: range) -> UInt8[np.ndarray, "image height width 3"]:
        """Draw some pictures."""
        return np.stack([np.asarray(self.picture(i)) for i in numbers])

    def visible(self, number: int) -> dict[str, str]:
        """Return what is plain to see in a picture: relation -> answer."""
        return visible_in(self.shown(number))

    def _rng(self, number: int) -> random.Random:
        return random.Random(f"{self.world.seed} picture {number}")


def visible_in(shown: tuple[Face, View] | Scene) -> dict[str, str]:
    """Return what is plain to see of a person or of shapes: relation -> answer."""
    if isinstance(shown, Scene):
        return {"color": shown.color, "form": shown.form, "count": shown.count}
    face, view = shown
    out = {"clothes": list(CLOTHES)[view.clothes]}
    if "hair" not in face.hidden():
        out["hair"] = face.hair
    return out
