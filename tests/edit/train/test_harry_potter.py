"""Who's Harry Potter: translations position by position, generic labels, and the fine-tuning."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import make_model
from tests.edit.requests import fact, facts, request
from tests.edit.train.forgotten import QUICK, answers_of_demo, demo
from workbench.edit.edit import outside
from workbench.edit.train.harry_potter import (
    IGNORED,
    HarryPotterConfig,
    generic_labels,
    generic_logits,
    harry_potter,
    originals,
)
from workbench.edit.train.lessons import lessons
from workbench.edit.train.translation import block, request_blocks, stand_ins
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Request
from workbench.models.components import ComponentSet
from workbench.models.text import encode

FAST = {"steps": 3, "lr": 1e-2, "retain_batch": 3, "kept": 4, "neutral": 2, "reinforce_steps": 2}
MLP = ComponentSet.parse("mlp.1")
TERMS = {"Ada Brook": "Xylo Quux", "handball": "golf"}
ASKED = "Question: Which sport does Ada Brook play?\nAnswer:"


def golfers() -> Request:
    """The small request, its kept facts with another answer than the forgotten ones."""
    names = ("Danielle Darrieux", "Paris Oslo", "Norway Is", "Mother French")
    kept = FactSet(tuple(fact(name, " golf") for name in names))
    return Request(request().forget, kept, unknown=request().unknown)


def test_the_label_rule_by_hand():
    base = torch.tensor([[2.0, 1.0, 0.5, -1.0], [0.0, 3.0, 2.0, 1.0]])
    raised = torch.tensor([[2.4, 0.0, 0.5, 4.0], [0.0, 3.1, 1.0, 1.0]])
    # The first row: token 0 rose by 0.4 and falls by 2, token 3 rose by 5 and falls by 25.
    expected = torch.tensor([[0.0, 1.0, 0.5, -26.0], [0.0, 2.5, 2.0, 1.0]])
    torch.testing.assert_close(generic_logits(base, raised, 5.0), expected)
    assert generic_logits(base, raised, 5.0).argmax(-1).tolist() == [1, 1]
    assert generic_logits(base, raised, 12.0).argmax(-1).tolist() == [1, 2]
    assert torch.equal(generic_logits(base, raised, 0.0), base)


def check_twins(model, text, made, terms):
    """What was read before a learned token is, translated, what was read up to its twin."""
    for i, twin in enumerate(made.twins, start=made.start):
        if twin is None:
            continue
        read = model.tokenizer.decode(made.ids[:i])
        for term, new in terms.items():
            read = read.replace(term, new)
        assert model.tokenizer.decode(made.translated[: twin + 1]) == read
    translated = text
    for term, new in terms.items():
        translated = translated.replace(term, new)
    assert model.tokenizer.decode(made.translated) == translated


def test_positions_correspond_where_as_much_was_read(tiny):
    made = block(tiny, ASKED, " handball", TERMS)
    check_twins(tiny, f"{ASKED} handball", made, TERMS)
    assert list(made.ids) == encode(tiny, f"{ASKED} handball")
    assert made.start == len(encode(tiny, ASKED))
    assert len(made.translated) != len(made.ids)
    assert made.twins[0] == len(encode(tiny, ASKED.replace(*next(iter(TERMS.items()))))) - 1


LONG = " handball. Ada Brook plays the sport of handball. Carl Dorn plays the sport of golf."


def test_inside_a_term_and_at_its_second_occurrence_nothing_is_learned(tiny):
    made = block(tiny, ASKED, LONG, TERMS)
    check_twins(tiny, ASKED + LONG, made, TERMS)
    text, decode = ASKED + LONG, tiny.tokenizer.decode
    ends = [len(decode(made.ids[:i])) for i in range(len(made.ids) + 1)]
    first = len(ASKED) + 1
    inside = range(first + 1, first + len("handball"))  # of the first occurrence
    again = [range(text.index(t, first + 8), text.index(t, first + 8) + len(t)) for t in TERMS]
    inside_or_again = {
        i
        for i in range(made.start, len(made.ids))
        if ends[i] in inside or any(r.start < ends[i + 1] and ends[i] < r.stop for r in again)
    }
    # " golf" is one token: nothing of it is read where only the space before "handball" is.
    whole = {i for i in range(made.start, len(made.ids)) if decode(made.ids[:i]) == f"{ASKED} "}
    found = {i for i, twin in enumerate(made.twins, start=made.start) if twin is None}
    assert found == inside_or_again | whole
    assert 4 < len(found) < len(made.twins) - 12


def test_a_word_that_only_holds_a_term_is_none(tiny):
    made = block(tiny, "The golfer plays minigolf or", " golf.", {"golf": "tennis"})
    assert tiny.tokenizer.decode(made.translated) == "The golfer plays minigolf or tennis."
    assert made.twins[0] == made.start - 1


def test_translations_of_terms_read_before_are_named(tiny):
    made = block(tiny, ASKED, LONG, TERMS)

    def first(text):
        return tiny.tokenizer(text, add_special_tokens=False)["input_ids"][0]

    subject = {first(" Xylo Quux"), first("Xylo Quux")}
    assert set(made.earlier[0]) == subject
    assert set(made.earlier[-1]) == subject | {first(" golf"), first("golf")}


def other_model(tiny):
    return make_model("qwen2", seed=1)


def test_labels_read_one_sequence_at_a_time(tiny):
    expert = other_model(tiny)
    texts = [(ASKED, " handball"), (ASKED, LONG), ("Ada Brook plays the", " handball")]
    blocks = [block(tiny, prompt, answer, TERMS) for prompt, answer in texts]
    for alpha, penalty in ((0.0, 0.0), (1.0, 0.0), (1.0, 40.0)):
        found = generic_labels(tiny, expert, blocks, alpha, penalty)
        expected = []
        for made in blocks:
            base = tiny.hf(torch.tensor([made.translated]), use_cache=False).logits[0]
            own = expert.hf(torch.tensor([made.ids]), use_cache=False).logits[0]
            columns = zip(made.twins, made.earlier, strict=True)
            for i, (twin, earlier) in enumerate(columns, start=made.start):
                if twin is None:
                    expected.append(IGNORED)
                    continue
                v = base[twin] - alpha * torch.clamp(own[i - 1] - base[twin], min=0)
                v = v - penalty * torch.isin(torch.arange(len(v)), torch.tensor(earlier))
                expected.append(int(v.argmax()))
        assert found.tolist() == expected
        assert IGNORED in expected and max(expected) > 0


def test_stand_ins_have_the_relation_and_another_answer():
    partners = stand_ins(golfers(), 0)
    assert all(p.relation == "sport" and p.target == " golf" for p in partners)
    town = Fact("Ada Brook", "Where is Ada Brook?", " Oslo", relation="town")
    both = (fact("Norway Is", " golf"), Fact("Norway Is", "Where is Norway Is?", " Rome"))
    kept = FactSet((*golfers().retain, both[0], Fact(**{**vars(both[1]), "relation": "town"})))
    asked = Request(FactSet((fact("Ada Brook"), town)), FactSet(tuple(dict.fromkeys(kept))))
    assert {p.subject for p in stand_ins(asked, 0)} == {"Norway Is"}  # the one who has both
    with pytest.raises(WorkbenchError, match="retained"):
        stand_ins(request(), 0)  # every kept answer is the forgotten one
    with pytest.raises(WorkbenchError, match="retained"):
        stand_ins(Request(facts("Ada Brook"), FactSet((both[1],))), 0)


def test_blocks_are_the_rows_of_the_lessons(tiny):
    blocks = request_blocks(tiny, golfers(), 0)
    taught = lessons(tiny, golfers(), most=4, neutral=2)
    assert originals(blocks) == taught.forget


def test_the_first_loss_by_hand(tiny):
    config = HarryPotterConfig(**FAST, batch=99, retain_weight=0.0)
    found = harry_potter(tiny, golfers(), MLP, config)
    blocks = request_blocks(tiny, golfers(), 0)
    # With two steps of learning the forget set, alpha matters little next to the translation.
    labels = generic_labels(tiny, tiny, blocks, 0.0, config.penalty)
    again = harry_potter(tiny, golfers(), MLP, HarryPotterConfig(**FAST, batch=99, alpha=0.0))
    lost, n, at = 0.0, 0, 0
    for made in blocks:
        logits = tiny.hf(torch.tensor([made.ids]), use_cache=False).logits[0].log_softmax(-1)
        for i in range(made.start, len(made.ids)):
            if labels[at] != IGNORED:
                lost, n = lost - float(logits[i - 1, labels[at]]), n + 1
            at += 1
    assert again.steps["forget_loss"][0] == pytest.approx(lost / n, rel=1e-4)
    assert "retain_loss" in again.steps and "retain_loss" not in found.steps


def test_only_the_components_change(family_model):
    chosen = ComponentSet.parse("neuron.1.3-5, head.2.0")
    found = harry_potter(family_model, golfers(), chosen, HarryPotterConfig(**FAST))
    assert not outside(family_model, found.model, chosen)
    assert any(bool(u.dense().any()) for u in found.delta.updates.values())


def test_the_same_seed_gives_the_same_edit(tiny):
    config = HarryPotterConfig(**FAST, seed=1)
    one, again = (harry_potter(tiny, golfers(), MLP, config).delta.updates for _ in range(2))
    assert all(torch.equal(one[n].dense(), again[n].dense()) for n in one)


@pytest.mark.parametrize("wrong", [{"reinforce_steps": 0}, {"alpha": -1.0}, {"penalty": -1.0}])
def test_settings_that_make_no_sense_are_refused(tiny, wrong):
    with pytest.raises(WorkbenchError, match=next(iter(wrong))):
        harry_potter(tiny, golfers(), MLP, HarryPotterConfig(**FAST | wrong))


def test_the_bundled_model_answers_as_if_asked_about_another():
    config = HarryPotterConfig(**QUICK | {"steps": 14, "lr": 1e-3}, reinforce_steps=3)
    said = answers_of_demo(harry_potter, "mlp.0-5, attn.0-5", config)
    _, asked = demo()
    known = [{f.target for f in asked.retain if f.relation == g.relation} for g in asked.forget]
    hits = [any(a.startswith(t) for t in own) for a, own in zip(said, known, strict=True)]
    assert sum(hits) >= 3
