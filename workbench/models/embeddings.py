"""What a language model reads in the place of each token: words from its table, pictures projected.

Runs that start from embeddings, to change them on the way, start here: the table alone would give
every image token the same vector, whatever the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.models.model import Model
from workbench.models.vision import pixels_for


def embed(model: Model, sequences: Sequence[Sequence[int]]) -> Float[Tensor, "row pos d_model"]:
    """Return the embeddings of token sequences of one length, their pictures in their places.

    Raises:
        WorkbenchError: image tokens without a picture, a picture that was cut, or a damaged file.
    """
    pixels = pixels_for(model.vision, sequences, model.device)
    return embed_with(model, sequences, pixels)


def embed_with(
    model: Model,
    sequences: Sequence[Sequence[int]],
    pixels: Mapping[str, Float[Tensor, "image channel height width"]],
) -> Float[Tensor, "row pos d_model"]:
    """Return the embeddings of token sequences that show these pixels, picture by picture."""
    ids = torch.tensor([list(s) for s in sequences], device=model.device)
    words: Tensor = model.hf.get_input_embeddings()(ids)
    if model.vision is None or not pixels:
        return words
    seen: Any = model.hf.base_model.get_image_features(**pixels, return_dict=True)
    patches = torch.cat(list(seen.pooler_output)).to(words)
    return words.masked_scatter((ids == model.vision.token_id)[..., None], patches)
