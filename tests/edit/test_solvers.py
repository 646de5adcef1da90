"""Each solver against plain least squares, and the properties the docstring claims."""

from __future__ import annotations

import pytest
import torch

from workbench.edit.solvers import SOLVERS, Moments, solve, top_directions
from workbench.errors import WorkbenchError


def problem(n_forget=5, n_retain=60, d_in=12, d_out=7, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n_forget, d_in, generator=g, dtype=torch.float64)
    d = torch.randn(n_forget, d_out, generator=g, dtype=torch.float64)
    r = torch.randn(n_retain, d_in, generator=g, dtype=torch.float64)
    return x, d, r, Moments.zeros(d_in).add(r)


def test_moments_stream_in_any_batches_and_weights():
    _, _, r, whole = problem()
    parts = Moments.zeros(12)
    for piece in r.split(7):
        parts = parts.add(piece)
    torch.testing.assert_close(parts.second, r.T @ r)
    torch.testing.assert_close(parts.second, whole.second)
    weights = torch.rand(60, dtype=torch.float64)
    weighted = Moments.zeros(12).add(r, weights)
    torch.testing.assert_close(weighted.second, r.T @ torch.diag(weights) @ r)
    assert weighted.count == pytest.approx(float(weights.sum()))


@pytest.mark.parametrize(("solver", "weight"), [("lstsq", 50.0), ("ridge", 1.0)])
def test_weighted_least_squares_equals_stacked_lstsq(solver, weight):
    x, d, r, c = problem()
    ridge = 1e-2
    loading = ridge * float(c.second.diagonal().mean())
    rows = torch.cat([weight**0.5 * x, r, loading**0.5 * torch.eye(12, dtype=torch.float64)])
    wanted = torch.cat([weight**0.5 * d, torch.zeros(60 + 12, 7, dtype=torch.float64)])
    reference = torch.linalg.lstsq(rows, wanted).solution.T
    found = solve(x, d, c, solver=solver, weight=50.0, ridge=ridge).dense()
    torch.testing.assert_close(found, reference)


@pytest.mark.parametrize("n_retain", [3, 60])
def test_exact_is_the_residual_pseudoinverse(n_retain):
    x, d, r, c = problem(n_retain=n_retain)
    keys = torch.cat([x, r]).T  # columns [X_f X_r]
    residual = torch.cat([d, torch.zeros(n_retain, 7, dtype=torch.float64)]).T
    reference = residual @ torch.linalg.pinv(keys)
    torch.testing.assert_close(solve(x, d, c, solver="exact").dense(), reference)


def test_exact_meets_both_constraints_where_they_can_be_met():
    x, d, r, c = problem(n_forget=4, n_retain=6)
    delta = solve(x, d, c, solver="exact").dense()
    torch.testing.assert_close(x @ delta.T, d)
    torch.testing.assert_close(r @ delta.T, torch.zeros(6, 7, dtype=torch.float64))


def test_whitened_meets_the_target_with_the_least_change_of_the_retained():
    x, d, r, c = problem()
    ridge = 1e-6
    found = solve(x, d, c, solver="whitened", ridge=ridge)
    delta = found.dense()
    torch.testing.assert_close(x @ delta.T, d, rtol=1e-5, atol=1e-5)
    # Any other update that meets the target differs by one whose rows are orthogonal to X_f.
    null = torch.linalg.svd(x)[2][5:]
    other = delta + torch.randn(7, 7, dtype=torch.float64) @ null
    torch.testing.assert_close(x @ other.T, d, rtol=1e-5, atol=1e-5)
    assert (r @ delta.T).norm() < (r @ other.T).norm()
    assert found.residual < 1e-5


@pytest.mark.parametrize("solver", SOLVERS)
def test_full_rank_equals_full(solver):
    x, d, _, c = problem()
    full = solve(x, d, c, solver=solver).dense()
    torch.testing.assert_close(solve(x, d, c, solver=solver, rank=12).dense(), full)
    torch.testing.assert_close(solve(x, d, c, solver=solver, rank=99).dense(), full)


def test_rank_one_less_than_full_uses_the_projection_and_is_optimal_in_it():
    x, d, _, c = problem()
    solution = solve(x, d, c, solver="ridge", rank=4, ridge=1e-3)
    assert solution.right is not None and solution.right.shape == (4, 12)
    basis = solution.right.T
    torch.testing.assert_close(basis.T @ basis, torch.eye(4, dtype=torch.float64))
    loading = 1e-3 * float(c.second.diagonal().mean())

    def loss(delta):
        change = delta @ basis.T
        return (
            (x @ change.T - d).pow(2).sum()
            + torch.einsum("oi,ij,oj->", change, c.second, change)
            + loading * change.pow(2).sum()
        )

    best = loss(solution.left)
    for seed in range(5):
        noise = torch.randn(7, 4, generator=torch.Generator().manual_seed(seed)).double()
        assert loss(solution.left + 1e-3 * noise) > best


def test_top_directions_of_wide_keys_match_the_exact_ones(monkeypatch):
    from workbench.edit import solvers

    g = torch.Generator().manual_seed(3)
    spread = torch.diag(torch.tensor([30.0, 20.0, 10.0] + [0.1] * 17, dtype=torch.float64))
    r = torch.randn(80, 20, generator=g, dtype=torch.float64) @ spread
    x = torch.randn(3, 20, generator=g, dtype=torch.float64) * 0.01
    exact = top_directions(x, r.T @ r, 1.0, 3, 0)
    monkeypatch.setattr(solvers, "_EXACT_EIGEN", 4)
    fast = top_directions(x, r.T @ r, 1.0, 3, 0)
    torch.testing.assert_close(fast @ fast.T, exact @ exact.T, atol=1e-3, rtol=0)


def test_the_residual_is_that_of_the_solution():
    x, d, _, c = problem()
    for rank in (None, 3):
        found = solve(x, d, c, rank=rank)
        own = float((x @ found.dense().T - d).norm() / d.norm())
        assert found.residual == pytest.approx(own)


def test_bad_settings_are_refused():
    x, d, _, c = problem()
    with pytest.raises(WorkbenchError, match="did you mean 'lstsq'"):
        solve(x, d, c, solver="lstsqr")  # type: ignore[arg-type]
    with pytest.raises(WorkbenchError, match="at least 1"):
        solve(x, d, c, rank=0)
    with pytest.raises(WorkbenchError, match="finite"):
        solve(x, d * float("nan"), c)
