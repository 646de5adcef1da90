"""Many edits in a row: what is taken off the stack is gone from memory too."""

from __future__ import annotations

import gc
import weakref

import pytest
from edit.requests import request

from workbench.models.model import Model
from workbench.plans import EditPlan, run_edit
from workbench.store.store import RunStore
from workbench.workspace import StackedEdit, Workspace, edited_model

SMALL = {"confusable": 8, "named": 0, "context": 2, "generations": 2, "chats": 0}


@pytest.mark.slow
def test_after_two_hundred_edits_only_the_last_is_in_memory(tiny: Model, tmp_path) -> None:
    store, here = RunStore(tmp_path), Workspace("tiny", "own")
    asked = request()
    tiny.structure, tiny.bridge  # noqa: B018 - what belongs to the base stays with it
    seen: list[weakref.ref[object]] = []
    for i in range(200):
        plan = EditPlan("tiny", components="mlp.1", settings={**SMALL, "strength": 1 + i / 1000})
        made = run_edit(plan, tiny, asked, store=store)
        if here.edits:
            here = here.without(here.edits[-1].run)
        here = here.stacked(StackedEdit(made.run, f"edit {i}"))
        model = edited_model(tiny, here.active, store)
        seen += [weakref.ref(model.hf), weakref.ref(made.result.model.hf)]
    gc.collect()
    alive = sum(ref() is not None for ref in seen)
    assert alive == 2  # the last edit's
    assert len(store.list()) == 200
