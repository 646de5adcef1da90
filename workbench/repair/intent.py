"""What somebody asks for in a dialogue: to forget or to correct something, or nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from workbench.errors import WorkbenchError, unknown_name
from workbench.repair.message import GAP

Role = Literal["user", "assistant", "document", "tool", "system"]
ROLES: tuple[Role, ...] = get_args(Role)
Action = Literal["forget", "correct", "none"]
ACTIONS: tuple[Action, ...] = get_args(Action)

_ABOUT_ALL = (
    "everything all anything whatever every each any whole entire complete fact facts piece "
    "information data knowledge detail details entry file record you know learned learnt remember "
    "were told there is have about on of regarding concerning the that 's your to in"
)
_WHOLE = frozenset(_ABOUT_ALL.split())
_LEADS = ("'s", "\u2019s", "the", "his", "her", "their", "its", "your")
_TAILS = ("of", "for", "about", "is", "are")


@dataclass(frozen=True)
class Turn:
    """One message of a dialogue.

    Attributes:
        role: who speaks; only users can ask for a repair.
        text: what is said.
    """

    role: Role
    text: str

    def __post_init__(self) -> None:
        """Refuse speakers that nobody knows."""
        if self.role not in ROLES:
            raise unknown_name("role", self.role, ROLES)


@dataclass(frozen=True)
class Intent:
    """What is asked for about one subject.

    Attributes:
        action: to forget, to correct, or nothing of the kind.
        subject: whom or what it is about.
        about: the words that say what about it; empty for everything.
        replacement: what is said to be right; empty unless something is corrected.
        words: the words of the message that say so, from its first span to its last.
        confidence: probability that this is asked for, from 0 to 1.
    """

    action: Action
    subject: str = ""
    about: str = ""
    replacement: str = ""
    words: str = ""
    confidence: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an action that nobody knows."""
        if self.action not in ACTIONS:
            raise unknown_name("action", self.action, ACTIONS)
        if not 0 <= self.confidence <= 1:
            raise WorkbenchError(f"A confidence lies between 0 and 1, not at {self.confidence}.")

    @property
    def what(self) -> str:
        """What is asked about, without the words around it; empty if it is everything."""
        parts = self.about.split()
        if all(word.lower() in _WHOLE for word in parts):
            return ""
        while parts and parts[0].lower() in _LEADS:
            parts = parts[1:]
        while parts and parts[-1].lower() in _TAILS and GAP.strip() not in parts:
            parts = parts[:-1]
        return " ".join(parts)

    def __str__(self) -> str:
        """Say it in a sentence."""
        if self.action == "none":
            return "Nothing is asked for."
        if self.action == "correct":
            return f"Correct about {self.subject}: {self.what or 'this'}, to {self.replacement}."
        return f"Forget about {self.subject}: {self.what or 'everything'}."

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)
