"""What a training edit learns from: prompts with answers, as tokens, in batches.

Only answers are learned, so only their positions are unembedded: over a large vocabulary that is
most of the memory and much of the time. The logits of a batch come flat, one row an answer token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.facts.prompts import continuation
from workbench.models.model import Model
from workbench.models.text import batches, encode, pad, pad_id, unembed
from workbench.models.vision import pixels_for


@dataclass(frozen=True)
class Examples:
    """Token sequences, each a prompt with its answer.

    Attributes:
        sequences: token ids.
        starts: where each answer begins; 1 for a text that is learned whole.
    """

    sequences: tuple[tuple[int, ...], ...] = ()
    starts: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Count the sequences."""
        return len(self.sequences)

    def __add__(self, other: Examples) -> Examples:
        """Put other examples behind these."""
        return Examples(self.sequences + other.sequences, self.starts + other.starts)

    def take(self, rows: Sequence[int]) -> Examples:
        """Return some of the examples."""
        return Examples(tuple(self.sequences[i] for i in rows), tuple(self.starts[i] for i in rows))

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each example's answer tokens begin among all answer tokens."""
        out, total = [], 0
        for sequence, start in zip(self.sequences, self.starts, strict=True):
            out.append(total)
            total += len(sequence) - start
        return tuple(out)

    @property
    def n_tokens(self) -> int:
        """Count the answer tokens."""
        return sum(len(s) - b for s, b in zip(self.sequences, self.starts, strict=True))

    def tokens_of(self, rows: Sequence[int]) -> Int[Tensor, " token"]:
        """Return the numbers of some examples' answer tokens among all answer tokens."""
        spans = [
            torch.arange(self.offsets[i], self.offsets[i] + len(self.sequences[i]) - self.starts[i])
            for i in rows
        ]
        return torch.cat(spans) if spans else torch.zeros(0, dtype=torch.long)


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says at the answer tokens of some examples.

    Attributes:
        logits: of each answer token, given everything before it; in float32 at least.
        labels: the tokens themselves.
        row: which example each token belongs to.
        rows: the number of examples.
    """

    logits: Float[Tensor, "token vocab"]
    labels: Int[Tensor, " token"]
    row: Int[Tensor, " token"]
    rows: int


def examples(
    model: Model, pairs: Iterable[tuple[str, str]], *, end: Sequence[int] = ()
) -> Examples:
    """Turn prompts and their answers into tokens, one example each, in order.

    Args:
        model: whose tokenizer to use.
        pairs: prompts and answers.
        end: tokens behind every answer.

    Raises:
        WorkbenchError: one of them is longer than the model's context.
    """
    sequences, starts = [], []
    for prompt, answer in pairs:
        ids = encode(model, prompt)
        tail = (*continuation(model, prompt, answer), *end)
        if len(ids) + len(tail) > model.n_ctx:
            raise WorkbenchError(
                f"{prompt[:60]!r} and its answer have {len(ids) + len(tail)} tokens, more than the "
                f"{model.n_ctx} of this model's context; shorten them."
            )
        sequences.append((*ids, *tail))
        starts.append(len(ids))
    return Examples(tuple(sequences), tuple(starts))


def texts(sequences: Iterable[Sequence[int]]) -> Examples:
    """Learn whole texts: every token but the first."""
    kept = tuple(tuple(s) for s in sequences if len(s) > 1)
    return Examples(kept, (1,) * len(kept))


def hidden_states(model: Model, batch: Examples) -> Float[Tensor, "token d_model"]:
    """Return the normalised final stream from which each answer token is predicted."""
    ids, mask = pad(batch.sequences, pad_id(model))
    out = model.hf.base_model(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        use_cache=False,
        **pixels_for(model.vision, batch.sequences, model.device),
    ).last_hidden_state
    row, position = answer_positions(batch)
    return out[row.to(out.device), position.to(out.device)]


def answers(model: Model, batch: Examples) -> Answers:
    """Run a batch and return what the model says at its answer tokens."""
    hidden = hidden_states(model, batch)
    labels = [t for s, b in zip(batch.sequences, batch.starts, strict=True) for t in s[b:]]
    row, _ = answer_positions(batch)
    device = hidden.device
    return Answers(
        _logits(model, hidden), torch.tensor(labels, device=device), row.to(device), len(batch)
    )


def _logits(model: Model, hidden: Float[Tensor, "token d_model"]) -> Float[Tensor, "token vocab"]:
    logits = unembed(model, hidden)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def answer_positions(batch: Examples) -> tuple[Int[Tensor, " token"], Int[Tensor, " token"]]:
    """Return the example of each answer token, and the position that predicts it."""
    pairs = [
        (i, t - 1)
        for i, (s, b) in enumerate(zip(batch.sequences, batch.starts, strict=True))
        for t in range(b, len(s))
    ]
    both = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def reference(
    model: Model, every: Examples, read: Callable[[Answers], Float[Tensor, "token *rest"]]
) -> Float[Tensor, "token *rest"]:
    """Read something off the model at every answer token, once, before the training.

    Args:
        model: the model, which has not been trained yet.
        every: all examples.
        read: what to keep of the answers of a batch; one row a token.

    Returns:
        One row an answer token, in the order of `Examples.tokens_of`.

    Raises:
        WorkbenchError: there is no example.
    """
    return gathered(model, every, lambda batch: read(answers(model, batch)))


def reference_logits(
    model: Model, every: Examples
) -> Callable[[Sequence[int]], Float[Tensor, "token vocab"]]:
    """Return the logits of a model that is not trained, at the answer tokens of chosen rows.

    The model is run once. Its final streams are kept, and unembedded when they are asked for:
    logits of all tokens would take as many times the memory as the vocabulary is wider than they.

    Raises:
        WorkbenchError: there is no example.
    """
    states = gathered(model, every, lambda batch: hidden_states(model, batch))

    def logits(rows: Sequence[int]) -> Float[Tensor, "token vocab"]:
        with torch.no_grad():
            return _logits(model, states[every.tokens_of(rows).to(states.device)])

    return logits


@torch.no_grad()
def gathered(
    model: Model, every: Examples, run: Callable[[Examples], Float[Tensor, "token *rest"]]
) -> Float[Tensor, "token *rest"]:
    """Run all examples in batches; return one row an answer token, in their order."""
    out: Tensor | None = None
    for batch in batches(model, every.sequences):
        part = run(every.take(batch.rows))
        if out is None:
            out = part.new_empty(every.n_tokens, *part.shape[1:])
        out[every.tokens_of(batch.rows).to(out.device)] = part
    if out is None:
        raise WorkbenchError("There is nothing to learn from; give the request facts to retain.")
    return out
