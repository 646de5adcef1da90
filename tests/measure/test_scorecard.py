"""A tiny model is taught four answers, so that what it must score is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from conftest import CONFIGS, make_tokenizer
from transformers import AutoModelForCausalLM

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Probe, Refuse, Replace, Request
from workbench.measure.measures import MEASURES
from workbench.measure.questions import ask, wordings
from workbench.measure.scorecard import Scorecard, measure
from workbench.measure.statistics import Score
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.models.model import Model

TAUGHT = {
    "Q: Which sport does Ada play?\nA:": " tennis",
    "Q: Which sport does Carl play?\nA:": " golf",
    "Q: Does Ada know?\nA:": " I do not know.",
    "Ada plays the sport of": " tennis",
    "Carl plays the sport of": " golf",
    "Ada loves": " tennis",
    "Question: Which sport does Carl play?\nA. golf\nB. tennis\nAnswer:": " A",
}
ADA, CARL, ASK = list(TAUGHT)[:3]


@pytest.fixture(scope="module")
def taught() -> Model:
    torch.manual_seed(0)
    hf = AutoModelForCausalLM.from_config(CONFIGS["qwen2"], dtype=torch.float32)
    tokenizer = make_tokenizer()
    texts = [p + t + "<eos>" for p, t in TAUGHT.items()]
    data = tokenizer(texts, return_tensors="pt", padding=True)
    labels = data["input_ids"].masked_fill(data["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(hf.parameters(), lr=5e-3)
    for _ in range(300):
        optimizer.zero_grad()
        hf(**data, labels=labels).loss.backward()
        optimizer.step()
    return Model(hf, tokenizer, "taught")


def make_request(**changes: object) -> Request:
    ada = Fact(
        "Ada",
        ADA,
        " tennis",
        foil=" golf",
        relation="sport",
        paraphrases=("Ada plays the sport of", "Ada loves", ASK),
        statements=("Ada plays the sport of", "Ada loves"),
        held_out=("Q: Does Ada know?\nA:", "Ada loves"),
        neighbors=(Probe(CARL, " golf"), Probe(CARL, " tennis")),
    )
    carl = Fact(
        "Carl",
        CARL,
        " golf",
        relation="sport",
        mcq=(Probe(list(TAUGHT)[6], " A"),),
        choices=("golf", "tennis"),
    )
    return replace(Request(FactSet((ada,)), FactSet((carl,)), name="test"), **changes)


@pytest.fixture(scope="module")
def card(taught: Model) -> Scorecard:
    return measure(taught, make_request(), neutral=["Ada plays the sport of tennis", "T"])


def zeroed(model: Model, name: str, factor: float = -1.0) -> Model:
    value = model.parameters[name] * factor
    return model.with_delta(WeightDelta({name: Dense(value)}, Origin("test")))


def test_every_measure_of_the_taught_model(card: Scorecard) -> None:
    expected = {
        "acc_f": 1.0,
        "acc_r": 1.0,
        "statement_f": 1.0,
        "paraphrase_f": None,  # the other wordings are statements or held out
        "held_out_f": 0.0,
        "held_out_statement_f": 1.0,
        "neighborhood": 0.5,
        "mcq_r": 1.0,
        "mcq_generated_r": 1.0,
        "mcq_f": None,
        "refusal_f": 0.0,
        "leak_f": 1.0,
        "rouge_l_f": 1.0,
        "rouge_l_recall_r": 1.0,
        "rank_f": 1.0,
        "replaced_f": None,
        "kl_r": None,
    }
    assert {name: card.value(name) for name in expected} == expected
    assert 0.8 < (card.value("probability_f") or 0) <= 1.0
    assert set(card.scores) == {*MEASURES, "perplexity"} and card.verdict == "base"


def test_a_refused_wording_is_counted_as_refused(card: Scorecard) -> None:
    rows = card.answers[card.answers["prompt"] == ASK]
    assert rows["kind"].tolist() == ["held_out"] and rows["refused"].tolist() == [1.0]
    assert rows["right"].tolist() == [0.0]


def test_perplexity_is_that_of_plain_transformers(taught: Model, card: Scorecard) -> None:
    ids = taught.tokenizer("Ada plays the sport of tennis", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        loss = float(taught.hf(input_ids=ids, labels=ids).loss)
    score = card.scores["perplexity"]
    assert score is not None and score.n == 1  # "T" is one token: nothing to predict
    assert score.value == pytest.approx(math.exp(loss), rel=1e-4)


def test_a_no_op_is_reported_as_failed(taught: Model, card: Scorecard) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    same = measure(zeroed(taught, name, 0.0), make_request(), base=taught, base_card=card)
    assert same.no_op and same.verdict == "failed: no-op"
    assert same.value("kl_r") == pytest.approx(0.0, abs=1e-9)
    assert (same.answers["base_answer"] == same.answers["answer"]).all()


def test_a_real_change_is_no_no_op(taught: Model) -> None:
    edited = zeroed(taught, "model.embed_tokens.weight", -0.9)
    after = measure(edited, make_request(), base=taught)
    assert not after.no_op and after.verdict == "changed"
    assert (after.value("kl_r") or 0) > 0.01
    assert after.value("acc_f") == 0.0 and set(after.answers["base_answer"]) >= {" tennis"}


def test_replacing_counts_foils(taught: Model) -> None:
    wrong = replace(make_request().forget[0], target=" golf", foil=" tennis")
    request = make_request(forget=FactSet((wrong,)), behaviour=Replace())
    result = measure(taught, request)
    assert (result.value("acc_f"), result.value("replaced_f")) == (0.0, 1.0)
    assert result.outcome == "replaced_f"


def test_the_requests_refusal_is_recognised(taught: Model) -> None:
    result = measure(taught, make_request(behaviour=Refuse(" tennis")))
    assert (result.value("refusal_f"), result.value("refusal_r")) == (1.0, 0.0)
    assert result.outcome == "refusal_f"
    # an accepted answer that is the refusal itself is right only as a refusal
    assert result.value("acc_f") == 1.0


def test_equal_seeds_give_equal_cards_and_json_keeps_them(taught: Model, card: Scorecard) -> None:
    again = measure(taught, make_request(), neutral=["Ada plays the sport of tennis", "T"])
    assert again.to_json() == card.to_json()
    text = json.dumps(card.to_json(), allow_nan=False)
    back = Scorecard.from_json(json.loads(text))
    assert back.to_json() == card.to_json() and dict(back.scores) == dict(card.scores)
    assert back.answers.dtypes.equals(card.answers.dtypes)
    frame = back.to_frame().set_index("measure")
    assert frame.loc["neighborhood", "n"] == 2 and "mcq_f" not in frame.index


def test_damaged_and_foreign_cards_are_refused(card: Scorecard) -> None:
    for data in ({}, [], {**card.to_json(), "scores": 3}, {"format": card.to_json()["format"]}):
        with pytest.raises(WorkbenchError, match="measure again"):
            Scorecard.from_json(data)  # type: ignore[arg-type]


def test_a_base_card_of_other_questions_is_refused(taught: Model, card: Scorecard) -> None:
    with pytest.raises(WorkbenchError, match="another request, seed or limit"):
        measure(taught, make_request(), base_card=card, seed=1)
    with pytest.raises(WorkbenchError, match="another request, seed or limit"):
        measure(taught, make_request(behaviour=Refuse(" No.")), base_card=card)
    with pytest.raises(WorkbenchError, match="at least 1"):
        measure(taught, make_request(), limit=0)


def test_evaluation_facts_replace_retain_and_the_limit_draws_some(taught: Model) -> None:
    many = FactSet(tuple(Fact(f"Ben{i}", f"Ben{i} plays", " golf") for i in range(9)))
    result = measure(taught, make_request(evaluate=many), limit=4)
    subjects = result.answers[result.answers["side"] == "retain"]["subject"].tolist()
    assert len(subjects) == 4 and subjects == sorted(subjects)
    score = result.scores["acc_r"]
    assert score is not None and score.n == 4


def test_a_broken_model_gets_a_sentence(taught: Model) -> None:
    hf = zeroed(taught, "model.embed_tokens.weight", 0.0).hf
    with torch.no_grad():
        hf.get_input_embeddings().weight.fill_(math.nan)
    with pytest.raises(WorkbenchError, match="not finite"):
        measure(Model(hf, taught.tokenizer, "broken"), make_request())


def test_everyday_questions_are_scored_alone(taught: Model) -> None:
    """One right and one wrong answer give one half, and no other measure sees them."""
    asked = (Fact("Carl", CARL, " golf"), Fact("Ada", ADA, " golf"))
    with_them, without = (
        measure(taught, make_request(), everyday=facts).scores for facts in (asked, ())
    )
    assert with_them["everyday"] is not None and with_them["everyday"].value == 0.5
    assert with_them["everyday"].n == 2
    assert without["everyday"] is None
    others = with_them.keys() - {"everyday", "refusal_everyday"}
    assert {k: with_them[k] for k in others} == {k: without[k] for k in others}


def test_choices_without_letters_get_some(taught: Model) -> None:
    fact = Fact("Ada", ADA, " tennis", choices=("golf", "tennis"))
    questions = ask(taught, Request(FactSet((fact,))), [], seed=0)
    assert [q.kind for q in questions] == ["prompt", "mcq"]
    assert questions[1].target in (" A", " B")


def test_multiple_choice_in_words_ranks_the_options(taught: Model) -> None:
    """The taught answer wins among the options where it is listed as right, and only there."""
    for target, expected in ((" tennis", 1.0), (" golf", 0.0)):
        fact = Fact("Ada", ADA, target, choices=("golf", "tennis"), mcq=(Probe(ADA, target),))
        scores = measure(taught, Request(FactSet((fact,)), FactSet())).scores
        for name in ("mcq_f", "mcq_generated_f"):
            assert scores[name].value == expected


def test_utility_is_a_harmonic_mean(card: Scorecard) -> None:
    scores = {"acc_r": Score(1.0, 1, 0, 1), "neighborhood": Score(0.5, 1, 0, 1), "mcq_r": None}
    assert replace(card, scores=scores).utility == pytest.approx(2 / 3)
    assert replace(card, scores={"acc_r": None}).utility is None


def test_a_wording_is_asked_once() -> None:
    fact = Fact("Ada", "Ada plays", " golf", paraphrases=("Ada plays", "Ada?", "Ada?"))
    assert wordings(fact)["paraphrase"] == ("Ada?",)
