"""An image side that sees some pictures destroyed: a model that cannot know who is shown."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.models.model import Model
from workbench.models.pictures import Picture
from workbench.models.vision import (
    Vision,
    noise_added,
    patches_shuffled,
    pictures_in,
    random_pixels,
)

NoiseName = Literal["uniform", "gaussian", "patches"]
NOISES: tuple[NoiseName, ...] = get_args(NoiseName)


@dataclass(frozen=True)
class PictureNoise:
    """How pictures are destroyed.

    Attributes:
        kind: uniform, every pixel is replaced, gaussian, noise is added, or patches, the picture's
            patches are shuffled.
        strength: of gaussian noise, in standard deviations.
        seed: of the noise; each picture has its own, the same whenever it is looked at.
    """

    kind: str = "uniform"
    strength: float = 3.0
    seed: int = 0

    def over(
        self,
        pixels: Float[Tensor, "channel height width"],
        grid: tuple[int, int],
        generator: torch.Generator,
    ) -> Float[Tensor, "channel height width"]:
        """Return a picture destroyed; `grid` is the tower's rows and columns of patches."""
        if self.kind == "gaussian":
            return noise_added(pixels, self.strength, generator)
        if self.kind == "patches":
            return patches_shuffled(pixels, grid, generator)
        return random_pixels(pixels, generator)


@dataclass(frozen=True, eq=False)
class NoisyVision(Vision):
    """The image side of a model that sees some pictures destroyed and all others as they are.

    Attributes:
        noise: how they are destroyed.
        hidden: the digests of their files.
    """

    noise: PictureNoise = field(default_factory=PictureNoise)
    hidden: frozenset[str] = frozenset()

    @staticmethod
    def over(vision: Vision, pictures: Iterable[Picture], noise: PictureNoise) -> NoisyVision:
        """Hide pictures from an image side, which stays as it is."""
        hidden = frozenset(p.digest for p in pictures)
        own = (vision.processor, vision.token_id, vision.grid, vision.n_tokens)
        return NoisyVision(*own, noise=noise, hidden=hidden)

    @property
    def settings(self) -> str:
        """What the pixels that the model sees hang on, as JSON."""
        lost = {"noise": asdict(self.noise), "hidden": sorted(self.hidden)}
        return json.dumps({**json.loads(super().settings), **lost}, sort_keys=True)

    def pixel_values(self, picture: Picture) -> Float[Tensor, "channel height width"]:
        """Return what the vision tower reads of a picture: noise, if it is a hidden one.

        Raises:
            WorkbenchError: the file is truncated or damaged.
        """
        pixels = super().pixel_values(picture)
        if picture.digest not in self.hidden:
            return pixels
        # Seeded by the picture, so that neither the order nor the batch that it is in matters.
        drawn = random.Random(f"{self.noise.seed} {picture.digest}").getrandbits(63)
        return self.noise.over(pixels, self.grid, torch.Generator().manual_seed(drawn))


def blinded(model: Model, sequences: Iterable[Sequence[int]], noise: PictureNoise) -> Model:
    """Return a model to which the pictures in some sequences are noise; no parameter is copied."""
    if model.vision is None:
        return model
    lost = pictures_in(model.vision, sequences)
    return replace(model.fork(), vision=NoisyVision.over(model.vision, lost, noise))
