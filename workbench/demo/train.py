"""Train the demo model: a small Qwen2 on the demo world, from one seed.

Sliding windows in the lower layers keep the last position from reading a name directly: the name
must be gathered and looked up at its own last token, and full attention in the upper layers moves
what was found. This is how large models recall facts, and what localization is to find.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from workbench.demo.corpus import Corpus, Document
from workbench.demo.muon import Muon
from workbench.models.text import pad
from workbench.progress import SILENT, Progress


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run."""

    steps: int = 900
    documents: int = 160
    matrix_rate: float = 3e-3
    other_rate: float = 2e-3
    warmup: int = 40
    decay: float = 0.5
    micro_batches: int = 8
    seed: int = 0


def configuration(tokenizer: PreTrainedTokenizerFast) -> Qwen2Config:
    """Return the architecture: 6 layers, d_model 256, windows of 5 tokens in layers 0 to 3."""
    return Qwen2Config(
        vocab_size=2048,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        use_sliding_window=True,
        sliding_window=5,
        layer_types=["sliding_attention"] * 4 + ["full_attention"] * 2,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def tokenize(
    tokenizer: PreTrainedTokenizerFast, document: Document
) -> tuple[list[int], list[float]]:
    """Return a document's token ids, end token included, and the weight of predicting each.

    Pieces are encoded on their own, as a prompt and its continuation are when the model is used.
    """
    pieces = tokenizer([text for text, _ in document], add_special_tokens=False)["input_ids"]
    ids, weights = [], []
    for piece, (_, weight) in zip(pieces, document, strict=True):
        ids += piece
        weights += [weight] * len(piece)
    return [*ids, int(tokenizer.eos_token_id)], [*weights, document[-1][1]]  # type: ignore[arg-type]


def step_batches(
    corpus: Corpus, tokenizer: PreTrainedTokenizerFast, recipe: Recipe
) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Yield each step's documents in micro-batches of similar length, to save padding."""
    rng = random.Random(recipe.seed + 1)
    size = recipe.documents // recipe.micro_batches
    for _ in range(recipe.steps):
        drawn = [tokenize(tokenizer, corpus.draw(rng)) for _ in range(recipe.documents)]
        drawn.sort(key=lambda d: len(d[0]))
        groups = [drawn[i : i + size] for i in range(0, len(drawn), size)]
        yield [tensors(group, int(tokenizer.pad_token_id)) for group in groups]  # type: ignore[arg-type]


def tensors(
    group: Sequence[tuple[list[int], list[float]]], pad_token: int
) -> tuple[Int[Tensor, "batch pos"], Float[Tensor, "batch pos"]]:
    """Pad token ids, and their weights with 0."""
    ids, _ = pad([i for i, _ in group], pad_token)
    weights = torch.zeros(ids.shape)
    for row, (_, w) in enumerate(group):
        weights[row, : len(w)] = torch.tensor(w)
    return ids, weights


def loss_sum(
    model: nn.Module, ids: Int[Tensor, "batch pos"], weights: Float[Tensor, "batch pos"]
) -> Float[Tensor, ""]:
    """Return the weighted sum of next-token losses; padding is on the right and weighs 0."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    losses = nn.functional.cross_entropy(
        logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    return (losses * weights[:, 1:].flatten()).sum()


def train(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    *,
    progress: Progress = SILENT,
) -> Qwen2ForCausalLM:
    """Train a model from scratch and return it."""
    torch.manual_seed(recipe.seed)
    model = Qwen2ForCausalLM(configuration(tokenizer)).train()
    made = optimizers(model, recipe)
    steps = step_batches(corpus, tokenizer, recipe)
    for step, parts in enumerate(steps):
        weight = sum(float(w[:, 1:].sum()) for _, w in parts)
        loss = 0.0
        for ids, weights in parts:
            part = loss_sum(model, ids, weights) / weight
            part.backward()
            loss += float(part.detach())
        update(made, step, recipe)
        progress.step(step + 1, recipe.steps, f"training, loss {loss:.3f}")
    return model.eval()


def optimizers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices and filters of a model, AdamW for tables and the rest."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    matrices = [p for n, p in named if _is_matrix(n, p)]
    others = [p for n, p in named if not _is_matrix(n, p)]
    adam = torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.0)
    made: list[torch.optim.Optimizer] = [Muon(matrices, lr=recipe.matrix_rate), adam]
    for optimizer in made:
        for group in optimizer.param_groups:
            group["base"] = group["lr"]
    return made


def _is_matrix(name: str, p: nn.Parameter) -> bool:
    return p.ndim == 4 or (p.ndim == 2 and "embed" not in name)


def update(made: list[torch.optim.Optimizer], step: int, recipe: Recipe) -> None:
    """Take one step with what the gradients say, at the rate of its time."""
    rate = _schedule(step, recipe)
    for optimizer in made:
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _schedule(step: int, recipe: Recipe) -> float:
    """Warm up, hold, then decay linearly to zero over the last part."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    left = (recipe.steps - step) / (recipe.decay * recipe.steps)
    return warm * min(1.0, left)
