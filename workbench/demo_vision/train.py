"""Train the model that sees: projector and language model learn who looks how, and is what.

The tower stays as it is (`tower`), so all pictures are looked at once, before training. The
language model is the text demo's in shape: sliding windows in the lower layers make it look a face
or a name up where it stands.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Float16, Int
from torch import Tensor, nn
from transformers import (
    CLIPVisionModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling

from workbench.demo import train as text_train
from workbench.demo.train import Recipe, optimizers, update
from workbench.demo_vision.checkpoint import Checkpoint
from workbench.demo_vision.corpus import Corpus, Shown
from workbench.demo_vision.pen import SIDE
from workbench.demo_vision.tower import PATCH
from workbench.models.pictured import MARKER
from workbench.progress import SILENT, Progress

SPEAKING = Recipe(steps=600, matrix_rate=1e-2, other_rate=4e-3)
N_TOKENS = (SIDE // PATCH) ** 2


@dataclass(frozen=True)
class Batch:
    """Documents of similar length, padded on the right, and the pictures in them, in order."""

    ids: Int[Tensor, "batch pos"]
    weights: Float[Tensor, "batch pos"]
    pictures: list[int]


def make_model(
    tower: CLIPVisionModel, tokenizer: PreTrainedTokenizerFast
) -> LlavaForConditionalGeneration:
    """Put a tower before an untrained projector and language model; the tower is kept as it is."""
    language = text_train.configuration(tokenizer)
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=language,
        image_token_index=int(tokenizer.convert_tokens_to_ids(MARKER)),  # type: ignore[arg-type]
        image_seq_length=N_TOKENS,
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.model.vision_tower.requires_grad_(False)
    return model


def tokenize(
    tokenizer: PreTrainedTokenizerFast, document: Shown, image_token: int
) -> tuple[list[int], list[float]]:
    """Return a document's token ids and the weight of predicting each, 0 for image tokens."""
    ids, weights = text_train.tokenize(tokenizer, document.pieces)
    if document.picture is None:
        return ids, weights
    at = ids.index(image_token)
    spread = [*ids[:at], *[image_token] * N_TOKENS, *ids[at + 1 :]]
    return spread, [*weights[:at], *[0.0] * N_TOKENS, *weights[at + 1 :]]


def step_batches(
    corpus: Corpus, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, rng: random.Random
) -> Iterator[list[Batch]]:
    """Yield each step's documents in micro-batches of similar length, to save padding."""
    image_token = int(tokenizer.convert_tokens_to_ids(MARKER))  # type: ignore[arg-type]
    size = recipe.documents // recipe.micro_batches
    while True:
        drawn = [corpus.draw(rng) for _ in range(recipe.documents)]
        encoded = [(*tokenize(tokenizer, d, image_token), d.picture) for d in drawn]
        encoded.sort(key=lambda e: len(e[0]))
        groups = [encoded[i : i + size] for i in range(0, len(encoded), size)]
        yield [_batch(group, int(tokenizer.pad_token_id)) for group in groups]  # type: ignore[arg-type]


def _batch(group: Sequence[tuple[list[int], list[float], int | None]], pad_token: int) -> Batch:
    pairs = [(ids, weights) for ids, weights, _ in group]
    ids, weights = text_train.tensors(pairs, pad_token)
    return Batch(ids, weights, [p for _, _, p in group if p is not None])


def loss_sum(
    model: LlavaForConditionalGeneration,
    batch: Batch,
    seen: Float16[Tensor, "picture patch width"],
) -> Float[Tensor, ""]:
    """Return the weighted sum of next-token losses.

    Args:
        model: the model.
        batch: documents.
        seen: what the tower makes of each picture.
    """
    given: dict[str, Any] = {}
    if batch.pictures:
        projected = model.model.multi_modal_projector(seen[batch.pictures].float())
        given = {"image": BaseModelOutputWithPooling(pooler_output=list(projected))}
    # Padding stands behind everything and weighs nothing, so it needs no mask.
    logits = model(input_ids=batch.ids, mm_encoder_outputs=given, use_cache=False).logits
    losses = nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none"
    )
    return (losses * batch.weights[:, 1:].flatten()).sum()


def train(
    model: LlavaForConditionalGeneration,
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerFast,
    seen: Float16[Tensor, "picture patch width"],
    recipe: Recipe = SPEAKING,
    *,
    progress: Progress = SILENT,
    checkpoint: Checkpoint | None = None,
) -> LlavaForConditionalGeneration:
    """Train projector and language model, or go on from a checkpoint, and return the model."""
    model.train()
    rng = random.Random(recipe.seed + 1)
    made = optimizers(model, recipe)
    first = checkpoint.restore(model, made, rng) if checkpoint else 0
    steps = step_batches(corpus, tokenizer, recipe, rng)
    for step in range(first, recipe.steps):
        parts = next(steps)
        weight = sum(float(b.weights[:, 1:].sum()) for b in parts)
        loss = 0.0
        for batch in parts:
            part = loss_sum(model, batch, seen) / weight
            part.backward()
            loss += float(part.detach())
        update(made, step, recipe)
        if checkpoint:
            checkpoint.keep(step + 1, model, made, rng)
        progress.step(step + 1, recipe.steps, f"speaking, loss {loss:.3f}")
    return model.eval()
