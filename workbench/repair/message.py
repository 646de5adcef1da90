"""What a made-up message consists of, and what it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Label = Literal["", "subject", "about", "replacement"]
Request = Literal["forget", "correct", "mention"]

GAP = " … "  # between the words that say what about a subject, where it stands among them


@dataclass(frozen=True)
class Piece:
    """Some characters of a message.

    Attributes:
        text: the characters.
        label: what they are.
        request: of what they are that; "mention" of what nobody asks to change.
        group: which request of the message they belong to.
    """

    text: str
    label: Label = ""
    request: Request = "mention"
    group: int = 0


@dataclass(frozen=True)
class Asked:
    """One request of a made-up message, or something it only mentions.

    Attributes:
        request: what is asked for.
        subject: whom it is about, as it stands in the message.
        about: what about it, as it stands there; " … " where the subject stands in between.
        replacement: what shall be right.
    """

    request: Request
    subject: str
    about: str
    replacement: str = ""


@dataclass(frozen=True)
class Message:
    """A made-up message.

    Attributes:
        pieces: its characters in order.
        frame: the template it was made from.
    """

    pieces: tuple[Piece, ...]
    frame: str

    @property
    def text(self) -> str:
        """What is said."""
        return "".join(p.text for p in self.pieces)

    @property
    def asked(self) -> tuple[Asked, ...]:
        """What is asked for; empty if nothing is."""
        groups = dict.fromkeys(p.group for p in self.pieces if p.label and p.request != "mention")
        return tuple(self._asked(group) for group in groups)

    def _asked(self, group: int) -> Asked:
        own = [p for p in _runs(self.pieces) if p.group == group and p.label]
        said: dict[str, dict[str, str]] = {"subject": {}, "about": {}, "replacement": {}}
        for piece in own:  # what is said twice counts once, however it is written
            text = " ".join(piece.text.split())
            said[piece.label].setdefault(text.lower(), text)
        subject, about, replacement = (GAP.join(parts.values()) for parts in said.values())
        return Asked(own[0].request, subject, about, replacement)


def _runs(pieces: Sequence[Piece]) -> list[Piece]:
    """Join neighbours that say the same thing of the same request, with only a space between."""
    out: list[Piece] = []
    for piece in pieces:
        kind = (piece.label, piece.request, piece.group)
        gap = bool(out) and not out[-1].label and out[-1].text.isspace()
        last = out[-1 - gap] if len(out) > gap else None
        if piece.label and last and (last.label, last.request, last.group) == kind:
            between = out[-1].text if gap else ""
            out[-1 - gap :] = [replace(piece, text=last.text + between + piece.text)]
        else:
            out.append(piece)
    return out
