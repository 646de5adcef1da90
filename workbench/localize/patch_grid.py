"""Scores of a picture's patches, laid out as they lie in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from workbench.errors import WorkbenchError
from workbench.facts.prompts import Prompt
from workbench.localize.localization import Localization
from workbench.models.model import Model
from workbench.models.pictures import read_picture
from workbench.models.vision import Vision, colors

_KEY = "patches"


def patches_of(model: Model, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Say in a localization's config where the patches of its one prompt's picture are."""
    if model.vision is None or len(prompts) != 1 or prompts[0].picture is None:
        return {}
    (start, picture), (rows, columns) = prompts[0].picture, model.vision.grid
    first = start + model.vision.n_tokens - rows * columns  # behind the class token, if it is kept
    place = {"first": first, "rows": rows, "columns": columns}
    return {_KEY: {**place, "image": str(picture.path), "digest": picture.digest}}


def pictured_fact(
    localization: Localization, vision: Vision | None
) -> UInt8[np.ndarray, "height width 3"] | None:
    """Return the picture of a localization's one fact as the vision tower saw it.

    Returns:
        The picture; None if it is of several facts or of one without an image, or if the file is
        gone or is another one now.
    """
    place = localization.config.get(_KEY)
    if place is None or vision is None:
        return None
    try:
        picture = read_picture(place["image"])
        if picture.digest != place["digest"]:
            return None
        return colors(vision, vision.pixel_values(picture))
    except WorkbenchError:
        return None


def has_patches(localization: Localization) -> bool:
    """Whether a localization is of one fact with an image."""
    return _KEY in localization.config


def patch_grid(
    localization: Localization, kind: str, *, value: str = "score"
) -> Float[np.ndarray, "layer row column"]:
    """Return the scores of each patch of the picture, layer by layer.

    Args:
        localization: of a single fact with an image.
        kind: resid, mlp, attn or head, whose heads are summed.
        value: score or stderr.

    Raises:
        WorkbenchError: it is of several facts or of one without an image, or lacks the kind.
    """
    place = localization.config.get(_KEY)
    if place is None:
        raise WorkbenchError(
            "This localization is not of one fact with an image, so there is no picture to lay it "
            "out on; localize a single fact that has one."
        )
    grid = localization.grid(kind, value=value)
    first, rows, columns = place["first"], place["rows"], place["columns"]
    patches = grid[list(range(first, first + rows * columns))]
    return patches.to_numpy().reshape(len(grid), rows, columns)
