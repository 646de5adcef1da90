"""The workspace of a browser session, and the values that it names.

A loaded model is shared by all sessions and never written to; each session works on a fork of it,
with module trees of its own over the same parameters.
"""

from __future__ import annotations

from typing import Any, cast

import streamlit as st

from workbench.edit.buffer import Site
from workbench.edit.targets import needed_sites
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet, Request
from workbench.job_inputs import default_request, request_for, to_trace
from workbench.models.load import load
from workbench.models.model import Model
from workbench.recent import remember
from workbench.store.store import RunStore
from workbench.workspace import StackedEdit, Workspace, edited_model

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
            st.session_state["workspace"] = Workspace.first()
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


@st.cache_resource(show_spinner=False)
def _shelf() -> dict[str, Model]:
    """Return the loaded models of all sessions, by name."""
    return {}


def base() -> Model:
    """Return this session's fork of the base model; shows progress while it is loaded."""
    name = workspace().model
    mine: dict[str, Model] = st.session_state.setdefault("models", {})
    return remember(mine, name, lambda: _loaded(name).fork(), most=1)


def _loaded(name: str) -> Model:
    def load_it() -> Model:
        return needed(f"load {name}", f"Loading {name}", lambda p: load(name, progress=p))

    return remember(_shelf(), name, load_it, most=_KEPT_MODELS)


def edited() -> Model:
    """Return the base with the edits that are switched on."""
    return stack(tuple((e.run, e.strength) for e in workspace().active))


def stack(edits: tuple[tuple[str, float], ...]) -> Model:
    """Return the base with some runs' edits at some strengths; the last two stay at hand."""
    model = base()
    if not edits:
        return model
    kept: dict[Any, Model] = st.session_state.setdefault("edited", {})
    stacked = [StackedEdit(run, run, strength) for run, strength in edits]
    key = (workspace().model, edits)
    return remember(kept, key, lambda: edited_model(model, stacked, store()), most=2)


@st.cache_resource(show_spinner=False)
def _requests() -> dict[tuple[str, str], Request]:
    """Return the requests of all sessions, by model and name."""
    return {}


def request() -> Request:
    """Return the workspace's request; shows progress while a model is asked what it knows."""
    return request_named(workspace().request)


def request_named(name: str) -> Request:
    """Return a request by its name or file, for the workspace's model."""
    model = base()

    def read() -> Request:
        fork = model.fork()
        label = f"Reading the request {name}"
        return needed(f"request {name}", label, lambda p: request_for(fork, name, progress=p))

    return remember(_requests(), (model.fingerprint, name), read, most=_KEPT_REQUESTS)


def sites_needed() -> tuple[Site, ...]:
    """Return the sites that the request's behaviour needs; the model is asked once."""
    kept: dict[Any, tuple[Site, ...]] = st.session_state.setdefault("sites needed", {})
    model, wanted = base(), request()
    key = (model.fingerprint, wanted.fingerprint)
    return remember(kept, key, lambda: needed_sites(model, wanted), most=_KEPT_REQUESTS)


def facts_to_trace() -> FactSet:
    """Return the facts to forget in the form in which they are looked at."""
    kept: dict[Any, FactSet] = st.session_state.setdefault("facts to trace", {})
    model, name, wanted = base(), workspace().request, request()

    def ask() -> FactSet:
        fork, label = model.fork(), f"Finding the wordings of {name}"
        return needed(
            f"wordings {name}", label, lambda p: to_trace(fork, name, wanted.forget, progress=p)
        )

    return remember(kept, (model.fingerprint, wanted.fingerprint), ask, most=_KEPT_REQUESTS)
