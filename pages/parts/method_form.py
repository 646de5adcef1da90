"""The settings of an edit method: one widget each, made from its config and its documentation."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import streamlit as st

from workbench.edit.registry import METHODS, settings_help
from workbench.plans.edit import suggested_settings

from parts.state import request, workspace

_FIRST = ("target", "solve", "strength", "rank", "weight", "tokens")
_LABELS = {"rank": "rank (0: full)"}


def settings_form(method: str) -> dict[str, Any]:
    """Draw one widget a setting of the method; return those that differ from its defaults.

    Those that the request suggests are returned even where someone went back to the default.
    """
    config = METHODS[method].config
    default, helps = config(), settings_help(method)
    suggested = suggested_settings(workspace().request, request(), method=method)
    hints = get_type_hints(config)
    names = [f.name for f in fields(config) if f.name not in ("seed", "at")]
    first = [n for n in _FIRST if n in names]
    values: dict[str, Any] = {}
    columns = st.columns(3)
    for i, name in enumerate(first):
        with columns[i % 3]:
            values[name] = _setting(method, name, hints[name], default, suggested, helps)
    with st.expander("All settings"):
        rest = [n for n in names if n not in first]
        columns = st.columns(4)
        for i, name in enumerate(rest):
            with columns[i % 4]:
                values[name] = _setting(method, name, hints[name], default, suggested, helps)
    out = {n: v for n, v in values.items() if n in suggested or v != getattr(default, n)}
    sites = {k: v for k, v in suggested.items() if "." in k}
    if sites:
        words = ", ".join(f"{k} = {v}" for k, v in sites.items())
        st.caption(f"Suggested for this request at one site only: {words}")
    return out | sites


def _setting(
    method: str,
    name: str,
    hint: Any,
    default: Any,
    suggested: dict[str, Any],
    helps: dict[str, str],
) -> Any:
    value = suggested.get(name, getattr(default, name))
    label, key = _LABELS.get(name, name.replace("_", " ")), f"{method} {name} {workspace().request}"
    options = _words(hint)
    if options:
        return st.selectbox(label, options, options.index(value), key=key, help=helps.get(name))
    if isinstance(value, bool):
        return st.checkbox(label, value, key=key, help=helps.get(name))
    if isinstance(value, float):
        step = 0.1 if value < 10 else 1.0
        small = 0 < value < 0.01
        return st.number_input(
            label,
            min_value=0.0,
            value=value,
            step=value if small else step,
            format="%.1e" if small else "%.2f",
            key=key,
            help=helps.get(name),
        )
    if isinstance(value, str):
        return st.text_input(label, value, key=key, help=helps.get(name)).strip()
    if value is None and name not in _LABELS:
        return (
            st.text_input(label, placeholder="automatic", key=key, help=helps.get(name)).strip()
            or None
        )
    whole = st.number_input(
        label, min_value=0, value=value or 0, step=1, key=key, help=helps.get(name)
    )
    return None if value is None and whole == 0 else int(whole)


def _words(hint: Any) -> list[str]:
    """Return the words that a setting can be; empty if it is a number."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [w for part in get_args(hint) for w in _words(part)]
