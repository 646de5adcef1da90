"""Muon's update has singular values near 1 and the gradient's singular vectors."""

from __future__ import annotations

import pytest
import torch

from workbench.demo.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6)])
def test_singular_values_come_near_one_and_vectors_stay(shape):
    torch.manual_seed(0)
    gradient = torch.randn(shape)
    moved = orthogonalise(gradient)
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    # In the gradient's singular basis the result must be diagonal: the vectors are its own.
    inside = u.T @ moved @ v.T
    diagonal = inside.diagonal()
    assert torch.allclose(inside, torch.diag(diagonal), atol=1e-4)
    assert diagonal.min() > 0.5 and diagonal.max() < 1.3


def test_one_step_moves_against_the_gradient_by_the_rate():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 4))
    before = weight.detach().clone()
    weight.grad = torch.randn(4, 4)
    grad = weight.grad.clone()
    Muon([weight], lr=0.01).step()
    change = weight.detach() - before
    assert (change * grad).sum() < 0
    assert 0.005 < torch.linalg.matrix_norm(change, 2) < 0.013
