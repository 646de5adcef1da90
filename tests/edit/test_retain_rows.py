"""The retain buffer: kept while nothing changes, and merged without changing what it weighs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.edit.requests import request
from workbench.edit import retain
from workbench.edit.buffer import confusable_rows, heavier_rows, related_rows, site_rows
from workbench.edit.forms import forms_of, prompts_of
from workbench.edit.retain import retain_rows
from workbench.edit.rows import Rows
from workbench.edit.self_made import own_answers
from workbench.edit.stream import Stream
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Refuse, Request
from workbench.models.components import Component
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.models.model import Model

SIZES: dict[str, Any] = {
    **{"confusable": 6, "named": 0, "confusable_weight": 5.0, "context": 2, "generations": 1},
    **{"related_weight": 7.0, "chats": 0, "context_weight": 2.0, "tokens": 1, "seed": 0},
}
NAMES = ("Danielle Darrieux", "Paris Oslo", "Norway Is")
FORMS = ("The mother tongue of {} is", "The mother tongue of {} was", "{} plays the sport of")


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retain, "KEPT", {})


def test_the_same_settings_give_the_same_object(tiny: Model) -> None:
    first = retain_rows(tiny, request(), "subject", **SIZES)
    assert retain_rows(tiny, request(), "subject", **SIZES) is first
    assert retain_rows(tiny.fork(), replace(request(), name="x"), "subject", **SIZES) is first


@pytest.mark.parametrize(
    "changed",
    [
        *({"seed": 1}, {"confusable": 5}, {"context": 1}, {"generations": 0}, {"tokens": 2}),
        *({"confusable_weight": 4.0}, {"context_weight": 1.0}, {"named": 1}, {"chats": 1}),
        {"related_weight": 8.0},
    ],
    ids=str,
)
def test_other_settings_give_another(tiny: Model, changed: dict[str, Any]) -> None:
    first = retain_rows(tiny, request(), "subject", **SIZES)
    found = retain_rows(tiny, request(), "subject", **{**SIZES, **changed})
    assert found is not first
    retain.KEPT.clear()
    assert retain_rows(tiny, request(), "subject", **{**SIZES, **changed}) == found


def test_another_model_site_or_request_gives_another(tiny: Model) -> None:
    first = retain_rows(tiny, request(), "subject", **SIZES)
    name = "model.norm.weight"
    delta = WeightDelta({name: Dense(0.1 * tiny.parameters[name])}, Origin("by hand"))
    others = [
        retain_rows(tiny, request(), "answer", **SIZES),
        retain_rows(tiny.with_delta(delta), request(), "subject", **SIZES),
        retain_rows(tiny, replace(request(), behaviour=Refuse(" No.")), "subject", **SIZES),
    ]
    assert all(other is not first for other in others)


def test_the_last_four_are_kept(tiny: Model) -> None:
    def rows(seed: int) -> Rows:
        return retain_rows(tiny, request(), "subject", **{**SIZES, "generations": 0, "seed": seed})

    made = [rows(seed) for seed in range(4)]
    assert all(rows(seed) is made[seed] for seed in range(4))
    rows(4)
    assert len(retain.KEPT) == 4
    assert all(rows(seed) is made[seed] for seed in (1, 2, 3))
    assert rows(0) is not made[0]


def test_an_empty_buffer_is_a_sentence_and_is_not_kept(tiny: Model) -> None:
    alone = Request(request().forget)
    nothing = {**SIZES, "context": 0, "generations": 0}
    with pytest.raises(WorkbenchError, match="The retain buffer is empty"):
        retain_rows(tiny, alone, "subject", **nothing)
    assert not retain.KEPT


def asked() -> Request:
    """Two wordings that are the same up to the subject, and one that is not."""

    def fact(name: str) -> Fact:
        first, *others = (form.format(name) for form in FORMS)
        return Fact(name, first, " French", relation="tongue", statements=tuple(others))

    return Request(FactSet((fact("Ada Brook"),)), FactSet(tuple(fact(n) for n in NAMES)))


def moments(model: Model, rows: Rows) -> dict[str, torch.Tensor]:
    """Sum weight * key * key^T of an MLP and an attention, in float64."""
    out = {}
    for component in (Component(1, "mlp"), Component(2, "attn")):
        writer = model.structure.writer(component)
        stream = Stream(model, rows, [component.layer])
        total = torch.zeros(())
        for keys, weights in stream.keys(model.fork().hf, writer):
            x = keys.double()
            total = total + x.T @ (weights.double()[:, None] * x)
        out[str(component)] = total
    return out


@pytest.mark.parametrize("tokens", [1, 3])
def test_merged_sequences_weigh_what_they_weighed_apart(family_model: Model, tokens: int) -> None:
    model, wanted = family_model, asked()
    options = {"weight": 5.0, "context_weight": 2.0, "tokens": tokens, "seed": 0}
    merged = confusable_rows(model, wanted, "subject", count=99, named=0, **options)
    sequences, weights = [], []
    for form in forms_of(wanted.forget):
        for name in NAMES:
            ids, at = site_rows(model, form.about(name), name, "subject", "", tokens)
            sequences.append(ids)
            weights.append(tuple(5.0 if i in at else 2.0 for i in range(len(ids))))
    apart = Rows(tuple(sequences), tuple(tuple(range(len(s))) for s in sequences), tuple(weights))
    assert len(apart.sequences) == 9 and len(merged.sequences) == 6
    assert len(set(merged.sequences)) == 6
    assert set(merged.sequences) == set(sequences)
    total = sum(sum(w) for w in apart.weights)
    assert sum(sum(w) for w in merged.weights) == pytest.approx(total)
    for name, expected in moments(model, apart).items():
        found = moments(model, merged)[name]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize("site", ["subject", "answer"])
def test_what_is_kept_about_a_subject_to_forget_weighs_by_itself(tiny: Model, site: str) -> None:
    asked = request()
    name = asked.forget[0].subject
    own = Fact(name, f"{name} lives in", " Oslo", paraphrases=(f"The town of {name} is",))
    rows = {
        kept: related_rows(
            *(tiny, replace(asked, retain=FactSet(kept), evaluate=FactSet()), site),
            **{"weight": 7.0, "context_weight": 2.0, "tokens": 1},
        )
        for kept in ((), (own,))
    }
    assert len(rows[()]) == 0
    (found,) = (r for kept, r in rows.items() if kept)
    said = own_answers(tiny, [own.prompt, *own.paraphrases])
    for i, prompt in enumerate((own.prompt, *own.paraphrases)):
        ids, at = site_rows(tiny, prompt, name, site, said[i] if site == "answer" else "", 1)
        assert found.sequences[i] == ids
        assert found.weights[i] == tuple(7.0 if j in at else 2.0 for j in range(len(ids)))


def weights_of(rows: Rows) -> dict[tuple[int, ...], tuple[float, ...]]:
    return dict(zip(rows.sequences, rows.all_weights, strict=True))


def test_a_heavier_fact_counts_so_many_times(tiny: Model) -> None:
    """In all its wordings, beside the usual buffer; what says nothing of it stays as it was."""
    asked = request()
    other = next(f for f in asked.retain if f.subject not in asked.forget.subjects)
    heavy = replace(asked, heavier={other.key: 16.0})
    assert heavy.fingerprint != asked.fingerprint == replace(asked, heavier={}).fingerprint
    usual, more = (retain_rows(tiny, r, "answer", **SIZES) for r in (asked, heavy))
    assert more.related == usual.related
    assert len(more.others) > len(usual.others)
    rows = heavier_rows(tiny, heavy, "answer", weight=5.0, context_weight=2.0, tokens=1)
    assert {w for own in rows.all_weights for w in own} == {80.0, 32.0}
    assert len(rows.sequences) == len({*prompts_of(other)})
    assert set(rows.sequences) <= set(more.others.sequences)


def test_a_heavier_fact_about_the_very_subject_counts_among_those(tiny: Model) -> None:
    own = Fact("Ada Brook", "Ada Brook was born in", " Paris", relation="city")
    asked = request()
    asked = replace(asked, retain=asked.retain + FactSet((own,)))
    heavy = replace(asked, heavier={own.key: 3.0})
    usual, more = (
        weights_of(related_rows(tiny, r, "subject", weight=7.0, context_weight=2.0, tokens=1))
        for r in (asked, heavy)
    )
    assert own.subject in asked.forget.subjects and usual
    assert more == {ids: tuple(3 * w for w in weights) for ids, weights in usual.items()}
    assert not len(heavier_rows(tiny, heavy, "subject", weight=1, context_weight=1, tokens=1))
