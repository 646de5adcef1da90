"""Attacks on weights and inner states, on a tiny edit that hides two of eight taught answers."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.attack.world import ASK, REQUEST, world
from workbench.attack.asking import ask_plainly
from workbench.attack.logit_lens import LogitLensConfig, logit_lens
from workbench.attack.probe import ProbeConfig, probe
from workbench.attack.pruning import PruningConfig, pruned, pruning
from workbench.attack.quantization import QuantizationConfig, quantization, rounded_to
from workbench.attack.unlearning_depth import UnlearningDepthConfig, unlearning_depth
from workbench.attack.weights import linear_weights
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Request
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.models.model import Model
from workbench.models.text import encode, next_token_logits

ADA, CARL = REQUEST.forget


def answers(outcomes) -> list[str]:
    return [o.answer for o in outcomes]


def by_delta(model: Model, change) -> list[str]:
    """Ask a model whose weights were changed through a `WeightDelta`, not by the attack."""
    updates = {
        n: Dense(change(w) - w) for n in linear_weights(model) for w in [model.parameters[n]]
    }
    changed = model.with_delta(WeightDelta(updates, Origin("test")))
    return answers(ask_plainly(changed, REQUEST).outcomes.values())


def test_quantisation_asks_the_rounded_model() -> None:
    model = world().edited
    config = QuantizationConfig(bits=(3,), group=8)
    rows, groups = quantization(model, REQUEST, config, base=world().base)
    assert [c.setting for c in (rows, groups)] == [
        {"bits": 3, "group": "row"},
        {"bits": 3, "group": "8"},
    ]
    assert answers(rows.outcomes) == by_delta(model, lambda w: rounded_to(w, 3))
    assert answers(groups.outcomes) == by_delta(model, lambda w: rounded_to(w, 3, 8))


def test_pruning_asks_the_thinned_model() -> None:
    model = world().edited
    cells = pruning(model, REQUEST, PruningConfig(shares=(0.2, 0.6)), base=world().base)
    for cell, share in zip(cells, (0.2, 0.6), strict=True):
        assert cell.setting == {"share": share}
        assert answers(cell.outcomes) == by_delta(model, lambda w, s=share: pruned(w, s))


def test_the_last_layers_lens_is_the_models_own_choice() -> None:
    for model in (world().base, world().edited):
        cells = logit_lens(model, REQUEST, LogitLensConfig(), base=world().base)
        assert [c.setting["layer"] for c in cells] == list(range(model.n_layers))
        logits = next_token_logits(model, [f.prompt for f in REQUEST.forget])
        for outcome, row in zip(cells[-1].outcomes, logits, strict=True):
            heads = {
                c: encode(model, f"{outcome.prompt} {c}")[len(encode(model, outcome.prompt))]
                for c in outcome.fact.choices
            }
            best = max(heads, key=lambda c, r=row, h=heads: float(r[h[c]]))
            assert outcome.answer == f" {best}" and outcome.value == (best in outcome.fact.target)
        assert cells[-1].chance == 0.5
    assert logit_lens(world().base, REQUEST, LogitLensConfig(), base=world().base)[-1].value == 1


def test_targets_that_begin_like_another_choice_are_left_out() -> None:
    twin = replace(CARL, choices=("golf", "golf too"))
    both = replace(REQUEST, forget=FactSet((ADA, twin)))
    cells = logit_lens(world().edited, both, LogitLensConfig(), base=world().base)
    assert [len(c.outcomes) for c in cells] == [1] * 3 and "1 facts cannot" in cells[0].note
    with pytest.raises(WorkbenchError, match="same token as another choice"):
        lone = replace(REQUEST, forget=FactSet((twin,)))
        logit_lens(world().edited, lone, LogitLensConfig(), base=world().base)


def test_the_bases_states_bring_its_first_token_back() -> None:
    here = world()
    cells = unlearning_depth(here.edited, REQUEST, UnlearningDepthConfig(), base=here.base)
    at = {(c.setting["positions"], c.setting["layer"]): c for c in cells}
    assert len(at) == 9
    last = at["all", 2]
    for outcome, plain in zip(
        last.outcomes, ask_plainly(here.base, REQUEST).outcomes.values(), strict=True
    ):
        ids = [encode(here.base, o.prompt + o.answer) for o in (outcome, plain)]
        n = len(encode(here.base, outcome.prompt))
        assert ids[0][n] == ids[1][n]
    # Behind the last layer nothing reads the subject any more.
    plain = answers(ask_plainly(here.edited, REQUEST).outcomes.values())
    assert answers(at["subject", 2].outcomes) == plain


@pytest.mark.parametrize(("count", "wanted"), [(1, {2}), (2, {0, 2}), (9, {0, 1, 2})])
def test_patching_back_can_skip_layers_but_not_the_last(count: int, wanted: set[int]) -> None:
    config = UnlearningDepthConfig(layers=count)
    cells = unlearning_depth(world().edited, REQUEST, config, base=world().base)
    assert {c.setting["layer"] for c in cells} == wanted


def test_states_of_another_shape_are_refused(tiny: Model) -> None:
    from conftest import make_model

    other = make_model("gpt2")
    small = Model(other.hf, tiny.tokenizer, "small")
    small.config.num_hidden_layers = 2
    with pytest.raises(WorkbenchError, match="another shape"):
        unlearning_depth(tiny, REQUEST, UnlearningDepthConfig(), base=small)


def named(count: int, seed: int) -> list[str]:
    """Return different made-up names of a few syllables."""
    rng = random.Random(seed)
    names: dict[str, None] = {}
    while len(names) < count:
        names["".join(rng.choice("BCDFGKLMNP") + rng.choice("aeiou") for _ in range(3))] = None
    return list(names)


def labelled(names: list[str], label) -> list[Fact]:
    return [Fact(n, ASK.format(n), label(n), relation="sport") for n in names]


def test_a_probe_reads_what_the_subject_shows(tiny: Model) -> None:
    """The class is the name's last vowel, which stands at the subject's last token."""
    facts = labelled(named(160, 0), lambda n: f" {n[-1]}")
    request = Request(forget=FactSet(tuple(facts[:40])), retain=FactSet(tuple(facts[40:])))
    cells = probe(tiny, request, ProbeConfig(), base=tiny)
    assert [tuple(c.setting.values()) for c in cells] == [
        (p, layer) for p in ("subject", "last") for layer in range(3)
    ]
    assert cells[0].value > 0.9
    most = max(sum(f.target == t for f in facts[40:]) for t in {f.target for f in facts})
    assert cells[0].chance == pytest.approx(most / 120)


def test_a_probe_of_shuffled_answers_is_at_chance(tiny: Model) -> None:
    rng = random.Random(1)
    facts = labelled(named(400, 1), lambda n: rng.choice([" a", " e", " i", " o"]))
    request = Request(forget=FactSet(tuple(facts[:200])), retain=FactSet(tuple(facts[200:])))
    cells = probe(tiny, request, ProbeConfig(), base=tiny)
    spread = np.sqrt(0.25 * 0.75 / 200)
    for cell in cells:
        assert abs(cell.value - 0.25) < 4 * spread


def test_a_probes_classes_and_training_facts(tiny: Model) -> None:
    facts = labelled(named(30, 2), lambda n: " golf" if n < "K" else " judo")
    rare = Fact("Xyz", ASK.format("Xyz"), " polo", relation="sport")
    strange = Fact("Zed", ASK.format("Zed"), " blue", relation="colour")
    request = Request(forget=FactSet((*facts[:4], rare, strange)), retain=FactSet(tuple(facts[4:])))
    cells = probe(tiny, request, ProbeConfig(least=2), base=tiny)
    assert [o.fact for o in cells[0].outcomes] == facts[:4] and "2 facts have" in cells[0].note
    assert {o.answer for c in cells for o in c.outcomes} <= {" golf", " judo"}
    for retain in ((), facts[4:5]):
        few = replace(request, retain=FactSet(tuple(retain)))
        with pytest.raises(WorkbenchError, match="at least two answers"):
            probe(tiny, few, ProbeConfig(), base=tiny)


def test_a_probe_of_the_same_seed_is_the_same(tiny: Model) -> None:
    facts = labelled(named(40, 3), lambda n: f" {n[-1]}")
    request = Request(forget=FactSet(tuple(facts[:8])), retain=FactSet(tuple(facts[8:])))
    config = ProbeConfig(train=24, least=2)
    with torch.no_grad():
        one, two = (probe(tiny, request, config, base=tiny) for _ in range(2))
    assert [answers(c.outcomes) for c in one] == [answers(c.outcomes) for c in two]
