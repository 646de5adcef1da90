"""Tokens as labels: white space visible, and nothing that Plotly would read as markup."""

from __future__ import annotations

from collections.abc import Sequence

_VISIBLE = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}


def escaped(text: str) -> str:
    """Keep Plotly from reading a text as markup, in labels and hover texts."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def shown(token: str, *, width: int = 24) -> str:
    """Show white space, and characters that cannot be printed as numbers; nothing is escaped.

    Args:
        token: any text.
        width: longest label, in characters; longer ones end in "…".
    """
    text = "".join(_VISIBLE.get(c, c if c.isprintable() else f"\\u{ord(c):04x}") for c in token)
    return (text if len(text) <= width else text[: width - 1] + "…") or "∅"


def visible(token: str, *, width: int = 24) -> str:
    """Show a token as `shown` does, escaped for Plotly."""
    return escaped(shown(token, width=width))


def numbered(tokens: Sequence[str]) -> list[str]:
    """Label tokens by position: the same token may stand there twice."""
    return [f"{i} {visible(token)}" for i, token in enumerate(tokens)]
