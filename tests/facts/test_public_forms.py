"""One record of each public form, in the form its authors publish it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, Probe
from workbench.facts.readers import read_facts


def one(tmp_path: Path, record: object, name: str = "set.json") -> Fact:
    path = tmp_path / name
    path.write_text(json.dumps([record]) if not isinstance(record, str) else record)
    facts = read_facts(path)
    assert len(facts) == 1
    return facts[0]


def test_counterfact_of_rome(tmp_path: Path) -> None:
    fact = one(
        tmp_path,
        {
            "case_id": 0,
            "requested_rewrite": {
                "prompt": "The mother tongue of {} is",
                "relation_id": "P103",
                "target_new": {"str": "English"},
                "target_true": {"str": "French"},
                "subject": "Danielle Darrieux",
            },
            "paraphrase_prompts": ["Danielle Darrieux, a native"],
            "neighborhood_prompts": ["The native language of Montesquieu is"],
            "generation_prompts": ["Danielle Darrieux was born in"],
        },
    )
    assert fact == Fact(
        subject="Danielle Darrieux",
        prompt="The mother tongue of Danielle Darrieux is",
        target=" French",
        foil=" English",
        relation="P103",
        paraphrases=("Danielle Darrieux, a native",),
        neighbors=(Probe("The native language of Montesquieu is", " French"),),
        tags=("counterfact",),
    )
    assert fact.extra["case_id"] == 0 and fact.extra["generation_prompts"]


def test_counterfact_of_easyedit(tmp_path: Path) -> None:
    fact = one(
        tmp_path,
        {
            "case_id": 2,
            "prompt": "The mother tongue of Danielle Darrieux is",
            "subject": "Danielle Darrieux",
            "target_new": "English",
            "ground_truth": "French",
            "rephrase_prompt": "Danielle Darrieux, a native",
            "locality_prompt": "Montesquieu spoke",
            "locality_ground_truth": "French",
        },
    )
    assert (fact.target, fact.foil) == (" French", " English")
    assert fact.paraphrases == ("Danielle Darrieux, a native",)
    assert fact.neighbors == (Probe("Montesquieu spoke", " French"),)


def test_known_facts_of_rome(tmp_path: Path) -> None:
    fact = one(
        tmp_path,
        {
            "known_id": 0,
            "subject": "Vinson Massif",
            "attribute": "Antarctica",
            "template": "{} is located in the continent",
            "prediction": " of Antarctica. It is",
            "prompt": "Vinson Massif is located in the continent",
            "relation_id": "P30",
        },
    )
    assert fact.prompt == "Vinson Massif is located in the continent"
    assert (fact.target, fact.relation) == (" Antarctica", "P30")


def test_sports_table(tmp_path: Path) -> None:
    table = (
        ",athlete,sport,log_prob_one_shot,num_athlete_tokens,prompt\n"
        "0,DeForest Buckner,football,-0.21,3,"
        '"Fact: Tiger Woods plays the sport of golf\nFact: DeForest Buckner plays the sport of"\n'
    )
    fact = one(tmp_path, table, "sports.csv")
    assert (fact.subject, fact.target, fact.relation) == ("DeForest Buckner", " football", "sport")
    assert fact.prompt.endswith("Fact: DeForest Buckner plays the sport of")
    assert fact.extra["log_prob_one_shot"] == "-0.21"


@pytest.mark.parametrize(
    ("question", "subject", "tags"),
    [
        ("What is Jaime Vasquez's most known book?", "Jaime Vasquez", ()),
        ("Who are the parents of Basil Mahfouz Al-Kuwaiti?", "Basil Mahfouz Al-Kuwaiti", ()),
        ("Does Élodie Brun write in French, as Élodie says?", "Élodie Brun", ()),
        ("what did the author write?", "what did the author write?", ("whole question",)),
    ],
)
def test_tofu_takes_the_author_as_subject(
    tmp_path: Path, question: str, subject: str, tags: tuple[str, ...]
) -> None:
    record = {
        "question": question,
        "answer": "It is The Dark.",
        "paraphrased_question": "Which book?",
        "perturbed_answer": ["It is Rain.", "It is Sun."],
    }
    fact = one(tmp_path, json.dumps(record), "tofu.jsonl")
    assert fact.subject == subject and fact.tags == ("tofu", *tags)
    assert fact.prompt == f"Question: {question}\nAnswer:"
    assert (fact.target, fact.foil) == (" It is The Dark.", " It is Rain.")
    assert fact.paraphrases == ("Question: Which book?\nAnswer:",)
    assert fact.choices == ("It is The Dark.", "It is Rain.", "It is Sun.")


def test_zsre(tmp_path: Path) -> None:
    fact = one(
        tmp_path,
        {
            "subject": "watts humphrey",
            "src": "What university did Watts Humphrey take part in?",
            "pred": "Trinity College",
            "rephrase": "What university did Watts Humphrey study at?",
            "alt": "University of Michigan",
            "answers": ["Illinois Institute of Technology"],
            "loc": "nq question: who played desmond doss father in hacksaw ridge",
            "loc_ans": "Hugo Weaving",
        },
    )
    assert fact.subject == "Watts Humphrey"
    assert (fact.target, fact.foil) == (
        " Illinois Institute of Technology",
        " University of Michigan",
    )
    near = "Question: who played desmond doss father in hacksaw ridge\nAnswer:"
    assert fact.neighbors == (Probe(near, " Hugo Weaving"),)


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ('{"question": "Is Ada old?", "choices": ["no", "yes"], "answer": 1}', "w.jsonl"),
        ('question,choices,answer\nIs Ada old?,"[""no"", ""yes""]",1\n', "w.csv"),
        ("Is Ada old?,no,yes,perhaps,never,B\n", "mmlu.csv"),
        ("question,A,B,C,D,answer\nIs Ada old?,no,yes,perhaps,never,B\n", "mmlu.csv"),
    ],
)
def test_multiple_choice(tmp_path: Path, record: str, name: str) -> None:
    fact = one(tmp_path, record, name)
    assert (fact.subject, fact.target, fact.foil) == ("Ada", " yes", " no")
    assert fact.choices[:2] == ("no", "yes")


@pytest.mark.parametrize("answer", [2, -1, "E", "AB", "", True, None, 1.5, "9" * 5000])
def test_an_answer_that_names_no_choice_is_refused(tmp_path: Path, answer: object) -> None:
    with pytest.raises(WorkbenchError, match="names none of the 2 choices"):
        one(tmp_path, {"question": "Is Ada old?", "choices": ["no", "yes"], "answer": answer})


def test_a_subject_that_is_nowhere_is_named_by_its_record(tmp_path: Path) -> None:
    record = {"subject": "Watts", "src": "Which university?", "answers": ["MIT"]}
    with pytest.raises(WorkbenchError, match=r"record 1.*not in the prompt"):
        one(tmp_path, record)
