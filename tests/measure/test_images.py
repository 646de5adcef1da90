"""Measures of facts whose words are the same and whose pictures differ."""

from __future__ import annotations

from dataclasses import replace

import torch
from llava_model import llava, seen

from workbench.facts.fact import FactSet, Request
from workbench.facts.multiple_choice import letter_probe
from workbench.measure.scorecard import measure
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.models.text import generate, next_token_logits

PROJECTOR = "model.multi_modal_projector.linear_2.weight"


def test_each_picture_has_its_own_answers():
    model = llava()
    change = 0.5 * torch.randn(model.parameters[PROJECTOR].shape, generator=torch.manual_seed(0))
    edited = model.with_delta(WeightDelta({PROJECTOR: Dense(change)}, Origin("test")))
    forget = FactSet(tuple(seen(n, choices=("tennis", "golf")) for n in range(3)))
    request = Request(forget, FactSet(tuple(seen(n) for n in (3, 4))))
    card = measure(edited, request, base=model, neutral=())
    rows = card.answers[card.answers["kind"] == "prompt"]
    asked = [f.prompt for f in (*request.forget, *request.retain)]
    for column, of in (("answer", edited), ("base_answer", model)):
        alone = [generate(of, [p], max_new_tokens=16)[0] for p in asked]
        assert len(set(alone)) > 1
        assert [a[: len(b)] for a, b in zip(alone, rows[column], strict=True)] == list(rows[column])
    kept = rows[rows["side"] == "retain"]
    p, q = (next_token_logits(m, asked[3:]).double().log_softmax(-1) for m in (model, edited))
    expected = (p.exp() * (p - q)).sum(-1)
    torch.testing.assert_close(
        torch.tensor(list(kept["kl"]), dtype=torch.float64), expected, atol=1e-5, rtol=1e-3
    )
    assert len(set(rows["probability"])) == len(rows)


def test_the_letter_question_shows_the_picture():
    fact = seen(0, choices=("tennis", "golf"))
    (probe,) = letter_probe(llava(), fact)
    assert probe.prompt.pictures == fact.prompt.pictures
    assert str(probe.prompt).startswith("<image>\nQuestion: Which sport does this person play?\nA.")
    bare = replace(fact, prompt="<image> Ada Brook plays", image=fact.image)
    assert "Which completes this? Ada Brook plays ..." in letter_probe(llava(), bare)[0].prompt
