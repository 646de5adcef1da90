"""What common English words mean: a vector for each, read out of a language model.

The watchdog meets words that no template holds. A language model has read them all: the state of
its residual stream at a word, some layers up, is alike for words that are used alike ("salary",
"wages"). The states are centred and turned to their main directions, of which the first are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.facts.readers import read_text
from workbench.models.model import Model
from workbench.models.paths import data_dir
from workbench.models.text import batches, count_batches, encode
from workbench.progress import SILENT, Progress

_LAYER = 12  # of SmolLM2's thirty
_BEFORE = "The meaning of the word"  # a word by itself has hardly any: few texts begin with it


@dataclass(frozen=True, eq=False)
class Meanings:
    """Vectors of words.

    Attributes:
        words: the words, in lower case.
        vectors: a row for each, of mean 0 and of mean squared length `width`.
    """

    words: tuple[str, ...]
    vectors: Float[Tensor, "word width"]

    @staticmethod
    def none() -> Meanings:
        """Return meanings of no word."""
        return Meanings((), torch.zeros(0, 1))

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """The row of each word."""
        return {word: i for i, word in enumerate(self.words)}


def common_words() -> list[str]:
    """Return the most frequent words of English, in the order of the alphabet."""
    return read_text(data_dir() / "watchdog" / "words.txt").split()


@torch.no_grad()
def meanings_of(
    words: Iterable[str], model: Model, *, width: int = 64, progress: Progress = SILENT
) -> Meanings:
    """Read what words mean to a model.

    Args:
        words: the words.
        model: whose states to read: before its layer 12, or in its middle if it has fewer than 24.
        width: numbers a word, or fewer if the model has no such width.
        progress: where to report.

    Raises:
        Cancelled: the progress asked to stop.
    """
    known = sorted(set(words))
    layer = min(_LAYER, model.n_layers // 2)
    start = model.tokenizer.bos_token or ""  # else the first token is the one all others look at
    sequences = [encode(model, f"{start}{_BEFORE} {word}") for word in known]
    states = torch.zeros(len(known), model.d_model)
    total = count_batches(model, sequences)
    for batch in progress.track(batches(model, sequences), "reading words", total):
        stream = model.bridge(
            batch.input_ids, attention_mask=batch.attention_mask, stop_at_layer=layer
        )
        last = batch.lengths - 1
        states[list(batch.rows)] = stream[torch.arange(len(last)), last].float().cpu()
    return Meanings(tuple(known), _main_directions(states, width))


def _main_directions(
    states: Float[Tensor, "word d_model"], width: int
) -> Float[Tensor, "word width"]:
    """Centre the states, give each the same length, and keep their main directions."""
    unit = torch.nn.functional.normalize(states - states.mean(0), dim=-1)
    unit = unit - unit.mean(0)
    _, directions = torch.linalg.eigh(unit.T @ unit)  # the largest last
    main = directions.flip(1)[:, :width]
    main = main * main.sum(0).sign()  # the same on every machine
    vectors = unit @ main
    return vectors * (width / vectors.pow(2).sum(-1).mean()).sqrt()
