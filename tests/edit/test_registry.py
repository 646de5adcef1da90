"""Every method of the registry keeps the promises that all of them make."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from tests.edit.requests import fact, request
from workbench.edit.edit import outside
from workbench.edit.registry import METHODS, edit, settings_help
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet, Request
from workbench.models.components import ComponentSet
from workbench.progress import Cancelled, Progress

SMALL = {  # whichever of these a method has
    **{"confusable": 8, "context": 4, "generations": 4, "counterparts": 3, "chats": 0},
    **{"steps": 2, "batch": 4, "retain_batch": 4, "kept": 8, "neutral": 4, "tries": 2},
    **{"samples": 1, "prefixes": 1, "references": 8, "reinforce_steps": 2, "directions": 4},
    **{"noise": False},  # the model has no pictures to put it on
}


def asked() -> Request:
    """Some of what is kept has other answers than what is forgotten."""
    others = ("Paris Oslo", "Norway Is", "Mother French")
    wanted = request()
    kept = wanted.retain.about(["Danielle Darrieux"])
    return replace(wanted, retain=kept + FactSet(tuple(fact(s, " golf") for s in others)))


def small(name: str) -> dict[str, int]:
    default = METHODS[name].config()
    numbers = {
        f.name for f in fields(default) if isinstance(getattr(default, f.name), (int, float))
    }
    return {key: value for key, value in SMALL.items() if key in numbers} | {"seed": 3}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_changes_its_components_only(tiny, name):
    chosen = ComponentSet.parse("mlp.1")
    before = {k: v.clone() for k, v in tiny.parameters.items()}
    found = edit(name, tiny, asked(), chosen, small(name))
    assert found.delta.updates and not outside(tiny, found.model, chosen)
    # what was searched for is written down as what was found
    assert found.delta.origin.method == name.removesuffix("-auto")
    assert found.delta.origin.seed == 3
    assert found.delta.origin.components == "mlp.1" and len(found.steps)
    for key, tensor in tiny.parameters.items():
        assert torch.equal(tensor, before[key])
    again = edit(name, tiny, asked(), chosen, small(name))
    for key, update in found.delta.updates.items():
        assert torch.equal(update.dense(), again.delta.updates[key].dense())


@pytest.mark.parametrize("name", METHODS)
def test_a_method_can_be_stopped_and_refuses_no_components(tiny, name):
    with pytest.raises(Cancelled):
        stop = Progress(cancelled=lambda: True)
        edit(name, tiny, asked(), ComponentSet.parse("mlp.1"), small(name), progress=stop)
    with pytest.raises(WorkbenchError, match="No component"):
        edit(name, tiny, asked(), ComponentSet(), small(name))


@pytest.mark.parametrize("name", METHODS)
def test_components_may_be_given_by_site(tiny, name):
    sites = {"subject": ComponentSet.parse("mlp.1")}
    found = edit(name, tiny, asked(), sites, small(name))
    assert not outside(tiny, found.model, sites["subject"])


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_is_explained_and_a_wrong_one_named(tiny, name):
    known = {f.name for f in fields(METHODS[name].config)}
    assert set(settings_help(name)) == known and METHODS[name].summary
    with pytest.raises(WorkbenchError, match="Unknown setting"):
        edit(name, tiny, asked(), ComponentSet.parse("mlp.1"), {"sed": 1})
