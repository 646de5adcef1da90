"""The workspace: one value that holds what a user has chosen and made so far.

It holds names, not models: the model is loaded by its name, the request by its name or file, edits
by their runs. So it can be written into an address, and opened again after a restart.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from workbench.edit.buffer import Site
from workbench.edit.stamp import SITES
from workbench.errors import WorkbenchError
from workbench.job_inputs import default_request
from workbench.models.components import Component, ComponentSet
from workbench.models.delta import WeightDelta
from workbench.models.model import Model
from workbench.models.paths import FIRST_MODEL
from workbench.plans.plan import apply_deltas
from workbench.store.store import RunStore

STRONGEST = 1.5


@dataclass(frozen=True)
class StackedEdit:
    """One edit of the stack.

    Attributes:
        run: the run that made it.
        name: what the user calls it.
        strength: how much of it is applied, 0 to 1.5; 1 is as it was made.
        on: whether it is applied.
        pinned: kept at hand for comparisons.
    """

    run: str
    name: str
    strength: float = 1.0
    on: bool = True
    pinned: bool = False

    def __post_init__(self) -> None:
        """Refuse a strength out of range."""
        if not 0 <= self.strength <= STRONGEST:
            raise WorkbenchError(f"The strength must lie between 0 and {STRONGEST}.")


@dataclass(frozen=True)
class Workspace:
    """What a user has at hand.

    Attributes:
        model: name of the model.
        request: name or file of the request.
        selection: chosen components by site.
        edits: the stack, oldest first.
        trace: run of the localization that is looked at.
    """

    model: str = "demo"
    request: str = "athletes"
    selection: Mapping[Site, ComponentSet] = field(default_factory=dict)
    edits: tuple[StackedEdit, ...] = ()
    trace: str = ""

    def __post_init__(self) -> None:
        """Keep sites in their order and without empty ones."""
        chosen = {s: self.selection[s] for s in SITES if len(self.selection.get(s, ()))}
        object.__setattr__(self, "selection", MappingProxyType(chosen))

    def selected(self, site: Site, components: ComponentSet) -> Workspace:
        """Replace what is chosen at a site."""
        return replace(self, selection={**self.selection, site: components})

    def adding(self, site: Site, components: Sequence[Component]) -> Workspace:
        """Add components to a site; those that are there already stay once."""
        every = (*self.selection.get(site, ()), *components)
        return self.selected(site, ComponentSet(tuple(dict.fromkeys(every))))

    @property
    def active(self) -> tuple[StackedEdit, ...]:
        """The edits that are switched on and not at strength 0."""
        return tuple(e for e in self.edits if e.on and e.strength > 0)

    def edit(self, run: str) -> StackedEdit:
        """Return one edit of the stack.

        Raises:
            WorkbenchError: it is not there.
        """
        for edit in self.edits:
            if edit.run == run:
                return edit
        raise WorkbenchError(f"There is no edit {run!r} in the stack.")

    def stacked(self, edit: StackedEdit) -> Workspace:
        """Put an edit on top; one that is there already is replaced."""
        others = tuple(e for e in self.edits if e.run != edit.run)
        return replace(self, edits=(*others, edit))

    def changed(self, run: str, **changes: Any) -> Workspace:
        """Change one edit's name, strength, switch or pin."""
        new = replace(self.edit(run), **changes)
        return replace(self, edits=tuple(new if e.run == run else e for e in self.edits))

    def without(self, run: str) -> Workspace:
        """Take one edit off the stack; its run stays."""
        return replace(self, edits=tuple(e for e in self.edits if e.run != run))

    def moved(self, run: str, by: int) -> Workspace:
        """Move one edit up (negative) or down the stack, as far as it goes."""
        order = list(self.edits)
        at = order.index(self.edit(run))
        order.insert(min(max(at + by, 0), len(order) - 1), order.pop(at))
        return replace(self, edits=tuple(order))

    def to_query(self) -> dict[str, str]:
        """Write what can be shared as an address's query."""
        edits = (f"{e.run}*{e.strength:g}{'' if e.on else '*off'}" for e in self.edits)
        query = {
            "model": self.model,
            "facts": self.request,
            **{site: str(chosen) for site, chosen in self.selection.items()},
            "run": self.trace,
            "edits": ",".join(edits),
        }
        return {key: value for key, value in query.items() if value}

    @staticmethod
    def first() -> Workspace:
        """Return the workspace of a new session: on the model that the app was opened on."""
        model = os.environ.get(FIRST_MODEL) or Workspace.model
        return Workspace(model, default_request(model))

    @staticmethod
    def from_query(query: Mapping[str, str]) -> Workspace:
        """Read what `to_query` wrote; what is missing stays as in a new session.

        Raises:
            WorkbenchError: components or edits cannot be read.
        """
        first = Workspace.first()
        model = query.get("model", first.model)
        selection = {s: ComponentSet.parse(query[s]) for s in SITES if query.get(s)}
        edits = [_stacked(text) for text in query.get("edits", "").split(",") if text]
        return Workspace(
            model,
            query.get("facts", default_request(model)),
            selection,
            tuple({e.run: e for e in edits}.values()),
            query.get("run", ""),
        )


def _stacked(text: str) -> StackedEdit:
    run, *rest = text.split("*")
    try:
        name = f"edit {run[-6:]}"  # a name is not worth an address's length
        return StackedEdit(run, name, float(rest[0]) if rest else 1.0, "off" not in rest[1:])
    except ValueError as error:
        raise WorkbenchError(f"Cannot read the edit {text!r} of the address.") from error


def deltas_of(edits: Sequence[StackedEdit], store: RunStore) -> list[WeightDelta]:
    """Read the edits' deltas, each at its strength.

    Raises:
        WorkbenchError: a run is gone or holds no delta.
    """
    return [store.get(e.run).delta() * e.strength for e in edits]


def edited_model(base: Model, edits: Sequence[StackedEdit], store: RunStore) -> Model:
    """Apply a stack to its base; the base stays as it is.

    Deltas add, so the order does not matter for the weights.

    Raises:
        WorkbenchError: a run is gone, or an edit was made for another model.
    """
    return apply_deltas(base, deltas_of(edits, store))


def delta_files(edits: Sequence[StackedEdit], store: RunStore) -> tuple[str, ...]:
    """Return a delta file for each edit, at its strength; scaled ones are written beside the run's.

    Raises:
        WorkbenchError: a run is gone or holds no delta.
    """
    out = []
    for edit in edits:
        record = store.get(edit.run)
        file = record.delta_file()
        if edit.strength != 1:
            file = record.path / f"delta-{edit.strength:g}.safetensors"
            if not file.is_file():
                (record.delta() * edit.strength).save(file)
        out.append(str(file))
    return tuple(out)
