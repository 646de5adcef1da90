"""Text in, text out: token ids, batches, next-token logits and greedy generation.

Special tokens are added once: a text that already starts with the beginning-of-sequence token (a
rendered chat template) gets no second one. Batches for scoring are padded on the right, which a
causal model never sees from the left; generation pads on the left. A mask always goes with both.
Pictures that prompts carry become image tokens in `encode` and pixels in `batches`, nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.continuing import new_tokens
from workbench.models.model import Model
from workbench.models.pictures import Picture
from workbench.models.vision import Vision, pictures_in, pixels_of, place
from workbench.progress import SILENT, Progress


@dataclass(frozen=True, eq=False)
class Batch:
    """Token ids of several texts.

    Attributes:
        input_ids: padded ids.
        attention_mask: 1 on tokens, 0 on padding.
        rows: which of the original texts each row is.
        pictures: those in the texts, row by row.
        vision: how the model sees them.
    """

    input_ids: Int[Tensor, "batch pos"]
    attention_mask: Int[Tensor, "batch pos"]
    rows: tuple[int, ...]
    pictures: tuple[Picture, ...] = ()
    vision: Vision | None = None

    @property
    def inputs(self) -> dict[str, Tensor]:
        """Arguments of a forward pass over whole texts."""
        masked = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        return {**masked, **self.pixels}

    @property
    def pixels(self) -> dict[str, Float[Tensor, "image channel height width"]]:
        """Pixel values by the name of their argument; empty without pictures."""
        return pixels_of(self.vision, self.pictures, self.input_ids.device)

    @property
    def lengths(self) -> Int[Tensor, " batch"]:
        """Tokens of each text."""
        return self.attention_mask.sum(1)


def encode(
    model: Model, text: str, *, room: int = 0, cut: bool = False, bare: bool = False
) -> list[int]:
    """Return the token ids of a text, special tokens once, and image tokens for its pictures.

    Args:
        model: whose tokenizer to use.
        text: what to encode.
        room: tokens that must still fit behind it.
        cut: keep the beginning of a text that is too long.
        bare: no special tokens, for what stands between others; it may be empty.

    Raises:
        WorkbenchError: the text is empty or, uncut, longer than the model's context; or its
            pictures do not fit its image markers, or the model.
    """
    add = not bare and adds_special_tokens(model, text)
    ids = model.tokenizer(str(text), add_special_tokens=add)["input_ids"]
    ids = place(model.vision, text, ids)
    if not ids and not bare:
        raise WorkbenchError("The prompt is empty; write at least one word.")
    if len(ids) + room > model.n_ctx:
        if cut:
            return ids[: model.n_ctx - room]
        raise WorkbenchError(
            f"The prompt has {len(ids)} tokens, which with {room} to follow is more than the "
            f"{model.n_ctx} of this model's context; shorten it."
        )
    return ids


def adds_special_tokens(model: Model, text: str) -> bool:
    """Whether the tokenizer should begin a text with its special tokens: not if it has them."""
    bos = model.tokenizer.bos_token
    return not (bos and text.startswith(bos))


def token_spans(model: Model, text: str) -> list[tuple[int, int]]:
    """Return the characters behind each token of `encode`; image tokens share their marker's."""
    add = adds_special_tokens(model, text)
    found = model.tokenizer(str(text), add_special_tokens=add, return_offsets_mapping=True)
    vision = model.vision
    out: list[tuple[int, int]] = []
    for token, span in zip(found["input_ids"], found["offset_mapping"], strict=True):
        out += [span] * (vision.n_tokens if vision and token == vision.token_id else 1)
    return out


def pad(
    sequences: Sequence[Sequence[int]], pad_id: int, *, side: str = "right"
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """Pad token sequences to one length; return ids and attention mask."""
    longest = max(len(s) for s in sequences)
    ids = torch.full((len(sequences), longest), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, s in enumerate(sequences):
        where = slice(0, len(s)) if side == "right" else slice(longest - len(s), longest)
        ids[i, where] = torch.tensor(list(s), dtype=torch.long)
        mask[i, where] = 1
    return ids, mask


def pad_id(model: Model) -> int:
    """Return any valid token for padding; masks make its choice irrelevant."""
    tokenizer = model.tokenizer
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if isinstance(candidate, int):
            return candidate
    return 0


def batches(
    model: Model,
    sequences: Sequence[Sequence[int]],
    *,
    max_tokens: int = 4096,
    side: str = "right",
) -> Iterator[Batch]:
    """Group sequences of similar length into padded batches of at most `max_tokens` tokens."""
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and len(sequences[order[end]]) * (end + 1 - start) <= max_tokens:
            end += 1
        rows = tuple(order[start : max(end, start + 1)])
        chosen = [sequences[i] for i in rows]
        ids, mask = pad(chosen, pad_id(model), side=side)
        pictures = pictures_in(model.vision, chosen)
        yield Batch(ids.to(model.device), mask.to(model.device), rows, pictures, model.vision)
        start += len(rows)


def count_batches(model: Model, sequences: Sequence[Sequence[int]], max_tokens: int = 4096) -> int:
    """Return how many batches `batches` will make."""
    return sum(1 for _ in batches(model, sequences, max_tokens=max_tokens))


def next_token_logits(
    model: Model, prompts: Sequence[str], *, progress: Progress = SILENT
) -> Float[Tensor, "prompt vocab"]:
    """Return the logits of the token that follows each prompt, in the prompts' order."""
    sequences = [encode(model, p) for p in prompts]
    out: Tensor | None = None
    groups = list(batches(model, sequences))
    for batch in progress.track(groups, "next-token logits"):
        with torch.no_grad():
            logits = _last_logits(model, batch)
        if out is None:
            out = logits.new_empty(len(prompts), logits.shape[-1])
        out[list(batch.rows)] = logits
    if out is None:
        raise WorkbenchError("There is no prompt to run; give at least one.")
    return out


def _last_logits(model: Model, batch: Batch) -> Float[Tensor, "batch vocab"]:
    """Unembed only the last position of each row."""
    hf = model.hf
    hidden = hf.base_model(**batch.inputs, use_cache=False).last_hidden_state
    last = hidden[torch.arange(len(batch.rows), device=hidden.device), batch.lengths - 1]
    return unembed(model, last)


def final_norm(model: Model, hidden: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
    """Normalise the residual stream behind the last block, as the unembedding reads it."""
    return model.hf.get_submodule(model.structure.final_norm)(hidden)


def unembed(model: Model, hidden: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocab"]:
    """Map the final, normalised residual stream to logits, soft cap included."""
    head: Any = model.hf.get_output_embeddings()
    logits = head(hidden)
    cap = getattr(model.config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


@torch.no_grad()
def generate(
    model: Model,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 16,
    stop: str | None = "\n",
    max_tokens: int = 4096,
    progress: Progress = SILENT,
) -> list[str]:
    """Continue each prompt greedily.

    Args:
        model: the model to run.
        prompts: texts to continue.
        max_new_tokens: most tokens to generate for each.
        stop: cut each answer before this text; None keeps everything.
        max_tokens: prompt tokens in one batch.
        progress: where to report.

    Returns:
        The continuations in the prompts' order, special tokens removed.

    Raises:
        WorkbenchError: a prompt is empty or does not leave room in the context.
    """
    sequences = [encode(model, p, room=max_new_tokens) for p in prompts]
    out = [""] * len(prompts)
    groups = list(batches(model, sequences, max_tokens=max_tokens, side="left"))
    for batch in progress.track(groups, "generating"):
        ids, mask = batch.input_ids, batch.attention_mask
        new = new_tokens(model, ids, mask, max_new_tokens, pixels=batch.pixels, stop=stop)
        texts = model.tokenizer.batch_decode(new, skip_special_tokens=True)
        for row, text in zip(batch.rows, texts, strict=True):
            out[row] = text.split(stop)[0] if stop else text
    return out


def decode(model: Model, ids: Sequence[int]) -> str:
    """Turn token ids back into text, special tokens kept."""
    return str(model.tokenizer.decode(list(ids), skip_special_tokens=False))
