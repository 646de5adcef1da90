"""Scores of a picture's patches, laid out as they lie in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.errors import WorkbenchError
from workbench.facts.prompts import Prompt
from workbench.localize.localization import Localization
from workbench.models.model import Model

_KEY = "patches"


def patches_of(model: Model, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Say in a localization's config where the patches of its one prompt's picture are."""
    if model.vision is None or len(prompts) != 1 or prompts[0].picture is None:
        return {}
    (start, picture), (rows, columns) = prompts[0].picture, model.vision.grid
    first = start + model.vision.n_tokens - rows * columns  # behind the class token, if it is kept
    place = {"first": first, "rows": rows, "columns": columns}
    return {_KEY: {**place, "image": str(picture.path), "digest": picture.digest}}


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
