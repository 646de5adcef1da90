"""The one exception a user's mistake raises: a sentence that says what was wrong and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WorkbenchError(Exception):
    """What was wrong with the input and what to do about it, in one sentence."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> WorkbenchError:
    """Build the error for a name that is in no registry, with the nearest known one.

    Args:
        kind: what the name should have been ("method", "component kind", ...).
        name: what was given.
        known: the names that exist.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}."
    return WorkbenchError(f"Unknown {kind} {name!r}; {hint}")
