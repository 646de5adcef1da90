"""The workspace of a browser session, and the values that it names.

A loaded model is shared by all sessions and never written to; each session works on a fork of it,
with module trees of its own over the same parameters.
"""

from __future__ import annotations

from typing import Any, cast

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.facts.fact import Request
from workbench.job_inputs import default_request, request_for
from workbench.models.load import load
from workbench.models.model import Model
from workbench.store.store import RunStore
from workbench.workspace import Workspace, edited_model

from parts.background import needed

_KEPT_MODELS = 2  # loaded models that stay in memory
_KEPT_REQUESTS = 16


def store() -> RunStore:
    """Return the user's runs."""
    return RunStore.default()


def workspace() -> Workspace:
    """Return this session's workspace; a new session's begins with what its address says."""
    if "workspace" not in st.session_state:
        try:
            st.session_state["workspace"] = Workspace.from_query(dict(st.query_params))
        except WorkbenchError as error:
            st.session_state["workspace"] = Workspace()
            st.session_state["notice"] = f"The address was not understood: {error}"
    return cast(Workspace, st.session_state["workspace"])


def keep(new: Workspace) -> None:
    """Replace the workspace, and what the address says of it."""
    st.session_state["workspace"] = new
    st.query_params.from_dict(new.to_query())


def choose_model(name: str) -> None:
    """Turn to another model; what belonged to the old one is put away."""
    old = workspace()
    if name != old.model:
        keep(Workspace(name, default_request(name)))


def say(text: str) -> None:
    """Show a short message on the next run of the page."""
    st.session_state["notice"] = text


@st.cache_resource(show_spinner=False, max_entries=_KEPT_MODELS)
def _shelf() -> dict[str, Model]:
    """Return the loaded models of all sessions, by name."""
    return {}


def base() -> Model:
    """Return this session's fork of the base model; shows progress while it is loaded."""
    name = workspace().model
    mine = st.session_state.setdefault("models", {})
    if name not in mine:
        shelf = _shelf()
        if name not in shelf:
            loaded = needed(f"load {name}", f"Loading {name}", lambda p: load(name, progress=p))
            while len(shelf) >= _KEPT_MODELS:
                shelf.pop(next(iter(shelf)))
            shelf[name] = loaded
        mine.clear()
        mine[name] = shelf[name].fork()
    return cast(Model, mine[name])


def edited() -> Model:
    """Return the base with the edits that are switched on."""
    return stack(tuple((e.run, e.strength) for e in workspace().active))


def stack(edits: tuple[tuple[str, float], ...]) -> Model:
    """Return the base with some runs' edits at some strengths; the last two stay at hand."""
    from workbench.workspace import StackedEdit

    model = base()
    cache: dict[Any, Model] = st.session_state.setdefault("edited", {})
    key = (workspace().model, edits)
    if not edits:
        return model
    if key not in cache:
        made = edited_model(model, [StackedEdit(run, run, s) for run, s in edits], store())
        while len(cache) >= 2:
            cache.pop(next(iter(cache)))
        cache[key] = made
    return cache[key]


@st.cache_resource(show_spinner=False, max_entries=_KEPT_REQUESTS)
def _requests() -> dict[tuple[str, str], Request]:
    return {}


def request() -> Request:
    """Return the workspace's request; shows progress while a model is asked what it knows."""
    here = workspace()
    return request_named(here.request)


def request_named(name: str) -> Request:
    """Return a request by its name or file, for the workspace's model."""
    model = base()
    read = _requests()
    key = (model.fingerprint, name)
    if key not in read:
        fork = model.fork()
        read[key] = needed(
            f"request {name}",
            f"Reading the request {name}",
            lambda p: request_for(fork, name, progress=p),
        )
    return read[key]
