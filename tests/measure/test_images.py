"""Measures of facts whose words are the same and whose pictures differ."""

from __future__ import annotations

from dataclasses import replace

import torch
from llava_model import llava, portrait, seen

from workbench.facts.fact import Fact, FactSet, Request
from workbench.facts.multiple_choice import letter_probe
from workbench.figures.theme import measure_label
from workbench.measure.definitions import definition
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


def test_by_picture_by_name_and_in_other_views_are_told_apart():
    model = llava()
    face = seen(0, views=(portrait(1), portrait(2)), statements=("<image>\nThis person plays",))
    named = Fact("Ada Brook", "Question: Which sport does Ada Brook play?\nAnswer:", " golf")
    card = measure(model, Request(FactSet((face, named)), FactSet((seen(3),))))
    table = card.answers.set_index("kind")
    views = [seen(n).prompt for n in (1, 2)]
    said = [generate(model, [p], max_new_tokens=16)[0] for p in views]
    for own, shown in zip(table.loc["view", "answer"], said, strict=True):
        assert shown.startswith(own) and own
    assert list(table.loc["view", "answer"]) != [table.loc["prompt", "answer"].iloc[0]] * 2
    for how, prompt in (("shown", face.prompt), ("named", named.prompt)):
        (row,) = [r for r in card.answers.itertuples() if (r.kind, r.prompt) == ("prompt", prompt)]
        assert card.value(f"rouge_l_{how}_f") == row.rouge_l
        assert card.scores[f"rouge_l_{how}_f"].n == 1
    assert card.value("rouge_l_view_f") == table.loc["view", "rouge_l"].mean()
    assert card.scores["statement_view_f"].n == 2 and card.scores["statement_shown_f"].n == 1
    assert card.scores["acc_named_r"] is None and card.scores["acc_view_r"] is None
    assert card.scores["acc_shown_r"].n == 1
    assert definition("mcq_view_f").startswith("Over the facts to forget. Asked through other")
    assert measure_label("mcq_view_f") == "… in multiple choice, in other pictures"
    text = measure(model, Request(FactSet((named,)), FactSet((Fact("Ed", "Ed is", " x"),))))
    assert "acc_shown_f" not in text.scores
