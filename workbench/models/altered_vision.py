"""An image side that sees every picture altered, as pictures are when they are taken or sent."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from workbench.errors import unknown_name
from workbench.models.model import Model
from workbench.models.pictures import Picture
from workbench.models.vision import Vision

_CLOSER = 0.1  # of each side, that is cut off
_TURN = 12  # degrees
_BLUR = 1 / 64  # of the short side


def _closer(image: Image.Image) -> Image.Image:
    return ImageOps.crop(image, round(_CLOSER * min(image.size)))


def _turned(image: Image.Image) -> Image.Image:
    edge = image.getpixel((0, 0))
    return image.rotate(_TURN, Image.Resampling.BILINEAR, fillcolor=edge)  # type: ignore[arg-type]


def _compressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "jpeg", quality=20)
    return Image.open(file).convert("RGB")


ALTERATIONS: Mapping[str, Callable[[Image.Image], Image.Image]] = MappingProxyType(
    {
        "mirrored": ImageOps.mirror,
        "turned": _turned,
        "closer": _closer,
        "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
        "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.5),
        "gray": lambda image: ImageOps.grayscale(image).convert("RGB"),
        "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(_BLUR * min(image.size))),
        "compressed": _compressed,
    }
)


@dataclass(frozen=True, eq=False)
class AlteredVision(Vision):
    """The image side of a model that sees every picture altered.

    Attributes:
        alteration: one of `ALTERATIONS`.
    """

    alteration: str = "mirrored"

    @property
    def settings(self) -> str:
        """What the pixels that the model sees hang on, as JSON."""
        own = {"alteration": self.alteration}
        return json.dumps({**json.loads(super().settings), **own}, sort_keys=True)

    def look(self, picture: Picture) -> Image.Image:
        """Return what the processor is given of a picture.

        Raises:
            WorkbenchError: the file is truncated or damaged.
        """
        return ALTERATIONS[self.alteration](super().look(picture))


def altered(model: Model, alteration: str) -> Model:
    """Return a model that sees every picture altered; no parameter is copied.

    Raises:
        WorkbenchError: there is no such alteration.
    """
    if alteration not in ALTERATIONS:
        raise unknown_name("alteration", alteration, ALTERATIONS)
    vision = model.vision
    if vision is None:
        return model
    own = (vision.processor, vision.token_id, vision.grid, vision.n_tokens)
    return replace(model.fork(), vision=AlteredVision(*own, alteration=alteration))
