"""Fact lookup on a model that can look up in one known layer only."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.conftest import CONFIGS, make_tokenizer
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet
from workbench.facts.prompts import tokenize
from workbench.localize.fact_lookup import fact_lookup, fact_lookup_localization
from workbench.localize.gradients import run
from workbench.localize.lookup_probes import Reader, put_last
from workbench.models.model import Model

ONES = set("0257")  # digits whose bit is set
SUBJECTS = [a + b for a, b in itertools.product("01234567", repeat=2)]


def answer(subject: str) -> str:
    """Exclusive or: no linear probe reads it off the two digits."""
    return "x" if (subject[0] in ONES) != (subject[1] in ONES) else "y"


def facts() -> FactSet:
    return FactSet(tuple(Fact(s, s, answer(s), relation="parity") for s in SUBJECTS))


@pytest.fixture(scope="module")
def planted() -> Model:
    """Trained with attention that writes in layer 0 only and an MLP that writes in layer 1 only."""
    torch.manual_seed(0)
    config = copy.deepcopy(CONFIGS["qwen2"])
    hf = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tokenizer = make_tokenizer()
    layers = hf.model.layers
    silent = [layers[1].self_attn.o_proj, layers[2].self_attn.o_proj]
    silent += [layers[0].mlp.down_proj, layers[2].mlp.down_proj]
    # Without queries attention looks everywhere alike; else its softmax learns the exclusive or.
    silent += [layers[0].self_attn.q_proj]
    for part in silent:
        for parameter in part.parameters():
            torch.nn.init.zeros_(parameter)
            parameter.requires_grad_(False)
    ids = torch.tensor([tokenizer(s)["input_ids"] for s in SUBJECTS])
    labels = torch.tensor([tokenizer(answer(s))["input_ids"][0] for s in SUBJECTS])
    free = [p for p in hf.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(free, lr=5e-3)
    for _ in range(300):
        loss = torch.nn.functional.cross_entropy(hf(input_ids=ids).logits[:, -1], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    return Model(hf, tokenizer, "planted")


def test_the_planted_layer_is_found(planted):
    found = fact_lookup(planted, facts())
    assert found.layers == (1,)
    assert found.read == 1
    assert found.chance == 0.5
    assert found.accuracy[0] < 0.75 < 0.9 < found.accuracy[1]
    assert found.attn_ablated[0] < 0.75, "the first digit never arrives"
    assert found.attn_ablated[1] == found.accuracy[1], "attention of layer 1 writes nothing"
    assert max(found.mlp_ablated[:2]) < 0.75
    assert found.mlp_ablated[2] == found.accuracy[1]
    where = found.localization
    scores = where.table.set_index("layer")["score"]
    assert scores[0] == 0 and scores[2] == 0
    assert scores[1] == pytest.approx(
        (found.accuracy[1] - found.mlp_ablated[1]) / (found.accuracy[1] - 0.5)
    )
    assert set(where.table["role"]) == {"last subject"}
    assert str(where.choose(k=1)) == "mlp.1"
    assert where.config["layers"] == [1]


def test_the_seed_makes_it_repeatable(planted):
    one, two = (fact_lookup(planted, facts(), seed=3) for _ in range(2))
    assert one.accuracy == two.accuracy and one.mlp_ablated == two.mlp_ablated


def test_ablation_puts_the_mean_at_the_last_position_only(family_model):
    prompts = [
        tokenize(family_model, Fact(s, f"{s} plays the sport of", " golf"))
        for s in ("Ada Brook", "Carl Dorn", "Danielle Darrieux")
    ]
    with torch.no_grad():
        reader = Reader(family_model, prompts)
        name = "blocks.1.hook_mlp_out"
        embed = family_model.hf.get_input_embeddings()
        outputs, rows = [], []
        for p in prompts:
            ids = torch.tensor([p.ids])
            outputs.append(run(family_model, embed(ids), [name])[1][name][0, p.last_subject])
            rows.append(ids)
        mean = torch.stack(outputs).mean(0)
        torch.testing.assert_close(reader.means[name], mean, rtol=1e-4, atol=1e-4)
        streams = reader.streams({"mlp": range(1, 2)})
        for i, (p, ids) in enumerate(zip(prompts, rows, strict=True)):
            short = ids[:, : p.last_subject + 1]
            out = run(
                family_model,
                embed(short),
                ["blocks.2.hook_resid_post"],
                replace={name: put_last(mean)},
            )[1]["blocks.2.hook_resid_post"]
            torch.testing.assert_close(streams[2][i], out[0, -1], rtol=1e-3, atol=1e-3)


def test_rare_answers_are_left_out(planted):
    few = FactSet(tuple(f for f in facts() if f.target == "x"))
    with pytest.raises(WorkbenchError, match="at least two answers"):
        fact_lookup(planted, few)


def test_one_relation_at_a_time(planted):
    other = FactSet((Fact("01", "01", "y", relation="other"), Fact("00", "00", "y", relation="b")))
    with pytest.raises(WorkbenchError, match="one relation"):
        fact_lookup(planted, facts() + other)


def test_relations_are_probed_one_by_one_and_their_facts_pooled(planted):
    """Half of the subjects in a second relation, and a third relation that cannot be probed."""
    again = FactSet(tuple(replace(f, relation="again") for f in facts()[32:]))
    whole = FactSet(tuple(f for f in facts() if f.key not in {g.key for g in again}))
    alone = FactSet((replace(whole[0], relation="lonely"),))
    whole = whole.where(lambda f: f.key != alone[0].key)
    found = fact_lookup_localization(planted, whole + again + alone)
    parts = [fact_lookup_localization(planted, part) for part in (whole, again)]
    assert list(found.config["relations"]) == [whole.relations[0], "again"]
    assert list(found.config["not_probed"]) == ["lonely"]
    assert alone[0].prompt in found.left_out
    for relation, part in zip(found.config["relations"].values(), parts, strict=True):
        assert relation["accuracy"] == part.config["accuracy"]
    low, high = sorted(part.table.set_index("layer")["score"][1] for part in parts)
    assert low - 1e-6 <= found.table.set_index("layer")["score"][1] <= high + 1e-6
    assert str(found.choose(k=1)) == "mlp.1"
    with pytest.raises(WorkbenchError, match="at least two answers"):
        few = alone + FactSet((replace(whole[1], relation="lonelier"),))
        fact_lookup_localization(planted, few)


def test_what_no_probe_reads_is_said(planted):
    """Labels the model gives but that follow no rule of the stream."""
    with pytest.raises(WorkbenchError, match="does not know this fact"):
        fact_lookup(planted, FactSet((Fact("01", "01", "q", relation="parity"),)))
