"""Read image files, as images only: PNG, JPEG and WebP, at a size decided by their header.

Whatever a file holds becomes 8-bit RGB: its EXIF orientation is applied, transparent pixels are
shown on white, and gray, palette, CMYK and 16-bit images are converted. Nothing else of a file is
read, and nothing in it is run.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from workbench.errors import WorkbenchError

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_PIXELS = 50_000_000
MOST_BYTES = 64 << 20
LONGEST_SHAPE = 50  # long side over short side: scaling the short side up makes the other huge
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class Picture:
    """One image file; two files of the same bytes are the same picture.

    Attributes:
        path: where it is.
        digest: SHA-256 of the file.
        size: width and height in pixels, as stored.
    """

    path: Path = field(compare=False)
    digest: str
    size: tuple[int, int] = field(compare=False)

    def rgb(self) -> Image.Image:
        """Decode the file.

        Raises:
            WorkbenchError: it is truncated or damaged, or not the file any more that it was.
        """
        content = _content(self.path)
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise WorkbenchError(
                f"The image {self.path} was changed after it had been read; read the facts again."
            )
        return _decoded(content, self.path)


def read_picture(path: str | Path) -> Picture:
    """Look at an image file's header and take its fingerprint; pixels are decoded when needed.

    Raises:
        WorkbenchError: there is no such file, it is no PNG, JPEG or WebP image, it is animated, too
            large or too long, or its colors are of an unknown kind.
    """
    path = Path(path)
    try:
        stat = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WorkbenchError(
            f"Cannot read the image {path} ({reason}); give the path of a readable file."
        ) from error
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _read(path: Path, changed: int, size: int) -> Picture:
    """Read a file of this name, time and size once."""
    content = _content(path)
    with _opened(content, path) as image:
        return Picture(path, hashlib.sha256(content).hexdigest(), image.size)


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():  # a device or a pipe might never end
            what = "is not a file" if path.exists() else "does not exist"
            raise WorkbenchError(
                f"The image {path} {what}; give the path of a PNG, JPEG or WebP file."
            )
        if path.stat().st_size > MOST_BYTES:
            raise WorkbenchError(
                f"The image {path} has more than {MOST_BYTES >> 20} MB; save it smaller."
            )
        return path.read_bytes()
    except OSError as error:
        raise WorkbenchError(
            f"Cannot read the image {path} ({error.strerror or error}); give a readable file."
        ) from error


def _opened(content: bytes, path: Path) -> Image.Image:
    """Read the header and refuse what should not be decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except Exception as error:  # headers are broken in as many ways as there are formats
        raise WorkbenchError(
            f"{path} is not a PNG, JPEG or WebP image; give an image file of one of these formats."
        ) from error
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise _too_large(path)
    if max(width, height) > LONGEST_SHAPE * min(width, height):
        raise WorkbenchError(
            f"The image {path} has {width} x {height} pixels, a strip more than {LONGEST_SHAPE} "
            "times as long as wide; cut it."
        )
    # Phones put a small preview behind the image (MPO); that is no animation.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise WorkbenchError(f"The image {path} is animated; save one of its frames.")
    if image.mode not in (*_MODES, *_SIXTEEN_BITS):
        raise WorkbenchError(
            f"The image {path} has colors of the kind {image.mode}, which cannot be shown as red, "
            "green and blue here; save it as an RGB image."
        )
    return image


def _too_large(path: Path) -> WorkbenchError:
    return WorkbenchError(
        f"The image {path} has more than {MOST_PIXELS // 1_000_000} million pixels; scale it down."
    )


def _decoded(content: bytes, path: Path) -> Image.Image:
    with _opened(content, path) as image:
        try:
            image.load()
            upright = ImageOps.exif_transpose(image)
        except Exception as error:  # as many ways as there are formats
            raise WorkbenchError(
                f"The image {path} is truncated or damaged ({error}); copy it again."
            ) from error
    if upright.mode in _SIXTEEN_BITS:
        return Image.fromarray((np.asarray(upright) / 257).round().astype(np.uint8)).convert("RGB")
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    paper = Image.new("RGBA", upright.size, "white")
    return Image.alpha_composite(paper, upright.convert("RGBA")).convert("RGB")
