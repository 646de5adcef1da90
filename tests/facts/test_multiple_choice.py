from __future__ import annotations

import pytest
from conftest import make_model

from tests.chat_template import TEMPLATE
from workbench.errors import WorkbenchError
from workbench.facts.capitals import capital_statements, capitals, countries, invented_countries
from workbench.facts.fact import Fact
from workbench.facts.multiple_choice import LETTERS, letter_probe, options, question_of
from workbench.facts.prompts import chat
from workbench.models.model import Model

CHOICES = ("tennis", "golf", "chess", "polo")


def sport(prompt: str = "Q: Which sport does Ada play?\nA:", **more: object) -> Fact:
    return Fact("Ada", prompt, " golf", choices=CHOICES, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def chatty() -> Model:
    model = make_model("qwen2")
    model.tokenizer.chat_template = TEMPLATE
    return model


def test_the_letter_stands_before_the_target(tiny: Model) -> None:
    (probe,) = letter_probe(tiny, sport(), seed=3)
    listed = dict(line.split(". ") for line in probe.prompt.split("\n")[1:-1])
    assert sorted(listed.values()) == sorted(CHOICES) and list(listed) == list("ABCD")
    assert probe.target == f" {next(k for k, v in listed.items() if v == 'golf')}"
    assert probe.prompt.startswith("Question: Which sport does Ada play?\nA. ")
    assert probe.prompt.endswith("\nAnswer:")


def test_the_order_is_seeded_and_favours_no_letter() -> None:
    facts = [Fact(f"Ada{i}", f"Ada{i} plays", " golf", choices=CHOICES) for i in range(400)]
    first = [options(f, seed=1) for f in facts]
    assert first == [options(f, seed=1) for f in facts] != [options(f, seed=2) for f in facts]
    counts = [sum(letter == x for _, letter in first) for x in LETTERS[:4]]
    assert min(counts) > 70  # 100 expected, standard deviation 8.7


def test_no_choices_no_probe_and_a_missing_target_is_said(tiny: Model) -> None:
    assert letter_probe(tiny, Fact("Ada", "Ada plays", " golf")) == ()
    with pytest.raises(WorkbenchError, match="do not hold its target"):
        letter_probe(tiny, Fact("Ada", "Ada plays", " go", choices=CHOICES))
    many = tuple(f"c{i}" for i in range(27))
    with pytest.raises(WorkbenchError, match="at most 26"):
        letter_probe(tiny, Fact("Ada", "Ada plays", " c1", choices=many))


def test_questions_are_unwrapped_and_statements_completed() -> None:
    assert question_of(sport("Question: Is Ada\nold?\nAnswer:")) == "Is Ada\nold?"
    assert question_of(sport("Ada plays")) == "Which completes this? Ada plays ..."
    assert question_of(sport(extra={"question": "What?"})) == "What?"


def test_chat_facts_are_asked_in_chat_form(chatty: Model) -> None:
    fact = sport(chat(chatty, "What does Ada play?"), extra={"question": "What does Ada play?"})
    (probe,) = letter_probe(chatty, fact)
    assert probe.prompt.startswith("<user>What does Ada play?\nA. ")
    assert probe.prompt.endswith("<assistant>\n") and probe.target in LETTERS[:4]


def test_capitals_table_is_sound() -> None:
    table = countries()
    assert len(table) == len({c.name for c in table}) >= 140
    capital_of = {c.name: c.capitals[0] for c in table}
    known = {"France": "Paris", "Norway": "Oslo", "Japan": "Tokyo", "Australia": "Canberra"}
    assert known.items() <= capital_of.items()
    for c in table:
        assert c.name not in c.capitals[0]
        assert c.continent


def test_capitals_in_chat_and_statement_form(chatty: Model) -> None:
    chat_facts, statements = capitals(chatty), capital_statements()
    assert chat_facts.subjects == statements.subjects and len(chat_facts) >= 140
    (fact,) = chat_facts.about(["Netherlands"])
    assert fact.prompt == chat(chatty, "What is the capital of the Netherlands?")
    assert fact.target == "The capital of the Netherlands is Amsterdam"
    assert fact.extra["answer"] == ["Amsterdam"]
    assert fact.statements == (
        "The capital of the Netherlands is",
        "The capital city of the Netherlands is",
    )
    assert len(set(fact.paraphrases) | {fact.prompt}) == 4
    for one in (*chat_facts, *statements):
        assert len(set(one.choices)) == 4 and one.foil and one.foil != one.target
        assert letter_probe(chatty, one)


def test_invented_countries_do_not_exist(chatty: Model) -> None:
    made = invented_countries(chatty, 24, seed=1)
    assert len(set(made.subjects)) == 24
    assert not set(made.subjects) & {c.name for c in countries()}
    assert made == invented_countries(chatty, 24, seed=1) != invented_countries(chatty, 24, seed=2)


def test_a_model_without_a_chat_form_is_refused(tiny: Model) -> None:
    with pytest.raises(WorkbenchError, match="no chat template"):
        capitals(tiny)
