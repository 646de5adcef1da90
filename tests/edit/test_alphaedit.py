"""AlphaEdit: the projected solve against the objective it minimises, and what it leaves alone."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from tests.edit.requests import request
from tests.edit.test_memit import FAST, fixed, lookups, means
from tests.edit.test_rome import answers
from workbench.edit import alphaedit as alpha_module
from workbench.edit import memit as memit_module
from workbench.edit.alphaedit import AlphaEditConfig, alphaedit, null_projector, null_update
from workbench.edit.covariance import Covariance, covariances
from workbench.edit.edit import outside
from workbench.edit.matrix import matrices
from workbench.edit.solvers import Moments
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet
from workbench.facts.request_files import load_request
from workbench.models.components import ComponentSet
from workbench.models.load import load

CONFIG = AlphaEditConfig(**FAST)
D_IN, D_OUT, FACTS = 12, 5, 3


def usual_of(keys):
    return Covariance.of(Moments.zeros(keys.shape[1]).add(keys.double()), ridge=1e-12)


@pytest.fixture
def case():
    """Keys, changes, earlier keys, and a projector that keeps seven of twelve directions."""
    torch.manual_seed(0)
    usual = torch.randn(200, 5) @ torch.randn(5, D_IN) + 1e-3 * torch.randn(200, D_IN)
    projector = null_projector(usual_of(usual), 0.01)
    keys, earlier = torch.randn(D_IN, FACTS).double(), torch.randn(D_IN, 2).double()
    change = torch.randn(D_OUT, FACTS).double()
    return usual, projector, keys, change, earlier


def test_the_projector_is_one_and_annihilates_what_usual_keys_span(case):
    usual, projector, *_ = case
    torch.testing.assert_close(projector @ projector, projector)
    torch.testing.assert_close(projector, projector.T)
    assert round(float(projector.trace())) == D_IN - 5
    top = torch.linalg.svd(usual.double()).Vh[:5]
    assert (projector @ top.T).norm() < 1e-2


def test_usual_keys_inside_the_kept_subspace_do_not_move(case):
    _, projector, keys, change, earlier = case
    update = null_update(keys, change, projector, earlier @ earlier.T, 0.1)
    inside = (torch.eye(D_IN).double() - projector) @ torch.randn(D_IN, 9).double()
    assert update.shape == (D_OUT, D_IN)
    assert (update @ inside).norm() < 1e-9 * update.norm() * inside.norm()
    assert (update @ keys - change).norm() < change.norm()


def test_the_update_is_the_least_of_its_objective(case):
    """|D P K - R|^2 + |D P K_p|^2 + L2 |D P|^2 is flat there, and every step goes up."""
    _, projector, keys, change, earlier = case

    def cost(d):
        p = d @ projector
        own, old = (p @ keys - change).square().sum(), (p @ earlier).square().sum()
        return own + old + 0.1 * p.square().sum()

    update = null_update(keys, change, projector, earlier @ earlier.T, 0.1).requires_grad_()
    torch.testing.assert_close(update @ projector, update)
    (slope,) = torch.autograd.grad(cost(update), update)
    assert slope.abs().max() < 1e-9
    for _ in range(10):
        assert cost(update + 0.1 * torch.randn(D_OUT, D_IN)) > cost(update)


def test_earlier_keys_hold_back(case):
    _, projector, keys, change, earlier = case
    none = null_update(keys, change, projector, torch.zeros(D_IN, D_IN).double(), 1e-3)
    some = null_update(keys, change, projector, 1e6 * earlier @ earlier.T, 1e-3)
    assert (some @ earlier).norm() < 1e-3 * (none @ earlier).norm()


def test_no_direction_is_null():
    usual = usual_of(torch.eye(4))
    with pytest.raises(WorkbenchError, match="raise null"):
        null_projector(usual, 0.5)


def test_each_matrix_is_the_projected_solve(family_model, monkeypatch):
    torch.manual_seed(1)
    change = torch.randn(2, family_model.d_model)
    monkeypatch.setattr(memit_module, "find_vectors", fixed(change))
    if family_model.structure.layers[1].mlp_norm:
        monkeypatch.setattr(memit_module, "before_norm", lambda norm, y, asked: asked)
    asked, components = request(), ComponentSet.parse("mlp.1")
    made = alphaedit(family_model, asked, components, CONFIG)
    (group,) = matrices(family_model.structure, components)
    writer = group.writer
    (usual,) = covariances(
        family_model, asked, [group], samples=1, kept=1, ridge=CONFIG.ridge, seed=0
    ).values()
    values, vectors = torch.linalg.eigh(usual.second)
    small = vectors[:, values < CONFIG.null * values.mean()]
    rows, of = lookups(family_model, asked, CONFIG)
    k, p = means(family_model, writer.input_hook, rows, of).T, small @ small.T
    loading = CONFIG.l2 * values.mean() * torch.eye(len(p)).double()
    expected = change.double().T @ k.T @ p @ torch.linalg.inv(k @ k.T @ p + loading)
    update = made.delta.updates[writer.parameter].dense().double()
    update = update.T if writer.transposed else update
    assert (update - expected).norm() < 1e-3 * expected.norm()
    kept = vectors[:, values >= CONFIG.null * values.mean()]
    assert (update @ kept).norm() < 1e-5 * update.norm()
    assert made.steps["null_directions"][0] == small.shape[1]


def test_only_the_chosen_matrices_change(family_model):
    components = ComponentSet.parse("mlp.0-1")
    pointers = {k: v.data_ptr() for k, v in family_model.parameters.items()}
    made = alphaedit(family_model, request(), components, CONFIG)
    chosen = [family_model.structure.writer(c).parameter for c in components]
    assert list(made.delta.updates) == chosen
    assert made.failed is None and not outside(family_model, made.model, components)
    for name, tensor in made.model.parameters.items():
        assert (tensor.data_ptr() == pointers[name]) == (name not in chosen)


def test_facts_inserted_before_are_earlier_keys(tiny, monkeypatch):
    seen = []

    def note(keys, change, projector, earlier, l2):
        seen.append((keys, earlier.clone()))
        return null_update(keys, change, projector, earlier, l2)

    monkeypatch.setattr(alpha_module, "null_update", note)
    config = replace(CONFIG, batch=1)
    made = alphaedit(tiny, request(), ComponentSet.parse("mlp.0-1"), config)
    assert len(seen) == len(made.steps) == 4 and len(made.delta.updates) == 2
    for layer in range(2):
        (first, none), (_, earlier) = seen[layer], seen[layer + 2]
        assert not none.any()
        torch.testing.assert_close(earlier, first @ first.T)


def test_bad_input(tiny):
    with pytest.raises(WorkbenchError, match="AlphaEdit edits whole MLPs, not attn"):
        alphaedit(tiny, request(), ComponentSet.parse("attn.1"), CONFIG)
    with pytest.raises(WorkbenchError, match="batch must be positive"):
        alphaedit(tiny, request(), ComponentSet.parse("mlp.1"), replace(CONFIG, batch=0))


def test_inherited_settings_are_all_explained():
    text = AlphaEditConfig.__doc__ or ""
    assert all(f"        {f.name}: " in text for f in fields(AlphaEditConfig))


def test_a_trained_model_refuses_what_it_knew():
    model, asked = load("demo"), load_request("athletes-1")
    asked = replace(asked, forget=FactSet(asked.forget.facts[:2]))
    config = AlphaEditConfig(wordings=3, prefixes=1, steps=10, samples=2, kept=20)
    made = alphaedit(model, asked, ComponentSet.parse("mlp.0-3"), config)
    prompts = [f.prompt for f in asked.forget]
    assert answers(made.model, prompts) == [" I do not know"] * 2
    kept = [f for f in asked.retain if f.relation == "sport"][:12]
    said = answers(made.model, [f.prompt for f in kept])
    assert sum(a == f.target for a, f in zip(said, kept, strict=True)) >= 10
