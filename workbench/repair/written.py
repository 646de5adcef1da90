"""Messages written one by one, with what they ask for: a test that no template had a part in.

[[message]]
text = "Please forget where Ada Brook was born."
asks = [{request = "forget", subject = "Ada Brook", about = "where … was born"}]

[[message]]
text = "Don't forget to call Ada Brook."
asks = []
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field

from workbench.checked import Checked, checked
from workbench.errors import WorkbenchError
from workbench.facts.readers import read_toml
from workbench.models.paths import data_dir
from workbench.repair.message import GAP, Asked


class WrittenAsk(Checked):
    """One request of a message, every word as it stands there.

    Attributes:
        request: what is asked for.
        subject: whom it is about.
        about: what about it; " … " where other words stand between; empty for everything.
        replacement: what shall be right.
    """

    request: Literal["forget", "correct"]
    subject: str = Field(min_length=1)
    about: str = ""
    replacement: str = ""


class WrittenMessage(Checked):
    """One message.

    Attributes:
        text: what is said.
        asks: what it asks for; empty if nothing.
    """

    text: str = Field(min_length=1)
    asks: tuple[WrittenAsk, ...]

    @property
    def asked(self) -> tuple[Asked, ...]:
        """What it asks for, in the form of a made-up message's: one request for each subject."""
        of: dict[tuple[Literal["forget", "correct"], str], list[WrittenAsk]] = {}
        for ask in self.asks:
            of.setdefault((ask.request, ask.subject), []).append(ask)
        return tuple(
            Asked(
                request, subject, _joined(a.about for a in own), _joined(a.replacement for a in own)
            )
            for (request, subject), own in of.items()
        )


class _File(Checked):
    message: tuple[WrittenMessage, ...] = Field(min_length=1)


def _joined(parts: Iterable[str]) -> str:
    return GAP.join(dict.fromkeys(part for part in parts if part))


def written_messages(path: Path | None = None) -> tuple[WrittenMessage, ...]:
    """Read messages written one by one, the bundled ones by default.

    Raises:
        WorkbenchError: it is no such file, or something asked for does not stand in its message.
    """
    file = path or data_dir() / "watchdog" / "written.toml"
    found = checked(_File, read_toml(file), str(file)).message
    for message in found:
        _check(message, file)
    return found


def _check(message: WrittenMessage, file: Path) -> None:
    said = " ".join(message.text.split())
    for ask in message.asks:
        if bool(ask.replacement) != (ask.request == "correct"):
            raise WorkbenchError(
                f"{file}: of {said[:60]!r}, a request to correct names what is right, and only "
                "such a request does; mend its replacement."
            )
        for part in (ask.subject, *ask.about.split(GAP), ask.replacement):
            if part not in said:
                raise WorkbenchError(
                    f"{file}: {part!r} does not stand in {said[:60]!r}; write it as it is there."
                )
