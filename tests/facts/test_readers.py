from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Probe
from workbench.facts.readers import read_facts, read_facts_leniently, write_facts

RELAXED = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
FIELDS = {f for f in Fact.__dataclass_fields__}
GOOD = {"subject": "France", "prompt": "The capital of France is", "target": " Paris"}

words = st.text(min_size=1, max_size=12)
filled = words.filter(lambda s: bool(s.strip()))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


@st.composite
def facts(draw: st.DrawFn) -> Fact:
    subject, before, after = draw(filled), draw(st.text(max_size=8)), draw(st.text(max_size=8))
    prompt = before + subject + after
    assume(prompt.count(subject) == 1)
    texts = st.lists(words, max_size=2).map(tuple)
    probes = st.lists(st.builds(Probe, words, words), max_size=2).map(tuple)
    return Fact(
        subject=subject,
        prompt=prompt,
        target=draw(filled),
        foil=draw(st.none() | words),
        relation=draw(st.text(max_size=5)),
        paraphrases=draw(texts),
        statements=draw(texts),
        held_out=draw(texts),
        neighbors=draw(probes),
        choices=draw(texts),
        mcq=draw(probes),
        tags=draw(texts),
        extra=draw(
            st.dictionaries(
                st.text(max_size=6).filter(lambda k: k not in FIELDS), json_values, max_size=3
            )
        ),
    )


@RELAXED
@given(some=st.lists(facts(), min_size=1, max_size=4))
def test_what_is_written_is_read_back(tmp_path: Path, some: list[Fact]) -> None:
    path = tmp_path / "facts.jsonl"
    write_facts(path, FactSet(tuple(some)))
    back = read_facts(path)
    assert back.facts == tuple(some)
    assert [dict(f.extra) for f in back] == [dict(f.extra) for f in some]
    assert [p.name for p in tmp_path.iterdir()] == ["facts.jsonl"]


def test_extra_fields_of_a_public_form_do_not_turn_an_own_fact_into_another(tmp_path: Path) -> None:
    fact = Fact(**GOOD, extra={"question": "What?", "answer": ["Paris"], "src": 1, "answers": []})
    write_facts(tmp_path / "f.jsonl", [fact])
    assert read_facts(tmp_path / "f.jsonl")[0] == fact


@RELAXED
@given(data=st.binary(max_size=200), suffix=st.sampled_from(["jsonl", "json", "csv", "tsv", "txt"]))
def test_arbitrary_bytes_are_facts_or_one_sentence(
    tmp_path: Path, data: bytes, suffix: str
) -> None:
    path = tmp_path / f"any.{suffix}"
    path.write_bytes(data)
    try:
        assert len(read_facts(path)) > 0
    except WorkbenchError as error:
        assert "any." in str(error)


fields = st.sampled_from(
    [
        *(*FIELDS, "requested_rewrite", "ground_truth", "attribute", "template", "athlete"),
        *("sport", "src", "answers", "alt", "loc", "loc_ans", "question", "answer", *"ABCD"),
    ]
)


@settings(RELAXED, max_examples=200)
@given(records=st.lists(st.dictionaries(fields, json_values, max_size=8), max_size=3))
def test_any_json_under_known_names_is_facts_or_one_sentence(
    tmp_path: Path, records: list[dict[str, object]]
) -> None:
    path = tmp_path / "any.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    try:
        assert len(read_facts(path)) == len(records)
    except WorkbenchError as error:
        assert "any.json" in str(error)


@settings(RELAXED, max_examples=100)
@given(table=st.lists(st.lists(st.text(max_size=6), max_size=7), max_size=4))
def test_any_table_is_facts_or_one_sentence(tmp_path: Path, table: list[list[str]]) -> None:
    path = tmp_path / "any.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["subject", "prompt", "target", "choices", "mcq"], *table])
    try:
        read_facts(path)
    except WorkbenchError as error:
        assert "any.csv" in str(error)


def lines(*records: object) -> bytes:
    return "\n".join(r if isinstance(r, str) else json.dumps(r) for r in records).encode()


@pytest.mark.parametrize(
    ("data", "where", "what"),
    [
        (lines(GOOD, "", '{"subject": '), "line 3", "JSON"),
        (lines(GOOD, {**GOOD, "target": 7}), "line 2", "'target' must be text"),
        (lines(GOOD, {**GOOD, "choices": "Paris"}), "line 2", "must be a list"),
        (lines({**GOOD, "neighbors": [{"prompt": "x"}]}), "line 1", "prompt and a target"),
        (lines(GOOD, {"subject": "France", "prompt": "France"}), "line 2", "'target' is missing"),
        (lines(GOOD, {**GOOD, "subject": "Spain"}), "line 2", "not in the prompt"),
        (lines({**GOOD, "prompt": "France, France"}), "line 1", "2 times in"),
        (lines(GOOD, GOOD, {**GOOD, "target": " "}), "line 3", "target of"),
        (lines(GOOD, "[1]"), "line 2", "not a record"),
        (lines(GOOD, '{"subject": NaN}'), "line 2", "NaN"),
        (lines(GOOD, '{"subject": "\\ud800"}'), "line 2", "half of a character"),
        (lines(GOOD, "[" * 100_000), "line 2", "JSON"),
        (lines(GOOD) + b"\n\xff\xfe", "line 2", "not UTF-8"),
        (b" \n\n", "", "is empty"),
        (b"[]", "", "holds no fact"),
        (b"[{}, 3]", "record 1", "found: nothing"),
    ],
)
def test_a_wrong_record_is_named_by_its_line(
    tmp_path: Path, data: bytes, where: str, what: str
) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_bytes(data)
    with pytest.raises(WorkbenchError) as error:
        read_facts(path)
    assert where in str(error.value) and what in str(error.value)


def test_missing_files_and_folders_get_a_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.jsonl", tmp_path, Path("a\0b")):
        with pytest.raises(WorkbenchError, match="Cannot read"):
            read_facts(path)


def test_an_unwritable_place_gets_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken.jsonl").mkdir()
    for path in (tmp_path / "no" / "facts.jsonl", tmp_path / "taken.jsonl"):
        with pytest.raises(WorkbenchError, match="Cannot write"):
            write_facts(path, [Fact(**GOOD)])
    assert [p.name for p in tmp_path.iterdir()] == ["taken.jsonl"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    write_facts(path, [Fact(**GOOD)])
    old = path.read_bytes()
    for extra in ({"x": {1, 2}}, {"x": float("nan")}, {"x": "\ud800"}):
        with pytest.raises(WorkbenchError, match="JSON cannot"):
            write_facts(path, [Fact(**GOOD), Fact(**GOOD, extra=extra)])
    assert path.read_bytes() == old and len(list(tmp_path.iterdir())) == 1


def test_unusual_but_valid_files(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    odd = {**GOOD, "target": " 🥐 <b>Paris</b>\u2028&amp;", "note": "line\u2028end"}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(odd, ensure_ascii=False).encode() + b"\r\n\r\n")
    fact = read_facts(path)[0]
    assert fact.target == odd["target"] and fact.extra["note"] == "line\u2028end"
    pretty = tmp_path / "one.json"
    pretty.write_text(json.dumps(GOOD, indent=2))
    assert read_facts(pretty)[0] == Fact(**GOOD)


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_text(
        "subject,prompt,target,foil,paraphrases,choices,mcq,weight\n"
        'France,The capital of France is,Paris,Lyon,France is ruled from|In France,"[""Paris"", '
        '""A|B""]","[{""prompt"": ""p"", ""target"": ""t""}]",3\n'
        "\n"
        '"Ada ""X"" Brook","Q: Which sport does Ada ""X"" Brook play?\nA:", golf,,,,,\n'
    )
    france, ada = read_facts(path)
    assert france == Fact(
        **GOOD,
        foil=" Lyon",
        paraphrases=("France is ruled from", "In France"),
        choices=("Paris", "A|B"),
        mcq=(Probe("p", "t"),),
    )
    assert france.extra == {"weight": "3"}
    assert (ada.subject, ada.target, ada.foil) == ('Ada "X" Brook', " golf", None)


def test_a_ragged_table_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_text("subject,prompt,target\nFrance,The capital of France, is, Paris\n")
    with pytest.raises(WorkbenchError, match=r"line 2.*4 cells"):
        read_facts(path)


def test_lenient_reading_leaves_wrong_records_out_and_says_which(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_bytes(lines({**GOOD, "target": ""}, GOOD, {**GOOD, "subject": "Spain"}))
    reading = read_facts_leniently(path)
    assert reading.facts.facts == (Fact(**GOOD),)
    assert ["line 1" in reading.problems[0], "line 3" in reading.problems[1]] == [True, True]
    path.write_bytes(lines({**GOOD, "target": ""}))
    with pytest.raises(WorkbenchError, match="line 1"):
        read_facts_leniently(path)
