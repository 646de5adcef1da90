"""Token sequences and the positions that an edit reads in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_BEGINNING = 16  # tokens; who shares so many shares a form, a system prompt for instance


@dataclass(frozen=True)
class Rows:
    """Token sequences and the positions to read in each.

    Attributes:
        sequences: token ids.
        picks: positions to read, per sequence.
        weights: weight of each position read; all 1 if empty.
    """

    sequences: tuple[tuple[int, ...], ...]
    picks: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[float, ...], ...] = ()

    def __len__(self) -> int:
        """Count the positions read."""
        return sum(len(p) for p in self.picks)

    def __add__(self, other: Rows) -> Rows:
        """Put other rows behind these."""
        return Rows(
            self.sequences + other.sequences,
            self.picks + other.picks,
            self.all_weights + other.all_weights,
        )

    @property
    def all_weights(self) -> tuple[tuple[float, ...], ...]:
        """The weights, written out."""
        return self.weights or tuple((1.0,) * len(p) for p in self.picks)


def offsets(rows: Rows) -> list[int]:
    """Return where the first pick of each sequence stands among all."""
    out, total = [], 0
    for picks in rows.picks:
        out.append(total)
        total += len(picks)
    return out


def chunks(rows: Rows, max_tokens: int) -> Iterator[list[int]]:
    """Group sequences of similar length, at most `max_tokens` padded tokens together.

    Those with the most common beginning come first: what a whole group shares is run once.
    """
    begins = [sequence[:_BEGINNING] for sequence in rows.sequences]
    counted = Counter(begins).most_common(1)

    def place(i: int) -> tuple[bool, int]:
        return begins[i] != counted[0][0], len(rows.sequences[i])

    group: list[int] = []
    for i in sorted(range(len(rows.sequences)), key=place):
        longest = max(len(rows.sequences[k]) for k in (*group, i))
        if group and longest * (len(group) + 1) > max_tokens:
            yield group
            group = []
        group.append(i)
    if group:
        yield group
