"""Prompts that carry their picture, and the tokens that stand for it.

A picture goes where its prompt goes: `Pictured` is a text that keeps its pictures when something is
put before or behind it, and the tokens made of it, `ImageToken`, know which picture they are a part
of. So code that joins, cuts, groups and compares prompts and tokens serves images unchanged, and
two prompts of the same words about different pictures are never taken for one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import add
from typing import Any

from workbench.errors import WorkbenchError
from workbench.models.pictures import Picture

MARKER = "<image>"  # where the picture stands in a prompt


class Pictured(str):
    """A text with a picture for each of its image markers, in order.

    It equals only a text with the same pictures. Texts made of it by `+` and by the methods below
    keep the pictures; others (format strings, slices) are plain, and a plain text with an image
    marker is refused when it is turned into tokens.
    """

    pictures: tuple[Picture, ...]

    def __new__(cls, text: str, pictures: Sequence[Picture]) -> Pictured:
        """Give a text its pictures."""
        self = super().__new__(cls, text)
        self.pictures = tuple(pictures)
        return self

    def __getnewargs__(self) -> tuple[str, tuple[Picture, ...]]:  # type: ignore[override]
        """Copy and pickle with the pictures."""
        return (str(self), self.pictures)

    def __add__(self, other: str) -> Pictured:
        return carrying(str(self) + str(other), self, other)  # type: ignore[return-value]

    def __radd__(self, other: str) -> Pictured:
        return carrying(str(other) + str(self), other, self)  # type: ignore[return-value]

    def replace(self, *args: Any, **kwargs: Any) -> Pictured:
        """Replace words as any text does; the pictures stay."""
        return Pictured(str(self).replace(*args, **kwargs), self.pictures)

    def removeprefix(self, prefix: str) -> Pictured:
        """Remove words from the beginning as any text does; the pictures stay."""
        return Pictured(str(self).removeprefix(prefix), self.pictures)

    def rstrip(self, characters: str | None = None, /) -> Pictured:
        """Remove characters from the end as any text does; the pictures stay."""
        return Pictured(str(self).rstrip(characters), self.pictures)

    def partition(self, separator: str, /) -> tuple[str, str, str]:
        """Divide it as any text; each picture goes with its image marker."""
        before, found, behind = str(self).partition(separator)
        first = before.count(MARKER)
        then = first + found.count(MARKER)
        ahead, after = self.pictures[:first], self.pictures[then:]
        return (
            Pictured(before, ahead) if ahead else before,
            found,
            Pictured(behind, after) if after else behind,
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Pictured)
            and str.__eq__(self, other)
            and self.pictures == other.pictures
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((str(self), self.pictures))


class ImageToken(int):
    """An image token's id that knows its picture and which of the picture's tokens it is.

    It equals the plain id, and another picture's token only if it is the same part of it.
    """

    picture: Picture
    index: int

    def __new__(cls, token_id: int, picture: Picture, index: int) -> ImageToken:
        """Make one token of a picture."""
        self = super().__new__(cls, token_id)
        self.picture, self.index = picture, index
        return self

    def __getnewargs__(self) -> tuple[int, Picture, int]:  # type: ignore[override]
        """Copy and pickle with the picture."""
        return (int(self), self.picture, self.index)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ImageToken):
            same = (self.index, self.picture) == (other.index, other.picture)
            return same and int.__eq__(self, other)
        return int.__eq__(self, other) if isinstance(other, int) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__


def pictures_of(text: str) -> tuple[Picture, ...]:
    """Return the pictures that a text carries."""
    return text.pictures if isinstance(text, Pictured) else ()


def shown(text: str, picture: Picture) -> str:
    """Give a text the picture for its image marker; a text without one stays as it is.

    Raises:
        WorkbenchError: it has more than one image marker.
    """
    if isinstance(text, Pictured):
        return text
    count = text.count(MARKER)
    if count > 1:
        raise WorkbenchError(
            f"{short(text)} holds {MARKER} {count} times, and the fact has one image; write it "
            "once."
        )
    return Pictured(text, (picture,)) if count else text


def joined(texts: Iterable[str]) -> str:
    """Put texts one behind the other, with their pictures."""
    return reduce(add, texts, "")


def carrying(text: str, *sources: str) -> str:
    """Give a text the pictures of those it was made of, in their order."""
    pictures = tuple(p for source in sources for p in pictures_of(source))
    return Pictured(text, pictures) if pictures else text


def whole_pictures(tokens: Sequence[int], n_tokens: int) -> list[Picture]:
    """Return the pictures that image tokens stand for.

    Args:
        tokens: the image tokens of one sequence.
        n_tokens: tokens of each picture.

    Raises:
        WorkbenchError: tokens without a picture, or a picture that was cut.
    """
    out: list[Picture] = []
    for start in range(0, len(tokens), n_tokens):
        part = list(tokens[start : start + n_tokens])
        first = part[0]
        if not isinstance(first, ImageToken):
            raise WorkbenchError(
                "A prompt holds image tokens but lost its picture; give the prompt of a fact with "
                "an image, or take the image marker out of the text."
            )
        picture = first.picture
        if part != [ImageToken(first, picture, i) for i in range(n_tokens)]:
            raise WorkbenchError(
                f"A prompt was cut within its picture {picture.path.name}, which cannot be read in "
                "parts; use a shorter prompt or another method."
            )
        out.append(picture)
    return out


def short(text: str) -> str:
    """Quote the beginning of a text, for messages."""
    return repr(str(text) if len(text) <= 60 else text[:60] + "...")


def with_digests(value: Any) -> Any:
    """Return JSON types in which prompts and tokens of different pictures differ."""
    if isinstance(value, Pictured):
        return [str(value), [p.digest for p in value.pictures]]
    if isinstance(value, ImageToken):
        return [int(value), value.picture.digest, value.index]
    if isinstance(value, dict):
        return {k: with_digests(v) for k, v in value.items()}
    return [with_digests(v) for v in value] if isinstance(value, (list, tuple)) else value
