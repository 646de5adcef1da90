"""The covariance of a matrix's keys against TransformerLens's own activations."""

from __future__ import annotations

import pytest
import torch

from tests.edit.requests import facts, request
from workbench.edit import buffer, covariance
from workbench.edit.covariance import MOST_KEYS, Covariance, covariances, self_made_rows
from workbench.edit.matrix import matrices
from workbench.edit.solvers import Moments
from workbench.errors import WorkbenchError
from workbench.facts.fact import Request
from workbench.models.components import ComponentSet
from workbench.models.text import decode, encode

SMALL = {"samples": 2, "kept": 2, "ridge": 1e-3, "seed": 0}


def keys_of(model, hook, sequences):
    """The inputs at a hook point, sequence by sequence, through the bridge."""
    out = []
    for ids in sequences:
        with torch.no_grad():
            model.bridge.run_with_hooks(
                torch.tensor([ids]), fwd_hooks=[(hook, lambda t, hook: out.append(t[0]))]
            )
    return torch.cat(out).double()


def test_it_is_the_mean_outer_product_of_the_keys(family_model):
    groups = matrices(family_model.structure, ComponentSet.parse("mlp.0, mlp.2"))
    found = covariances(family_model, request(), groups, **SMALL)
    tokens = 2 * family_model.structure.d_mlp
    rows = self_made_rows(family_model, request(), tokens=tokens, kept=2, seed=0)
    assert list(found) == [g.writer.parameter for g in groups]
    for group in groups:
        keys = keys_of(family_model, group.writer.input_hook, rows.sequences)
        second = keys.T @ keys / len(keys)
        second += 1e-3 * second.diagonal().mean() * torch.eye(len(second))
        made = found[group.writer.parameter]
        torch.testing.assert_close(made.second, second, atol=1e-5, rtol=1e-5)
        assert made.count == len(keys) == tokens
        assert made.condition == pytest.approx(float(torch.linalg.cond(second)), rel=1e-2)


def test_whitening_and_length_by_plain_algebra():
    torch.manual_seed(0)
    keys, matrix = torch.randn(40, 6), torch.randn(3, 6, dtype=torch.float64)
    usual = Covariance.of(Moments.zeros(6).add(keys.double()), ridge=1e-9)
    key = torch.randn(6, dtype=torch.float64)
    torch.testing.assert_close(usual.second @ usual.whiten(key), key)
    outputs = keys.double() @ matrix.T
    rms = outputs.square().sum(1).mean().sqrt()
    assert usual.length(matrix) == pytest.approx(float(rms), rel=1e-6)
    assert usual.scaled(7.0).count == 7
    torch.testing.assert_close(usual.scaled(7.0).second, 7 * usual.second)


def test_nothing_is_about_subjects_to_forget_or_to_measure(tiny, monkeypatch):
    texts = ["Ada Brook plays golf.", "The capital of Norway is Oslo.", "Carl Dorn plays golf."]
    monkeypatch.setattr(buffer, "sample_texts", lambda m, n, seed: [encode(m, t) for t in texts])
    asked = Request(forget=facts("Ada Brook"), evaluate=facts("Carl Dorn"))
    rows = self_made_rows(tiny, asked, tokens=30, kept=0, seed=0)
    assert {decode(tiny, ids) for ids in rows.sequences[:-1]} == {texts[1]}
    monkeypatch.setattr(buffer, "sample_texts", lambda m, n, seed: [encode(m, texts[0])])
    groups = matrices(tiny.structure, ComponentSet.parse("mlp.0"))
    with pytest.raises(WorkbenchError, match="makes up no text"):
        covariances(tiny, asked, groups, **{**SMALL, "kept": 0})


def test_kept_facts_come_first_and_the_number_of_keys_is_met(tiny):
    asked = request()
    rows = self_made_rows(tiny, asked, tokens=90, kept=2, seed=0)
    assert len(rows) == sum(map(len, rows.sequences)) == 90
    first = [decode(tiny, ids) for ids in rows.sequences[:2]]
    assert all(any(name in text for name in asked.retain.subjects) for text in first)
    assert all(p == tuple(range(len(s))) for s, p in zip(rows.sequences, rows.picks, strict=True))


def test_it_is_kept_by_what_it_is_made_of(tiny, monkeypatch):
    one, two = (matrices(tiny.structure, ComponentSet.parse(c)) for c in ("mlp.0", "mlp.0-1"))
    options = {**SMALL, "seed": 11}
    first = covariances(tiny, request(), one, **options)
    both = covariances(tiny, request(), two, **options)
    name = one[0].writer.parameter
    assert both[name] is first[name] and len(both) == 2
    other = covariances(tiny, request(("Ada Brook",)), one, **options)
    assert other[name] is not first[name]
    assert covariances(tiny, request(), one, **{**options, "seed": 12})[name] is not first[name]
    monkeypatch.setattr(covariance, "moments_of", lambda *args: pytest.fail("made again"))
    again = covariances(tiny, request(), two, **options)
    assert all(again[p] is both[p] for p in both)


@pytest.mark.parametrize("samples", [0, MOST_KEYS + 1])
def test_too_many_or_no_keys(tiny, samples):
    groups = matrices(tiny.structure, ComponentSet.parse("mlp.0"))
    with pytest.raises(WorkbenchError, match="samples must be from 1 to 10"):
        covariances(tiny, request(), groups, **{**SMALL, "samples": samples})
