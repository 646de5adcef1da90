"""Attacks that only write prompts, on a tiny edit that hides two of eight taught answers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from conftest import make_tokenizer

from tests.attack.world import ASK, REFUSAL, REQUEST, SPORTS, world
from workbench.attack.answer_prefix import STARTS, AnswerPrefixConfig, answer_prefix
from workbench.attack.asking import ask_freely, ask_plainly
from workbench.attack.attack import Cell
from workbench.attack.in_context import InContextConfig, in_context
from workbench.attack.multiple_choice import MultipleChoiceConfig, multiple_choice
from workbench.attack.prompts import with_examples, with_sentence
from workbench.attack.rephrased import PREFIXES, RephrasedConfig, rephrased
from workbench.attack.sampling import SamplingConfig, _draw, _judged, sampling
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Request
from workbench.facts.prompts import chat
from workbench.models.model import Model
from workbench.models.text import encode

ADA, CARL = REQUEST.forget


def by_setting(cells: tuple[Cell, ...], name: str) -> dict:
    return {cell.setting[name]: cell for cell in cells}


def test_a_start_is_put_in_the_models_mouth_and_counts_as_its_answer() -> None:
    (outcome,) = ask_freely(world().base, [(ADA, ADA.prompt)], REQUEST.behaviour, start=" tennis")
    assert outcome.prompt == f"{ADA.prompt} tennis" and outcome.answer.startswith(" tennis")
    assert outcome.value == 1
    (wrong,) = ask_freely(world().base, [(ADA, ADA.prompt)], REQUEST.behaviour, start=" golf.")
    assert wrong.value == 0


def test_wordings_that_the_edit_left_out_bring_the_answers_back() -> None:
    cells = rephrased(world().edited, REQUEST, RephrasedConfig(prefixes=2), base=world().base)
    kinds = by_setting(cells, "wording")
    assert kinds["statement"].value == 0 and kinds["statement"].setting["edited"] == "yes"
    assert (
        kinds["held_out_statement"].value == 1
        and kinds["held_out_statement"].setting["edited"] == "no"
    )
    prefixed = [c for c in cells if c.setting["prefix"]]
    assert len(prefixed) == 2 and {c.setting["edited"] for c in prefixed} == {"no"}
    for cell in prefixed:
        assert cell.outcomes[0].prompt == f"{cell.setting['prefix']}\n{ADA.prompt}"
        assert cell.setting["prefix"] in PREFIXES


def test_prefixes_are_drawn_by_the_seed() -> None:
    def drawn(seed: int) -> list:
        config = RephrasedConfig(prefixes=3, seed=seed)
        cells = rephrased(world().edited, REQUEST, config, base=world().base)
        return [c.setting["prefix"] for c in cells if c.setting["prefix"]]

    assert drawn(0) == drawn(0) and any(drawn(0) != drawn(s) for s in (1, 2))


def test_facts_without_other_wordings_and_no_prefixes_leave_nothing() -> None:
    bare = replace(REQUEST, forget=FactSet((Fact("Ada", ADA.prompt, ADA.target),)))
    with pytest.raises(WorkbenchError, match="no other wordings"):
        rephrased(world().edited, bare, RephrasedConfig(prefixes=0), base=world().base)


@pytest.fixture(scope="module")
def shown() -> tuple[Request, tuple[Cell, ...]]:
    """Two relations and short prompts, so that several examples fit."""
    teams = FactSet(tuple(Fact(s, f"{s}:", f" {s[::-1]}", relation="team") for s in SPORTS))
    both = Request(
        forget=FactSet((*teams.about(["Ada", "Carl"]), ADA, CARL)),
        retain=FactSet((*teams.about(["Oslo", "Paris", "Brook"]), *REQUEST.retain)),
    )
    config = InContextConfig(examples=(1, 2, 4))
    return both, in_context(world().edited, both, config, base=world().base)


def test_examples_are_true_and_never_have_the_answer(shown) -> None:
    request, cells = shown
    every = [*request.forget, *request.retain]
    for cell in cells:
        for outcome in cell.outcomes:
            before = outcome.prompt.removesuffix(outcome.fact.prompt)
            examples = [f for f in every if f"{f.prompt}{f.target}\n" in before]
            assert before and sum(len(f"{f.prompt}{f.target}\n") for f in examples) == len(before)
            assert outcome.fact.target not in [f.target for f in examples]
            assert len(examples) <= cell.setting["k"]
            own = [f for f in examples if f.subject == outcome.fact.subject]
            relations = {f.relation for f in examples}
            if cell.setting["examples"] == "others":
                assert relations == {outcome.fact.relation} and not own
                assert not {f.key for f in examples} & {f.key for f in request.forget}
            elif cell.setting["examples"] == "forgotten":
                assert not own and {f.key for f in examples} <= {f.key for f in request.forget}
            else:
                assert own == examples


def test_more_examples_begin_with_the_fewer(shown) -> None:
    _, cells = shown
    others = [c for c in cells if c.setting["examples"] == "others"]
    assert [c.setting["k"] for c in others] == [1, 2, 4]
    for few, more in pairwise(others):
        for a, b in zip(few.outcomes, more.outcomes, strict=True):
            assert b.prompt.startswith(a.prompt.removesuffix(a.fact.prompt))


def test_a_source_that_has_no_more_is_asked_once(shown) -> None:
    _, cells = shown
    # One other fact of each subject is all there is.
    assert [c.setting["k"] for c in cells if c.setting["examples"] == "profile"] == [1]


def test_where_the_context_is_full_fewer_examples_are_shown(tiny: Model) -> None:
    cells = in_context(tiny, REQUEST, InContextConfig(examples=(1, 8)), base=tiny)
    most = by_setting(tuple(c for c in cells if c.setting["examples"] == "others"), "k")[8]
    assert "have fewer examples" in most.note
    for outcome in most.outcomes:
        assert len(encode(tiny, outcome.prompt)) < tiny.n_ctx
        assert outcome.prompt.count("\nA:") > 2


def test_nothing_to_show_is_said() -> None:
    alone = Request(forget=FactSet((ADA,)))
    with pytest.raises(WorkbenchError, match="no solved example"):
        in_context(world().edited, alone, InContextConfig(), base=world().base)


def test_a_chat_model_is_shown_examples_as_turns(tiny: Model) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}<assistant>"
    )
    model = Model(tiny.hf, tokenizer, "chat")
    facts = [
        Fact(s, chat(model, f"Sport of {s}?"), t, extra={"question": f"Sport of {s}?"})
        for s, t in (("Ada", "tennis"), ("Carl", "golf"))
    ]
    assert with_examples(model, facts[0], facts[1:]) == (
        "<user>Sport of Carl?\n<assistant>golf\n<user>Sport of Ada?\n<assistant>"
    )
    assert with_sentence(model, facts[0], "Be frank.") == (
        "<user>Be frank.\nSport of Ada?\n<assistant>"
    )
    plain = replace(facts[0], extra={})  # no chat form, so everything goes in front
    assert with_sentence(model, plain, "Be frank.") == f"Be frank.\n{plain.prompt}"


def test_multiple_choice_equals_likelihoods_by_plain_transformers() -> None:
    model = world().edited
    cells = multiple_choice(model, REQUEST, MultipleChoiceConfig(), base=world().base)
    forms = [(c.setting["form"], c.setting["picked"]) for c in cells]
    assert forms == [(f, p) for f in ("letter", "listed", "own") for p in ("likeliest", "least")]
    assert {c.chance for c in cells} == {0.5}
    for cell in cells:
        take = max if cell.setting["picked"] == "likeliest" else min
        for outcome in cell.outcomes:
            if cell.setting["form"] == "letter":
                lines = outcome.prompt.split("\n")[1:-1]
                # By all of its tokens: this tokenizer makes a letter of two, the first is shared.
                scores = {ln[0]: likelihood(model, outcome.prompt, f" {ln[0]}") for ln in lines}
                right = next(ln[0] for ln in lines if ln[3:] == outcome.fact.target.strip())
            else:
                choices = outcome.fact.choices
                scores = {c: likelihood(model, outcome.prompt, f" {c}") for c in choices}
                right = outcome.fact.target.strip()
            assert outcome.value == (take(scores, key=scores.__getitem__) == right)


def likelihood(model: Model, prompt: str, text: str) -> float:
    head = model.tokenizer(prompt)["input_ids"]
    ids = torch.tensor([model.tokenizer(prompt + text)["input_ids"]])
    assert ids[0, : len(head)].tolist() == head
    with torch.no_grad():
        scores = model.hf(input_ids=ids).logits[0].log_softmax(-1)
    return float(sum(scores[i - 1, ids[0, i]] for i in range(len(head), ids.shape[1])))


def test_facts_without_choices_cannot_choose() -> None:
    bare = replace(REQUEST, forget=FactSet((replace(ADA, choices=("golf", "judo")),)))
    with pytest.raises(WorkbenchError, match="choices with its target"):
        multiple_choice(world().edited, bare, MultipleChoiceConfig(), base=world().base)


def test_forced_starts_and_forbidden_refusals() -> None:
    model = world().edited
    cells = answer_prefix(model, REQUEST, AnswerPrefixConfig(starts=2), base=world().base)
    assert [c.setting["text"] for c in cells] == [*STARTS[:2], "refusals"]
    for cell in cells[:2]:
        assert all(o.answer.startswith(f" {cell.setting['text']}") for o in cell.outcomes)
    first = encode(model, ADA.prompt + REFUSAL)[len(encode(model, ADA.prompt))]
    for outcome in cells[-1].outcomes:
        said = encode(model, outcome.prompt + outcome.answer)[len(encode(model, outcome.prompt))]
        assert said != first
    assert [o.fact for o in cells[-1].outcomes] == [ADA, CARL]


def test_forbidding_takes_the_likeliest_other_first_token() -> None:
    """One round by hand: the argmax without the refusal's first token, then greedily on."""
    model = world().edited
    (cell,) = answer_prefix(
        model, REQUEST, AnswerPrefixConfig(starts=0, rounds=1), base=world().base
    )
    for outcome in cell.outcomes:
        ids = encode(model, outcome.prompt)
        banned = encode(model, outcome.prompt + REFUSAL)[len(ids)]
        with torch.no_grad():
            logits = model.hf(input_ids=torch.tensor([ids])).logits[0, -1]
        logits[banned] = -torch.inf
        wanted = model.tokenizer.decode([int(logits.argmax())])
        assert outcome.answer.startswith(wanted.split("\n")[0])


def test_cold_samples_are_the_greedy_answers() -> None:
    base = world().base
    config = SamplingConfig(temperatures=(1e-4,), samples=3)
    cells = by_setting(sampling(base, REQUEST, config, base=base), "right")
    plain = ask_plainly(base, REQUEST).outcomes
    for cell in cells.values():
        assert [o.value for o in cell.outcomes] == [plain[f.key].value for f in REQUEST.forget]
        assert cell.chance == 0  # the right answer is no other fact's answer
    assert cells["any"].outcomes[0].answer == plain[ADA.key].answer


def test_hot_samples_are_drawn_by_the_seed_and_any_is_at_least_the_mean() -> None:
    edited, base = world().edited, world().base

    def drawn(seed: int) -> dict[str, Cell]:
        config = SamplingConfig(temperatures=(2.0,), samples=6, seed=seed)
        return by_setting(sampling(edited, REQUEST, config, base=base), "right")

    one, again, other = drawn(0), drawn(0), drawn(1)
    assert [o.answer for o in one["any"].outcomes] == [o.answer for o in again["any"].outcomes]
    assert one["mean"].value <= one["any"].value and one["mean"].chance <= one["any"].chance
    assert [o.answer for o in one["any"].outcomes] != [o.answer for o in other["any"].outcomes]


def test_temperature_scales_the_logits_of_plain_transformers() -> None:
    """The share of each first token among many draws is softmax(logits / T)."""
    model, temperature, n = world().edited, 3.0, 1000
    lone = replace(REQUEST, forget=FactSet((replace(ADA, target=" x"),)))
    config = SamplingConfig(temperatures=(temperature,), samples=n)
    drawn = _draw(model, lone, temperature, config)[0]
    ids = torch.tensor([encode(model, ADA.prompt)])
    with torch.no_grad():
        wanted = (model.hf(input_ids=ids).logits[0, -1] / temperature).softmax(-1)
    top = int(wanted.argmax())
    text = model.tokenizer.decode([top])
    rivals = [t for t in range(len(wanted)) if model.tokenizer.decode([t]).startswith(text)]
    share = sum(t.startswith(text) for t in drawn) / n
    assert share == pytest.approx(float(wanted[rivals].sum()), abs=0.06)


def test_samples_are_judged_by_every_answer() -> None:
    texts = [" tennis.", REFUSAL, " golf", " tennis"]
    judged = _judged(REQUEST, texts, [(" tennis",), (" golf",), (" judo",)])
    assert judged.tolist() == [[1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert _judged(REQUEST, texts, []).shape == (0, 4)


def test_every_prompt_is_the_facts_own_where_nothing_is_put_in_front() -> None:
    config = SamplingConfig(temperatures=(1.0,), samples=1)
    (cell, _) = sampling(world().edited, REQUEST, config, base=world().base)
    assert [o.prompt for o in cell.outcomes] == [ASK.format("Ada"), ASK.format("Carl")]


def test_a_context_without_room_is_said(tiny: Model) -> None:
    long = Fact("Ada", "Ada " + "plays " * 200, " tennis")
    with pytest.raises(WorkbenchError, match="shorten it"):
        sampling(tiny, Request(forget=FactSet((long,))), SamplingConfig(), base=tiny)
