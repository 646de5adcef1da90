"""The workspace is a value: nothing chosen or made is lost or doubled, and addresses read back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import make_model
from workbench.edit.edit import origin
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Request
from workbench.models.components import Component, ComponentSet
from workbench.models.delta import Dense, WeightDelta
from workbench.models.model import Model
from workbench.models.paths import FIRST_MODEL
from workbench.plans.plan import apply_deltas, load_deltas
from workbench.store.store import RunStore
from workbench.workspace import StackedEdit, Workspace, edited_model
from workbench.workspace.workspace import delta_files, deltas_of

FAST = settings(max_examples=50)
runs = st.from_regex(r"[A-Za-z0-9][\w.-]{0,20}", fullmatch=True)
strengths = st.integers(0, 150).map(lambda n: n / 100)
edits = st.builds(StackedEdit, runs, runs, strengths, st.booleans(), st.booleans())
stacks = st.lists(edits, max_size=5, unique_by=lambda e: e.run).map(tuple)
components = st.one_of(
    st.builds(Component, st.integers(0, 9), st.sampled_from(["mlp", "attn"])),
    st.builds(Component, st.integers(0, 9), st.sampled_from(["head", "neuron"]), st.integers(0, 9)),
)
sets = st.lists(components, max_size=5).map(lambda found: ComponentSet(tuple(found)))
workspaces = st.builds(
    Workspace,
    st.text(min_size=1),
    st.text(min_size=1),
    st.fixed_dictionaries({}, optional={"subject": sets, "answer": sets}),
    stacks,
    st.just("") | runs,
)
filled = workspaces.filter(lambda w: w.edits)


@FAST
@given(space=workspaces)
def test_an_address_reads_back(space: Workspace) -> None:
    """All but what is the user's own: names and pins."""
    query = space.to_query()
    assert all(isinstance(v, str) and v for v in query.values())
    found = Workspace.from_query(query)
    shared = tuple(StackedEdit(e.run, f"edit {e.run[-6:]}", e.strength, e.on) for e in space.edits)
    assert found == Workspace(space.model, space.request, space.selection, shared, space.trace)
    assert found.to_query() == query


def test_an_address_by_hand() -> None:
    space = Workspace(
        "smollm2",
        "capitals",
        {"answer": ComponentSet.parse("attn.2"), "subject": ComponentSet.parse("mlp.0-1")},
        (StackedEdit("a", "first"), StackedEdit("b", "second", 0.5, on=False)),
        "trace-1",
    )
    assert space.to_query() == {
        "model": "smollm2",
        "facts": "capitals",
        "subject": "mlp.0-1",
        "answer": "attn.2",
        "run": "trace-1",
        "edits": "a*1,b*0.5*off",
    }
    assert Workspace.from_query({}) == Workspace.first() == Workspace()


def test_a_new_session_begins_on_the_model_the_app_was_opened_on(monkeypatch):
    monkeypatch.setenv(FIRST_MODEL, "smollm2")
    assert Workspace.from_query({}) == Workspace.first() == Workspace("smollm2", "capitals")
    assert Workspace.from_query({"model": "demo"}) == Workspace()
    assert Workspace.from_query({"facts": "mine.jsonl"}) == Workspace("smollm2", "mine.jsonl")
    assert Workspace.from_query({"edits": "a"}).edits == (StackedEdit("a", "edit a"),)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"edits": "a*much"}, "Cannot read the edit 'a\\*much'"),
        ({"edits": "a*1.6"}, "between 0 and 1.5"),
        ({"edits": "a*-0.1"}, "between 0 and 1.5"),
        ({"edits": "a*nan"}, "between 0 and 1.5"),
        ({"subject": "mlp"}, "Cannot read component"),
        ({"answer": "layer.1"}, "component kind"),
    ],
)
def test_a_broken_address_is_a_sentence(query: dict[str, str], words: str) -> None:
    with pytest.raises(WorkbenchError, match=words):
        Workspace.from_query(query)


@FAST
@given(space=filled, data=st.data(), by=st.integers(-7, 7))
def test_moving_keeps_every_edit_and_the_order_of_the_others(
    space: Workspace, data: st.DataObject, by: int
) -> None:
    edit = data.draw(st.sampled_from(space.edits))
    found = space.moved(edit.run, by)
    at = space.edits.index(edit)
    assert found.edits.index(edit) == min(max(at + by, 0), len(space.edits) - 1)
    rest = [e for e in space.edits if e is not edit]
    assert [e for e in found.edits if e is not edit] == rest
    assert len(found.edits) == len(space.edits)
    assert found.selection == space.selection and found.to_query().keys() == space.to_query().keys()


@FAST
@given(space=filled, data=st.data(), strength=strengths, on=st.booleans())
def test_a_change_touches_one_edit_in_its_place(
    space: Workspace, data: st.DataObject, strength: float, on: bool
) -> None:
    at = data.draw(st.integers(0, len(space.edits) - 1))
    old = space.edits[at]
    found = space.changed(old.run, strength=strength, on=on, name="new").edits
    assert found[at] == StackedEdit(old.run, "new", strength, on, old.pinned)
    assert (*found[:at], *found[at + 1 :]) == (*space.edits[:at], *space.edits[at + 1 :])
    assert found[at] in Workspace(edits=found).active or not (on and strength)


@FAST
@given(space=filled, data=st.data(), new=edits)
def test_taking_off_and_putting_on(space: Workspace, data: st.DataObject, new: StackedEdit) -> None:
    old = data.draw(st.sampled_from(space.edits))
    less = space.without(old.run)
    assert less.edits == tuple(e for e in space.edits if e is not old)
    assert set(less.stacked(old).edits) == set(space.edits)
    assert less.stacked(old).edits[-1] == old
    more = space.stacked(new).edits
    assert more[-1] == new and len({e.run for e in more}) == len(more)
    assert {e.run for e in more} == {*(e.run for e in space.edits), new.run}
    assert space.without("no such run") == space


def test_what_is_not_in_the_stack_is_a_sentence() -> None:
    for act in (
        lambda w: w.edit("x"),
        lambda w: w.moved("x", 1),
        lambda w: w.changed("x", on=False),
    ):
        with pytest.raises(WorkbenchError, match="no edit 'x' in the stack"):
            act(Workspace(edits=(StackedEdit("a", "a"),)))
    with pytest.raises(WorkbenchError, match=r"between 0 and 1\.5"):
        Workspace(edits=(StackedEdit("a", "a"),)).changed("a", strength=2)


@FAST
@given(space=workspaces, more=st.lists(components, max_size=4))
def test_adding_components_is_a_union(space: Workspace, more: list[Component]) -> None:
    found = space.adding("answer", more)
    assert set(found.selection.get("answer", ())) == {*space.selection.get("answer", ()), *more}
    assert found.selection.get("subject") == space.selection.get("subject")
    assert "answer" not in space.selected("answer", ComponentSet()).selection
    assert list(found.selection) == [s for s in ("subject", "answer") if s in found.selection]


NAME = "model.layers.0.mlp.down_proj.weight"
ASKED = Request(FactSet((Fact("Ada Brook", "Ada Brook plays", " golf"),)))


def stored(store: RunStore, model: Model, value: float) -> str:
    update = Dense(torch.full_like(model.parameters[NAME], value))
    source = origin(model, ASKED, "mlp.0", method="stamp", config={}, seed=0)
    with store.start("edit", {}) as run:
        run.save_delta(WeightDelta({NAME: update}, source))
    return run.id


def test_a_stack_applies_every_edit_at_its_strength(tiny: Model, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    before = tiny.parameters[NAME].clone()
    first, second = stored(store, tiny, 1.0), stored(store, tiny, 0.25)
    stack = (StackedEdit(first, "a", 0.5), StackedEdit(second, "b"))
    found = edited_model(tiny, stack, store)
    torch.testing.assert_close(found.parameters[NAME], before + 0.75)
    turned = edited_model(tiny, stack[::-1], store)
    torch.testing.assert_close(turned.parameters[NAME], before + 0.75)
    assert torch.equal(tiny.parameters[NAME], before)
    assert [d.origin.config.get("scale", 1.0) for d in deltas_of(stack, store)] == [0.5, 1.0]
    assert edited_model(tiny, (), store).parameters[NAME] is tiny.parameters[NAME]


def test_the_files_of_a_stack_make_the_same_model(tiny: Model, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    stack = tuple(StackedEdit(stored(store, tiny, v), "x", s) for v, s in ((1, 1), (2, 0.3)))
    files = delta_files(stack, store)
    assert [Path(f).name for f in files] == ["delta.safetensors", "delta-0.3.safetensors"]
    found = apply_deltas(tiny, load_deltas(files))
    assert found.fingerprint == edited_model(tiny, stack, store).fingerprint
    assert delta_files(stack, store) == files


def test_edits_that_do_not_fit_are_refused(tiny: Model, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    foreign = stored(store, make_model("qwen2", seed=1), 1.0)
    with pytest.raises(WorkbenchError, match="made for another model"):
        edited_model(tiny, (StackedEdit(foreign, "x"),), store)
    with pytest.raises(WorkbenchError, match="There is no run"):
        edited_model(tiny, (StackedEdit("gone", "x"),), store)
    with store.start("measure", {}) as run:
        pass
    with pytest.raises(WorkbenchError, match=r"has no delta\.safetensors"):
        delta_files((StackedEdit(run.id, "x"),), store)


def test_an_edit_on_top_of_another_works_alone(tiny: Model, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    lower = StackedEdit(stored(store, tiny, 1.0), "lower")
    upper = StackedEdit(stored(store, edited_model(tiny, (lower,), store), 0.5), "upper")
    found = edited_model(tiny, (upper,), store)
    torch.testing.assert_close(found.parameters[NAME], tiny.parameters[NAME] + 0.5)
