"""Pictures that a user handed in, kept as files by their content."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from workbench.errors import WorkbenchError
from workbench.models.paths import cache_dir
from workbench.models.pictures import Picture, read_picture


def keep_picture(content: bytes, name: str) -> Picture:
    """Write an image to the cache, if it is one; the same image is written once.

    Args:
        content: what the file holds.
        name: what the user called it, for messages.

    Raises:
        WorkbenchError: it is not an image that can be read, or the cache cannot be written to.
    """
    folder = cache_dir() / "pictures"
    target = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.image"
    if target.is_file():
        return read_picture(target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, delete=False) as part:
            part.write(content)
    except OSError as error:
        raise WorkbenchError(
            f"Cannot keep the image in {folder} ({error.strerror or error}); make room there, or "
            "set WORKBENCH_CACHE to a folder that you may write to."
        ) from error
    place = Path(part.name)
    try:
        read_picture(place).rgb()  # a damaged one is told now, and leaves nothing behind
        os.replace(place, target)
    except WorkbenchError as error:
        raise WorkbenchError(str(error).replace(str(place), name)) from error
    finally:
        place.unlink(missing_ok=True)
    return read_picture(target)
