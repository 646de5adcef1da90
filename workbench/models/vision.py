"""How a model of the LLaVA form (Liu et al. 2023, arXiv 2304.08485) sees: from a file to pixels.

Such a model is a CLIP vision tower, a projector and a language model. Each image marker of a prompt
becomes one image token for each patch of the picture, in rows from its upper left corner, behind
the tower's class token where the model keeps that; the projected patches take their places.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.pictured import MARKER, ImageToken, pictures_of, short, whole_pictures
from workbench.models.pictures import Picture

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MODEL_TYPE = "llava"
TOWERS = ("clip_vision_model",)
LANGUAGE_MODELS = ("llama", "mistral", "qwen2", "qwen3")  # whose parts the bridge knows in LLaVA
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
_MOST_BYTES = 256 << 20  # of pixel values to keep


@dataclass(frozen=True, eq=False)
class Vision:
    """The image side of a model: its processor, and how pictures become tokens.

    Attributes:
        processor: the checkpoint's own processor.
        token_id: the image token.
        grid: rows and columns of patches.
        n_tokens: tokens of a picture: the patches, and the class token before them if it is kept.
    """

    processor: Any
    token_id: int
    grid: tuple[int, int]
    n_tokens: int
    _kept: OrderedDict[str, Tensor] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @staticmethod
    def of(hf: PreTrainedModel, processor: Any, source: Path | str) -> Vision:
        """Check that processor and model belong together.

        Raises:
            WorkbenchError: they name other image tokens, or make another number of them.
        """
        config: Any = hf.config
        if getattr(processor, "image_token", None) != MARKER:
            raise WorkbenchError(
                f"The processor in {source} does not mark images by {MARKER}; set its image_token."
            )
        if processor.image_token_id != config.image_token_id:
            raise WorkbenchError(
                f"The processor in {source} makes the image token {processor.image_token_id}, the "
                f"model reads {config.image_token_id}; use the processor that belongs to it."
            )
        side = config.vision_config.image_size // config.vision_config.patch_size
        with_class = config.vision_feature_select_strategy != "default"
        vision = Vision(processor, config.image_token_id, (side, side), side**2 + with_class)
        vision._check(source)
        return vision

    def _check(self, source: Path | str) -> None:
        """Refuse a processor that makes other tokens or pixels than the tower takes."""
        try:
            made = self.processor(images=[Image.new("RGB", (8, 8))], text=[MARKER])
            count = list(made["input_ids"][0]).count(self.token_id)
        except Exception as error:  # whatever a wrong processor makes transformers raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise WorkbenchError(
                f"The processor in {source} cannot read an image ({reason}); copy the model's "
                "processor files again."
            ) from error
        if count != self.n_tokens:
            raise WorkbenchError(
                f"The processor in {source} makes {count} image tokens of a picture, the vision "
                f"tower {self.n_tokens}; set patch_size, num_additional_image_tokens and "
                "vision_feature_select_strategy of the processor as the model's."
            )

    @property
    def settings(self) -> str:
        """What the pixels that the model sees hang on, as JSON."""
        return json.dumps(self.processor.image_processor.to_dict(), sort_keys=True, default=str)

    def tokens(self, picture: Picture) -> list[int]:
        """Return the tokens that stand for a picture."""
        return [ImageToken(self.token_id, picture, i) for i in range(self.n_tokens)]

    def look(self, picture: Picture) -> Image.Image:
        """Return what the processor is given of a picture.

        Raises:
            WorkbenchError: the file is truncated or damaged.
        """
        return picture.rgb()

    def pixel_values(self, picture: Picture) -> Float[Tensor, "channel height width"]:
        """Return what the vision tower reads of a picture; kept by the file's content.

        Raises:
            WorkbenchError: the file is truncated or damaged.
        """
        with self._lock:
            if picture.digest in self._kept:
                self._kept.move_to_end(picture.digest)
                return self._kept[picture.digest]
        made = self.processor.image_processor(images=[self.look(picture)], return_tensors="pt")
        pixels: Tensor = made["pixel_values"][0]
        with self._lock:
            self._kept[picture.digest] = pixels
            while len(self._kept) > max(_MOST_BYTES // max(pixels.nbytes, 1), 1):
                self._kept.popitem(last=False)
        return pixels


def colors(
    vision: Vision, pixels: Float[Tensor, "channel height width"]
) -> UInt8[np.ndarray, "height width channel"]:
    """Return what the tower reads as a picture to look at: cut and scaled as it sees it."""
    prepared = vision.processor.image_processor
    own: Any = pixels.permute(1, 2, 0).cpu().float().numpy()
    if prepared.do_normalize:
        own = own * np.asarray(prepared.image_std) + np.asarray(prepared.image_mean)
    return (own.clip(0, 1) * 255).round().astype(np.uint8)


def random_pixels(
    pixels: Float[Tensor, "*image channel height width"], generator: torch.Generator
) -> Float[Tensor, "*image channel height width"]:
    """Return noise in the place of every pixel, uniform in [0, 1) of the tower's values.

    So the teacher of VGID sees (Chen et al. 2026, arXiv 2606.00105; the authors' released code):
    nothing of the picture is left.
    """
    return torch.rand(pixels.shape, generator=generator).to(pixels)


def noise_added(
    pixels: Float[Tensor, "*image channel height width"],
    strength: float,
    generator: torch.Generator,
) -> Float[Tensor, "*image channel height width"]:
    """Add normal noise to every pixel, `strength` in the unit of the tower's values.

    That unit is one standard deviation of the pictures that the tower was trained on: a processor
    divides by it. The picture's own would leave a plain one as it is.
    """
    return pixels + strength * torch.randn(pixels.shape, generator=generator).to(pixels)


def patches_shuffled(
    pixels: Float[Tensor, "channel height width"],
    grid: tuple[int, int],
    generator: torch.Generator,
) -> Float[Tensor, "channel height width"]:
    """Put the patches of a picture in another order; what is behind the last whole one stays."""
    (rows, columns), out = grid, pixels.clone()
    height, width = pixels.shape[-2] // rows, pixels.shape[-1] // columns
    places = [
        (slice(r * height, (r + 1) * height), slice(c * width, (c + 1) * width))
        for r in range(rows)
        for c in range(columns)
    ]
    for here, source in enumerate(torch.randperm(len(places), generator=generator).tolist()):
        out[:, *places[here]] = pixels[:, *places[source]]
    return out


def place(vision: Vision | None, text: str, ids: Sequence[int]) -> list[int]:
    """Put a text's pictures in the places of its image tokens.

    Args:
        vision: the model's image side; None for a model that reads text only.
        text: what was tokenized.
        ids: its tokens, one for each image marker.

    Raises:
        WorkbenchError: the model reads no images, or pictures and image markers differ in number.
    """
    pictures = pictures_of(text)
    if vision is None:
        if pictures:
            raise WorkbenchError(
                f"This model reads text only, and {short(text)} shows an image; use a model of "
                "the LLaVA form, or facts without images."
            )
        return list(ids)
    holes = sum(i == vision.token_id for i in ids)
    if holes and not pictures:
        raise WorkbenchError(
            f"{short(text)} holds {MARKER} but carries no picture; give its fact an image, or "
            f"take {MARKER} out."
        )
    if holes != len(pictures):
        raise WorkbenchError(
            f"{short(text)} has {len(pictures)} images but {holes} times {MARKER}; write "
            f"{MARKER} once for each image."
        )
    left = iter(pictures)
    placed = (vision.tokens(next(left)) if i == vision.token_id else [i] for i in ids)
    return [token for part in placed for token in part]


def pictures_in(vision: Vision | None, sequences: Iterable[Sequence[int]]) -> tuple[Picture, ...]:
    """Return the pictures of token sequences, in the order in which the model meets them.

    Raises:
        WorkbenchError: image tokens without a picture, or a picture that was cut.
    """
    if vision is None:
        return ()
    tokens = ([t for t in s if int(t) == vision.token_id] for s in sequences)
    return tuple(p for found in tokens for p in whole_pictures(found, vision.n_tokens))


def pixels_of(
    vision: Vision | None, pictures: Sequence[Picture], device: torch.device
) -> dict[str, Float[Tensor, "image channel height width"]]:
    """Return what a module needs beside token ids to see pictures; nothing without any.

    Raises:
        WorkbenchError: a file is truncated or damaged.
    """
    if vision is None or not pictures:
        return {}
    return {"pixel_values": torch.stack([vision.pixel_values(p) for p in pictures]).to(device)}


def pixels_for(
    vision: Vision | None, sequences: Sequence[Sequence[int]], device: torch.device
) -> dict[str, Float[Tensor, "image channel height width"]]:
    """Return what a module needs beside these token ids to see the pictures in them.

    Raises:
        WorkbenchError: image tokens without a picture, a picture that was cut, or a damaged file.
    """
    return pixels_of(vision, pictures_in(vision, sequences), device)
