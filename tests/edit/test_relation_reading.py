"""The target `relation`: what a relation reads at its subject, against plain PyTorch hooks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.edit.requests import facts, request
from tests.edit.test_one_relation import one_thing, share_right
from tests.edit.test_stamp import FAST, final_stream
from workbench.edit.buffer import site_rows
from workbench.edit.relation_reading import (
    Reading,
    noticed_part,
    relation_moments,
    whole_subjects,
)
from workbench.edit.stamp import StampConfig, stamp
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Replace, Request
from workbench.facts.prompts import continuation
from workbench.models.components import ComponentSet
from workbench.models.load import load
from workbench.models.text import encode


def town(subject):
    return Fact(subject, f"Question: Where is {subject}?\nAnswer:", " Oslo", relation="town")


def two_relations(forget=("Ada Brook",)):
    """Sports are to be forgotten; the same subjects' towns are to stay."""
    asked = request(forget)
    towns = FactSet(tuple(town(s) for s in (*forget, *asked.retain.subjects)))
    strange = FactSet(tuple(town(s) for s in asked.unknown.subjects))
    return replace(asked, retain=asked.retain + towns, unknown=asked.unknown + strange)


def read(model, asked, **settings):
    given = {"tokens": 2, "prompts": 20, "spare": 5.0, "damp": 5.0} | settings
    return Reading.of(model, asked, [0, 1], **given)


def gradient(model, fact, layer):
    """Differentiate the answer's lead with a plain hook on the block itself."""
    hf = model.fork().hf
    kept = []

    def hook(module, args, output):
        stream = output[0] if isinstance(output, tuple) else output
        leaf = stream.detach().requires_grad_()
        kept.append(leaf)
        return (leaf, *output[1:]) if isinstance(output, tuple) else leaf

    handle = hf.get_submodule(model.structure.layers[layer].block).register_forward_hook(hook)
    with torch.enable_grad():
        logits = hf(input_ids=torch.tensor([encode(model, fact.prompt)]), use_cache=False).logits
        answer = continuation(model, fact.prompt, fact.target)[0]
        refusal = continuation(model, fact.prompt, fact.foil)[0]
        (logits[0, -1, answer] - logits[0, -1, refusal]).backward()
    handle.remove()
    return kept[0].grad[0]


def test_moments_are_the_mean_of_the_gradients_outer_products(family_model):
    asked = FactSet(
        tuple(replace(f, foil=" Paris", statements=()) for f in facts("Ada Brook", "Norway Is"))
    )
    found = relation_moments(family_model, asked, [0, 1], tokens=2)
    for layer in (0, 1):
        for k in range(2):
            total = 0
            for fact in asked:
                _, picks = site_rows(family_model, fact.prompt, fact.subject, "subject", "", 2)
                g = gradient(family_model, fact, layer)[picks[k]].double()
                total = total + torch.outer(g, g) / len(asked)
            assert total.abs().max() > 0
            assert (found[layer, k] - total).abs().max() < 1e-3 * total.abs().max()


def test_the_noticed_part_of_a_hand_computed_case():
    read_here, elsewhere = (
        torch.diag(torch.tensor([3.0, 1.0])),
        torch.diag(torch.tensor([0.0, 8.0])),
    )
    # Scaled to a mean diagonal of 1: diag(1.5, 0.5) and diag(0, 2).
    part = noticed_part(read_here.double(), elsewhere.double(), spare=5.0, damp=0.5)
    torch.testing.assert_close(part, torch.diag(torch.tensor([1.5 / 2, 0.5 / 11])).double())


def test_the_noticed_part_is_the_smallest_loss():
    torch.manual_seed(0)
    a, b = (m @ m.T for m in torch.randn(2, 5, 5, dtype=torch.float64))
    a, b = a / a.diagonal().mean(), b / b.diagonal().mean()
    change = torch.randn(5, dtype=torch.float64)

    def loss(x):
        return (x - change) @ a @ (x - change) + 3 * x @ b @ x + 0.2 * x @ x

    best = noticed_part(a, b, spare=3.0, damp=0.2) @ change
    for _ in range(50):
        assert loss(best) < loss(best + 0.01 * torch.randn(5, dtype=torch.float64))


def test_a_subject_lands_where_its_relation_would_notice(tiny):
    """With a heavy weight, the stream moves by the noticed part of the way to the counterparts."""
    asked = two_relations()
    settings = {"tokens": 1, "read": 20, "spare": 2.0, "damp": 0.5}
    config = StampConfig(**FAST, **settings, target="relation", beyond=0.0, weight=1e9, ridge=1e-12)
    found = stamp(tiny, asked, ComponentSet.parse("mlp.0-1"), config)
    reading = read(tiny, asked, tokens=1, prompts=20, spare=2.0, damp=0.5)
    prompt = asked.forget[0].prompt
    ids, (last,) = site_rows(tiny, prompt, "Ada Brook", "subject", "")
    means = []
    for name in asked.unknown.subjects:
        row, (at,) = site_rows(tiny, prompt.replace("Ada Brook", name), name, "subject", "")
        means.append(final_stream(tiny, row, 1, at))
    before = final_stream(tiny, ids, 1, last)
    whole = torch.stack(means).mean(0) - before
    wanted = reading.part("Ada Brook", 1, 0).to(whole) @ whole
    moved = final_stream(found.model, ids, 1, last) - before
    assert wanted.norm() < 0.9 * whole.norm()
    assert (moved - wanted).norm() < 0.05 * wanted.norm()


def test_every_subject_is_read_by_its_own_relations(tiny):
    asked = two_relations(("Ada Brook", "Carl Dorn"))
    asked = replace(asked, retain=asked.retain.where(lambda f: f.key != town("Carl Dorn").key))
    reading = read(tiny, asked)
    assert reading.forgotten == {"Ada Brook": ("sport",), "Carl Dorn": ("sport",)}
    assert reading.kept == {"Ada Brook": ("town",)}
    assert not torch.allclose(reading.part("Ada Brook", 0, 0), reading.part("Carl Dorn", 0, 0))
    change = torch.randn(2, reading.part("Ada Brook", 0, 0).shape[0])
    rows = reading.noticed(change, [("Carl Dorn", 1), ("Ada Brook", 0)], 1)
    for row, (subject, token) in enumerate([("Carl Dorn", 1), ("Ada Brook", 0)]):
        expected = reading.part(subject, 1, token).float() @ change[row]
        torch.testing.assert_close(rows[row], expected, rtol=1e-4, atol=1e-5)


def test_a_fact_more_or_less_leaves_the_other_relations_moments_as_they_are(tiny):
    asked = two_relations()
    fewer = replace(asked, retain=asked.retain.where(lambda f: f.key != town("Paris Oslo").key))
    one, other = read(tiny, asked), read(tiny, fewer)
    assert one.moments["sport"] is other.moments["sport"]
    assert one.moments["town"] is not other.moments["town"]


def test_whole_subjects_asks_everything_about_them():
    asked = whole_subjects(two_relations())
    assert town("Ada Brook").key in {f.key for f in asked.forget}
    assert "Ada Brook" not in asked.retain.subjects
    assert asked.forget.subjects == ("Ada Brook",)


def test_what_it_cannot_do_is_said(tiny):
    config = StampConfig(**FAST, target="relation", at="answer")
    with pytest.raises(WorkbenchError, match="use the subject site"):
        stamp(tiny, two_relations(), ComponentSet.parse("mlp.1"), config)
    asked = two_relations()
    foils = FactSet(tuple(replace(f, foil=" golf") for f in asked.forget))
    replaced = Request(foils, asked.retain, asked.evaluate, asked.unknown, Replace())
    with pytest.raises(WorkbenchError, match="use the answer site"):
        stamp(tiny, replaced, ComponentSet.parse("mlp.1"), replace(config, at="subject"))


@pytest.mark.slow
def test_on_the_bundled_model_one_relation_goes_at_the_subject_and_the_others_stay():
    model = load("demo")
    sport, others, asked = one_thing()
    config = StampConfig(confusable=400, generations=8, chats=0, context=40, read=60)
    sites = ComponentSet.parse("mlp.0-3")
    edited = stamp(model, asked, sites, replace(config, target="relation", damp=1.0)).model
    assert share_right(edited, sport) == 0
    assert share_right(edited, others) >= 0.9
    # All that is missing to the subject is missing to every question.
    alone = replace(asked, retain=asked.retain.where(lambda f: f not in others.facts))
    gone = stamp(model, alone, sites, config).model
    assert share_right(gone, others) < 0.5
