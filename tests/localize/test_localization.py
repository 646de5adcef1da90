"""Averages, choices and storage of localizations, worked out by hand."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet
from workbench.facts.prompts import Prompt
from workbench.localize.corruption import Noise, Replacement, distinguish, left_out
from workbench.localize.localization import FactEffects, Localization, summarise
from workbench.localize.metrics import (
    log_probability,
    logit_difference,
    metric_named,
    probability,
)
from workbench.models.text import encode


def effect(clean, corrupted, cells, *, length=5, subject=(1, 3)) -> FactEffects:
    fact = Fact("Ada", "Ada plays", " golf")
    prompt = Prompt(fact, tuple(range(length)), subject, (1,), None)
    tensors = {cell: torch.tensor(rows) for cell, rows in cells.items()}
    return FactEffects(prompt, clean, torch.tensor(corrupted), tensors)


def two_facts(structure) -> Localization:
    """Roles of five tokens: before, first subject, last subject, first after, last."""
    first = effect(
        1.0,
        [0.0, 0.2],
        {
            ("mlp", 0, -1): [[0.0, 0.1, 0.2, 0.0, 0.0], [0.0, 0.1, 0.4, 0.0, 0.0]],
            ("head", 1, 0): [[0.0, 0.0, 0.0, 0.0, 0.3], [0.0, 0.0, 0.0, 0.0, 0.3]],
            ("head", 1, 1): [[0.0, 0.0, 0.0, 0.0, -0.4], [0.0, 0.0, 0.0, 0.0, -0.4]],
            ("resid", 2, -1): [[0.0, 0.0, 0.0, 0.0, 0.9], [0.0, 0.0, 0.0, 0.0, 0.9]],
        },
    )
    second = effect(
        0.8,
        [0.1],
        {
            ("mlp", 0, -1): [[0.0, 0.1, 0.1, 0.2, 0.4, 0.0]],
            ("head", 1, 0): [[0.0, 0.0, 0.0, 0.0, 0.0, 0.1]],
            ("head", 1, 1): [[0.0, 0.0, 0.0, 0.0, 0.0, 0.0]],
            ("resid", 2, -1): [[0.0, 0.0, 0.0, 0.0, 0.0, 0.7]],
        },
        length=6,
    )
    return summarise("by hand", [first, second], structure, left_out=["x"], config={"seed": 1})


def test_averages_by_hand(tiny):
    where = two_facts(tiny.structure)
    assert where.clean == pytest.approx(0.9)
    assert where.corrupted == pytest.approx(0.1)  # (0.1 + 0.1) / 2
    assert where.n_facts == 2
    scale = 0.8
    table = where.table.set_index(["kind", "layer", "index", "role"])
    # Last subject: first fact (0.2 + 0.4) / 2 = 0.3, second 0.1; mean 0.2.
    assert table.loc[("mlp", 0, -1, "last subject"), "score"] == pytest.approx(0.2 / scale)
    # Standard error of 0.3 and 0.1: std 0.1414 / sqrt 2 = 0.1.
    assert table.loc[("mlp", 0, -1, "last subject"), "stderr"] == pytest.approx(0.1 / scale)
    assert table.loc[("mlp", 0, -1, "first subject"), "score"] == pytest.approx(0.1 / scale)
    # "Further" stands in the second fact only.
    assert table.loc[("mlp", 0, -1, "further"), "score"] == pytest.approx(0.4 / scale)
    assert table.loc[("mlp", 0, -1, "further"), "n"] == 1
    assert table.loc[("resid", 2, -1, "last"), "score"] == pytest.approx(0.8 / scale)
    assert where.left_out == ("x",)


def test_one_fact_keeps_its_positions(tiny):
    cells = {("mlp", 1, -1): [[0.0, 0.2, 0.4, 0.0, 0.1], [0.0, 0.4, 0.4, 0.0, 0.1]]}
    where = summarise("one", [effect(1.0, [0.0, 0.0], cells)], tiny.structure, tokens=list("abcde"))
    assert where.table["score"].tolist() == pytest.approx([0.0, 0.3, 0.4, 0.0, 0.1])
    assert where.table["token"].tolist() == list("abcde")
    assert where.table["stderr"].tolist() == pytest.approx([0, 0.1, 0, 0, 0], abs=1e-7)
    assert where.grid("mlp").loc[1].tolist() == pytest.approx([0.0, 0.3, 0.4, 0.0, 0.1])


def test_grid_sums_heads_and_orders_roles(tiny):
    where = two_facts(tiny.structure)
    grid = where.grid("head")
    assert list(grid.columns) == [
        "before",
        "first subject",
        "last subject",
        "first after",
        "further",
        "last",
    ]
    # Head 0: (0.3 + 0.1) / 2 = 0.2; head 1: -0.2; together 0.
    assert grid.loc[1, "last"] == pytest.approx(0.0, abs=1e-7)
    assert where.grid("head", index=1).loc[1, "last"] == pytest.approx(-0.2 / 0.8)
    with pytest.raises(WorkbenchError, match="did not score 'attn'"):
        where.grid("attn")


def test_ranking_is_by_size_and_never_names_the_stream(tiny):
    where = two_facts(tiny.structure)
    ranked = [(str(c), round(s, 4)) for c, s in where.ranking()]
    assert ranked[0] == ("mlp.0", 0.5)  # its best role is "further": 0.4 / 0.8
    assert {name for name, _ in ranked} == {"mlp.0", "head.1.0", "head.1.1"}
    only = where.ranking(roles=["last subject"], kinds=["mlp"])
    assert [(str(c), s) for c, s in only] == [("mlp.0", pytest.approx(0.25))]
    merged = where.ranking(merge_heads=True)
    assert {str(c) for c, _ in merged} == {"mlp.0", "attn.1"}


def test_choose_by_count_threshold_and_budget(tiny):
    where = two_facts(tiny.structure)
    assert str(where.choose(k=1)) == "mlp.0"
    assert str(where.choose(threshold=0.25)) in ("mlp.0, head.1.0-1", "mlp.0, head.1.0+1")
    assert str(where.choose(threshold=0.3)) == "mlp.0"
    size = where.sizes["mlp.0"]
    assert str(where.choose(parameters=size)) == "mlp.0"
    assert str(where.choose(parameters=size + 1)) == "mlp.0, attn.1"
    share = size / sum(where.sizes.values())
    assert str(where.choose(parameters=share - 1e-6)) == "mlp.0"


@pytest.mark.parametrize("rule", [{}, {"k": 1, "threshold": 0.1}, {"k": 0}, {"threshold": 9.0}])
def test_choose_refuses_no_rule_two_rules_and_nothing(tiny, rule):
    with pytest.raises(WorkbenchError, match=r"exactly one|No component"):
        two_facts(tiny.structure).choose(**rule)


def test_save_and_load(tiny, tmp_path):
    where = two_facts(tiny.structure)
    where.save(tmp_path)
    again = Localization.load(tmp_path)
    pd.testing.assert_frame_equal(again.table, where.table, check_dtype=False)
    for field in dataclasses.fields(where):
        if field.name != "table":
            assert getattr(again, field.name) == getattr(where, field.name), field.name
    (tmp_path / "localization.json").write_text("{")
    with pytest.raises(WorkbenchError, match="no readable localization"):
        Localization.load(tmp_path)


def test_no_fact_and_no_effect_are_said(tiny):
    with pytest.raises(WorkbenchError, match="no fact"):
        summarise("none", [], tiny.structure)
    flat = effect(0.5, [0.5], {("mlp", 0, -1): [[0.0] * 5]})
    with pytest.raises(WorkbenchError, match="does not change the answer"):
        summarise("flat", [flat], tiny.structure)


def test_noise_is_three_sigma_on_the_subject_and_nowhere_else(tiny):
    facts = FactSet(
        (
            Fact("Ada Brook", "Ada Brook plays the sport of", " tennis"),
            Fact("Carl Dorn", "Carl Dorn plays the sport of", " golf"),
        )
    )
    pairs = Noise(samples=400).pairs(tiny, facts)
    spans = [p.clean[0, slice(*p.prompt.subject)] for p in pairs]
    sigma = 3 * torch.cat(spans).std()
    for pair in pairs:
        first, end = pair.prompt.subject
        noise = pair.corrupted - pair.clean
        assert float(noise[:, first:end].std()) == pytest.approx(float(sigma), rel=0.03)
        assert (noise[:, end:] == 0).all() and (noise[:, :first] == 0).all()
        assert pair.first_corrupted == first
    again = Noise(samples=400).pairs(tiny, facts)
    assert all(torch.equal(a.corrupted, b.corrupted) for a, b in zip(pairs, again, strict=True))


def test_replacement_takes_another_subject_of_as_many_tokens(tiny):
    facts = FactSet(
        tuple(
            Fact(s, f"{s} plays the sport of", t) for s, t in (("Ab", " golf"), ("Cd", " tennis"))
        )
    )
    first, second = Replacement().pairs(tiny, facts)
    embed = tiny.hf.get_input_embeddings()
    swapped = embed(torch.tensor([encode(tiny, facts[1].prompt)]))
    torch.testing.assert_close(first.corrupted, swapped)
    torch.testing.assert_close(second.corrupted, first.clean)
    with pytest.raises(WorkbenchError, match="corrupt with noise"):
        Replacement().pairs(tiny, FactSet((facts[0],)))
    lone = Fact("Danielle Darrieux", "Danielle Darrieux plays", " golf")
    pairs = Replacement().pairs(tiny, facts + FactSet((lone,)))
    assert [pair.prompt.fact for pair in pairs] == list(facts)
    assert left_out(facts + FactSet((lone,)), pairs) == (lone.prompt,)


def test_shared_beginnings_of_target_and_foil_move_into_the_prompt():
    fact = Fact("Ada", "Ada plays", " golf")
    told = distinguish(Prompt(fact, (1, 2), (0, 1), (7, 8, 9), (7, 8, 5)))
    assert (told.ids, told.target, told.foil) == ((1, 2, 7, 8), (9,), (5,))
    same = distinguish(Prompt(fact, (1, 2), (0, 1), (7,), (7, 8)))
    assert (same.ids, same.target) == ((1, 2), (7,))


def test_metrics_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    target, foil = torch.tensor([0, 1]), torch.tensor([1, 2])
    assert probability(logits, target, None).tolist() == pytest.approx([0.5, 0.2])
    expected = torch.log(torch.tensor([0.5, 0.2]))
    torch.testing.assert_close(log_probability(logits, target, None), expected)
    gap = torch.log(torch.tensor([2.0, 2 / 7]))
    torch.testing.assert_close(logit_difference(logits, target, foil), gap)
    with pytest.raises(WorkbenchError, match="needs a foil"):
        logit_difference(logits, target, None)
    with pytest.raises(WorkbenchError, match="did you mean 'probability'"):
        metric_named("probabilty")
