"""The watchdog's network: what it sees of a token, and a label for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench.repair.words import SHAPES, VOICES, Word, shape

LABELS = (
    *("", "forget subject", "forget about", "correct subject", "correct about"),
    *("correct replacement", "mention subject", "mention about"),
)
_UNKNOWN = 1  # token 0 is padding
_SUFFIXES = 16384  # so many that the 3,000 endings of the templates and of made-up names share few


Token = tuple[int, int, int, int, int]  # numbers of a word, its ending, shape, voice and meaning


@dataclass(frozen=True)
class Known:
    """The words that a watchdog knows.

    Attributes:
        words: the number of each word that it has learned about.
        meanings: the number of each word whose meaning it was given.
    """

    words: Mapping[str, int]
    meanings: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class NetConfig:
    """Sizes of the network.

    Attributes:
        word: width of a word's embedding.
        meaning: width of a word's meaning.
        form: width of the embeddings of its ending, its shape and its voice, each.
        hidden: channels of the convolutions.
        reach: tokens that a convolution sees.
        spread: distance between those tokens, one number a layer.
        dropout: share of states dropped in training.
    """

    word: int = 64
    meaning: int = 64
    form: int = 16
    hidden: int = 160
    reach: int = 5
    spread: tuple[int, ...] = (1, 2, 4, 1)
    dropout: float = 0.25


class Net(nn.Module):
    """Labels tokens: embeddings, convolutions, and beside each token a summary of all."""

    def __init__(self, n_words: int, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(n_words + 2, config.word, padding_idx=0)
        self.suffixes = nn.Embedding(_SUFFIXES + 1, config.form, padding_idx=0)
        self.shapes = nn.Embedding(len(SHAPES) + 1, config.form, padding_idx=0)
        self.voices = nn.Embedding(len(VOICES) + 1, config.form, padding_idx=0)
        self.enter = nn.Linear(config.word + 3 * config.form + config.meaning, config.hidden)
        self.layers = nn.ModuleList(
            nn.Linear(config.reach * config.hidden, config.hidden) for _ in config.spread
        )
        self.summary = nn.Linear(2 * config.hidden, config.hidden)
        self.drop = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.hidden, len(LABELS))

    def forward(
        self, ids: Int[Tensor, "batch pos 5"], meant: Float[Tensor, "batch pos meaning"]
    ) -> Float[Tensor, "batch pos label"]:
        """Return the logits of every token's label; padding is all zeros.

        Args:
            ids: the tokens.
            meant: the meanings of their words, zeros where none is known.
        """
        tables = (self.words, self.suffixes, self.shapes, self.voices)
        real = (ids[..., :1] > 0).float()
        read = [table(ids[..., i]) for i, table in enumerate(tables)]
        x = self.enter(torch.cat([*read, meant], -1)) * real
        for i, layer in enumerate(self.layers):
            if i == len(self.layers) - 1:  # the last layer reads with the whole message in mind
                most = x.masked_fill(real == 0, -1e4).amax(1, keepdim=True).expand_as(x)
                x = nn.functional.gelu(self.summary(torch.cat([x, most], -1))) * real
            near = _neighbours(self.drop(x), self.config.reach, self.config.spread[i])
            x = x + nn.functional.gelu(layer(near)) * real
        return self.out(x)


class Committee(nn.Module):
    """Several networks that learned apart: what they say on average is wrong less often."""

    meanings: Float[Tensor, "word meaning"]

    def __init__(self, nets: Iterable[Net], meanings: Float[Tensor, "word meaning"]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)
        none = meanings.new_zeros(1, meanings.shape[1])  # of padding and of unknown words
        self.register_buffer("meanings", torch.cat([none, meanings]))

    @staticmethod
    def of(members: int, known: Known, config: NetConfig) -> Committee:
        """Make one of untrained networks that were given no meanings yet."""
        nets = (Net(len(known.words), config) for _ in range(members))
        return Committee(nets, torch.zeros(len(known.meanings), config.meaning))

    def forward(self, ids: Int[Tensor, "batch pos 5"]) -> Float[Tensor, "batch pos label"]:
        """Return the mean log-probabilities of every token's label."""
        meant = self.meanings[ids[..., 4]]
        return torch.stack([net(ids, meant).log_softmax(-1) for net in self.nets]).mean(0)


def _neighbours(
    x: Float[Tensor, "batch pos hidden"], reach: int, spread: int
) -> Float[Tensor, "batch pos all"]:
    """Put each token's neighbours beside it: `reach` tokens, `spread` apart, zeros outside."""
    far = reach // 2 * spread
    wide = nn.functional.pad(x, (0, 0, far, far))
    return torch.cat([wide[:, i * spread : i * spread + x.shape[1]] for i in range(reach)], -1)


def encoded(tokens: Iterable[Word], known: Known) -> list[Token]:
    """Return the numbers of tokens; 0 is left for padding, and for a meaning that is not known."""
    return [
        (
            known.words.get(w.text.lower(), _UNKNOWN - 2) + 2,
            1 + _hash(w.text.lower()[-3:]) % _SUFFIXES,
            1 + SHAPES.index(shape(w.text)),
            1 + VOICES.index(w.voice),
            1 + known.meanings.get(w.text.lower(), -1),
        )
        for w in tokens
    ]


def _hash(text: str) -> int:
    """Return the same number in every process."""
    out = 0
    for byte in text.encode():
        out = out * 31 + byte & 0xFFFFFFFF
    return out
