"""STAMP on tiny random models of every family: what it changes, and what it must not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.conftest import make_model
from tests.edit.requests import facts, request
from workbench.edit import targets
from workbench.edit.buffer import site_rows
from workbench.edit.edit import outside
from workbench.edit.matrix import matrices
from workbench.edit.readout import readout_change
from workbench.edit.registry import edit, make_config
from workbench.edit.stamp import StampConfig, stamp
from workbench.edit.targets import build_task, needed_sites, target_for
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet, Replace, Request
from workbench.models.components import ComponentSet
from workbench.models.delta import LowRank
from workbench.models.text import encode, generate
from workbench.progress import Cancelled, Progress

FAST = {"confusable": 8, "context": 4, "generations": 4, "counterparts": 3}
CONFIG = StampConfig(**FAST)


def final_stream(model, ids, layer, position):
    seen = {}
    name = f"blocks.{layer}.hook_resid_post"
    with torch.no_grad():
        model.bridge.run_with_hooks(
            torch.tensor([ids]),
            fwd_hooks=[(name, lambda t, hook: seen.__setitem__("x", t))],
        )
    return seen["x"][0, position]


@pytest.mark.parametrize("beyond", [0.0, 0.5])
def test_the_forget_subject_lands_on_the_counterparts_mean_or_past_it(family_model, beyond):
    """With a heavy weight, the stream behind the last edited MLP is what was asked for."""
    config = StampConfig(**FAST, weight=1e9, ridge=1e-12, beyond=beyond)
    wanted = request(forget=("Ada Brook",))
    found = stamp(family_model, wanted, ComponentSet.parse("mlp.0-1"), config)
    prompt = wanted.forget[0].prompt
    ids, (last,) = site_rows(family_model, prompt, "Ada Brook", "subject", "")
    means = []
    for name in wanted.unknown.subjects:
        other = prompt.replace("Ada Brook", name)
        row, (at,) = site_rows(family_model, other, name, "subject", "")
        means.append(final_stream(family_model, row, 1, at))
    before = final_stream(family_model, ids, 1, last)
    target = torch.stack(means).mean(0)
    target = target + beyond * (target - before)
    after = final_stream(found.model, ids, 1, last)
    moved = (after - target).norm() / (before - target).norm()
    # A norm behind the MLP (Gemma-2) lets the direction through and not the size.
    limit = 0.95 if family_model.structure.layers[1].mlp_norm else 0.05
    assert moved < limit


@pytest.mark.parametrize("written", ["mlp.1", "head.1.2", "neuron.2.3-9", "attn.0, mlp.2"])
def test_only_the_chosen_columns_change(family_model, written):
    components = ComponentSet.parse(written)
    base = {k: v.clone() for k, v in family_model.parameters.items()}
    pointers = {k: v.data_ptr() for k, v in family_model.parameters.items()}
    found = stamp(family_model, request(), components, CONFIG)
    assert not outside(family_model, found.model, components)
    for name, tensor in family_model.parameters.items():
        assert torch.equal(tensor, base[name])
    for name in found.delta.updates:
        assert not torch.equal(found.model.parameters[name], base[name])
    untouched = set(base) - set(found.delta.updates)
    assert untouched
    for name in untouched:
        assert found.model.parameters[name].data_ptr() == pointers[name]


def test_a_wrong_claim_of_locality_is_caught(tiny):
    found = stamp(tiny, request(), ComponentSet.parse("mlp.1"), CONFIG)
    assert outside(tiny, found.model, ComponentSet.parse("mlp.0")) == list(found.delta.updates)


def test_order_of_facts_does_not_matter(tiny):
    wanted = request(forget=("Ada Brook", "Carl Dorn", "Oslo Paris"))
    turned = Request(
        FactSet(tuple(reversed(wanted.forget.facts))), wanted.retain, unknown=wanted.unknown
    )
    config = StampConfig(**{**FAST, "confusable": 1000})
    one = stamp(tiny, wanted, ComponentSet.parse("mlp.0-1"), config)
    two = stamp(tiny, turned, ComponentSet.parse("mlp.0-1"), config)
    for name, update in one.delta.updates.items():
        torch.testing.assert_close(
            update.dense(), two.delta.updates[name].dense(), atol=1e-5, rtol=1e-3
        )


def test_equal_seeds_give_equal_edits(tiny):
    one, two = (stamp(tiny, request(), ComponentSet.parse("mlp.1"), CONFIG) for _ in range(2))
    for name, update in one.delta.updates.items():
        assert torch.equal(update.dense(), two.delta.updates[name].dense())


def test_edits_stack_and_dropping_them_gives_the_base_back_bit_for_bit(tiny):
    ids = torch.tensor([encode(tiny, "The capital of France is")])
    before = tiny.hf(ids).logits
    one = stamp(tiny, request(("Ada Brook",)), ComponentSet.parse("mlp.0"), CONFIG)
    two = stamp(one.model, request(("Carl Dorn",)), ComponentSet.parse("mlp.2"), CONFIG)
    assert two.model.deltas == (one.delta, two.delta)
    together = tiny.with_delta(one.delta + two.delta).hf(ids).logits
    torch.testing.assert_close(two.model.hf(ids).logits, together, atol=1e-4, rtol=1e-4)
    assert not torch.equal(together, before)
    assert torch.equal(tiny.hf(ids).logits, before)


def test_low_rank_deltas_are_low_rank_and_full_rank_is_full(tiny):
    full = stamp(tiny, request(), ComponentSet.parse("mlp.1"), CONFIG)
    (name,) = full.delta.updates
    d_in = tiny.structure.d_mlp
    same = stamp(tiny, request(), ComponentSet.parse("mlp.1"), StampConfig(**FAST, rank=d_in))
    torch.testing.assert_close(
        same.delta.updates[name].dense(), full.delta.updates[name].dense(), atol=1e-6, rtol=1e-4
    )
    small = stamp(tiny, request(), ComponentSet.parse("mlp.1"), StampConfig(**FAST, rank=5))
    update = small.delta.updates[name]
    assert isinstance(update, LowRank) and update.rank == 5
    assert torch.linalg.matrix_rank(update.dense()) <= 5


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_low_rank_of_a_transposed_matrix(family):
    model = make_model(family)
    found = stamp(model, request(), ComponentSet.parse("mlp.1"), StampConfig(**FAST, rank=4))
    (name,) = found.delta.updates
    assert found.delta.updates[name].dense().shape == model.parameters[name].shape


@pytest.mark.parametrize("target", ["counterpart", "teacher", "mean", "subspace"])
@pytest.mark.parametrize("at", ["subject", "answer"])
def test_every_target_at_every_site(tiny, target, at):
    found = stamp(
        tiny, request(), ComponentSet.parse("mlp.1-2"), StampConfig(**FAST, at=at, target=target)
    )
    assert found.failed is None
    assert (found.steps["residual"] < 1).all()


def test_replace_copies_from_a_fact_whose_answer_is_the_foil(tiny):
    from dataclasses import replace

    forget = FactSet(tuple(replace(f, foil=" golf") for f in facts("Ada Brook")))
    keep = FactSet(tuple(replace(f, target=" golf") for f in facts("Paris Oslo", "Norway Is")))
    wanted = Request(forget, keep, behaviour=Replace())
    config = StampConfig(**FAST, at="answer", target="foil")
    assert stamp(tiny, wanted, ComponentSet.parse("mlp.2"), config).failed is None
    with pytest.raises(WorkbenchError, match="No other fact"):
        stamp(
            tiny,
            Request(forget, facts("Paris Oslo"), behaviour=Replace()),
            ComponentSet.parse("mlp.2"),
            config,
        )


def test_both_sites_are_edited_one_after_the_other(tiny):
    sites = {"subject": ComponentSet.parse("mlp.0"), "answer": ComponentSet.parse("mlp.2")}
    found = stamp(tiny, request(), sites, CONFIG, per_site={"answer": {"weight": 10.0}})
    assert list(found.steps["site"]) == ["subject", "answer"]
    assert found.delta.origin.components == "subject: mlp.0; answer: mlp.2"
    assert len(found.delta.updates) == 2


def test_matrices_are_in_the_order_the_model_computes_them(tiny):
    groups = matrices(tiny.structure, ComponentSet.parse("mlp.0-1, head.1.0+3, neuron.2.5+6"))
    assert [g.layer for g in groups] == [0, 1, 1, 2]
    assert [".mlp." in g.writer.input_hook for g in groups] == [True, False, True, True]
    assert groups[1].writer.columns == (*range(8), *range(24, 32))
    assert groups[3].writer.columns == (5, 6)


def test_the_reference_of_a_wording_is_that_wording(tiny):
    task = build_task(tiny, request(), "answer", "counterpart", counterparts=3)
    values = torch.arange(len(task.reference), dtype=torch.float32)[:, None]
    means = task.reference_means(values)
    for i, g in enumerate(task.group.tolist()):
        own = values[task.reference_group == g]
        assert means[i] == own.mean()


def test_spreading_asks_the_first_of_two_layers_for_half(tiny):
    pair = ComponentSet.parse("mlp.0-1")
    full = stamp(tiny, request(), pair, replace(CONFIG, spread=False)).steps["asked"]
    half = stamp(tiny, request(), pair, replace(CONFIG, spread=True)).steps["asked"]
    assert full[0] == pytest.approx(2 * half[0], rel=1e-5)
    one = ComponentSet.parse("mlp.1")
    alone = [
        stamp(tiny, request(), one, replace(CONFIG, spread=s)).delta.updates for s in (True, False)
    ]
    for name, update in alone[0].items():
        torch.testing.assert_close(update.dense(), alone[1][name].dense())


@pytest.mark.parametrize("refuses", [True, False])
def test_what_the_model_says_by_itself_decides_sites_and_targets(tiny, monkeypatch, refuses):
    words = ["I do not know."] * 3 if refuses else ["golf.", " I do not know.", "tennis"]
    monkeypatch.setattr(targets, "generate", lambda *args, **kwargs: words)
    asked = request()
    assert needed_sites(tiny, asked) == (("subject",) if refuses else ("subject", "answer"))
    assert target_for(tiny, asked, "subject") == "counterpart"
    assert target_for(tiny, asked, "answer") == ("counterpart" if refuses else "teacher")
    used = stamp(tiny, asked, ComponentSet.parse("mlp.1"), replace(CONFIG, at="answer")).steps
    assert set(used["target"]) == {target_for(tiny, asked, "answer")}


def test_foils_are_written_at_the_answer_site(tiny):
    asked = replace(
        request(),
        forget=FactSet(tuple(replace(f, foil=" golf") for f in request().forget)),
        behaviour=Replace(),
    )
    assert needed_sites(tiny, asked) == ("answer",)
    assert target_for(tiny, asked, "answer") == "logits"


def test_the_asked_change_gives_the_wanted_token_its_lead(family_model):
    """Added to the stream behind the last block, it makes the wanted token lead."""
    task = build_task(family_model, request(), "answer", "logits", counterparts=3)
    margin = 0.5
    change = readout_change(family_model, task.forget, margin=margin)
    name = f"blocks.{family_model.n_layers - 1}.hook_resid_post"
    start = 0
    for ids, picks in zip(task.forget.sequences, task.forget.picks, strict=True):
        own = change[start : start + len(picks)]
        start += len(picks)

        def add(stream, hook, own=own, picks=picks):
            stream[0, list(picks)] += own
            return stream

        with torch.no_grad():
            logits = family_model.bridge.run_with_hooks(
                torch.tensor([ids]), fwd_hooks=[(name, add)]
            )[0]
        for p, moved in zip(picks, own, strict=True):
            best = logits[p].clone()
            best[ids[p + 1]] = -torch.inf
            lead = logits[p, ids[p + 1]] - best.max()
            assert lead >= margin * 0.99
            assert moved.any() or lead > margin
    assert start == len(change)


def test_logits_write_the_foil(tiny):
    asked = request()
    asked = replace(
        asked,
        forget=FactSet(tuple(replace(f, foil=" golf") for f in asked.forget)),
        behaviour=Replace(),
    )
    config = StampConfig(**FAST, at="answer", weight=1e9, ridge=1e-12)
    found = stamp(tiny, asked, ComponentSet.parse("mlp.2"), config)
    prompts = [f.prompt for f in asked.forget]
    assert all(text.startswith(" golf") for text in generate(found.model, prompts))
    assert set(found.steps["target"]) == {"logits"}
    with pytest.raises(WorkbenchError, match="use the answer site"):
        stamp(tiny, asked, ComponentSet.parse("mlp.2"), replace(config, at="subject"))


def test_a_no_op_is_reported_as_failed(tiny):
    found = stamp(
        tiny, request(), ComponentSet.parse("neuron.2.0"), StampConfig(**FAST, strength=1e-9)
    )
    assert found.failed is not None and "changed nothing" in found.failed


def test_cancelling_changes_nothing(tiny):
    calls = []

    def stop() -> bool:
        calls.append(1)
        return len(calls) > 6

    before = {k: v.clone() for k, v in tiny.parameters.items()}
    with pytest.raises(Cancelled):
        stamp(
            tiny,
            request(),
            ComponentSet.parse("mlp.0-2"),
            CONFIG,
            progress=Progress(cancelled=stop),
        )
    for name, tensor in tiny.parameters.items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"wieght": 3}, "did you mean 'weight'"),
        ({"weight": "heavy"}, "must be a number"),
    ],
)
def test_bad_settings(settings, match):
    with pytest.raises(WorkbenchError, match=match):
        make_config("stamp", settings)


def test_bad_requests(tiny):
    with pytest.raises(WorkbenchError, match="No component"):
        stamp(tiny, request(), ComponentSet(), CONFIG)
    with pytest.raises(WorkbenchError, match="layers 0 to 2"):
        stamp(tiny, request(), ComponentSet.parse("mlp.3"), CONFIG)
    with pytest.raises(WorkbenchError, match="needs prompts about subjects"):
        stamp(tiny, Request(facts("Ada Brook"), facts("Paris Oslo")), ComponentSet.parse("mlp.1"))
    with pytest.raises(WorkbenchError, match="target 'foil' does not go"):
        stamp(tiny, request(), ComponentSet.parse("mlp.1"), StampConfig(target="foil"))
    with pytest.raises(WorkbenchError, match="Unknown method 'stmp'; did you mean 'stamp'"):
        edit("stmp", tiny, request(), ComponentSet.parse("mlp.1"))
