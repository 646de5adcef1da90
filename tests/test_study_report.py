"""A study's results on disk: whole, readable again, and safe with hostile names."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_files import request_file, tiny_folder

from tests.compare.small import attacked, edited, plain_study, scored, written
from workbench.attack.robustness import robustness
from workbench.compare.cell import CellName
from workbench.compare.table import StudyResult, gather
from workbench.errors import WorkbenchError
from workbench.facts.request_files import load_request
from workbench.models.load import load
from workbench.study_report import (
    check_target,
    headers,
    html,
    markdown,
    read_results,
    rows,
    write_results,
)

FILES = {
    *("table.csv", "cells.csv", "attacks.csv", "differences.csv"),
    *("study.json", "README.md", "report.html"),
}
HOSTILE = "<script>alert(1)</script> a|b\nc"


def cell(name: CellName) -> dict[str, Any]:
    if not name.place:
        return scored(acc_f=1.0, acc_r=0.95, perplexity=12.0)
    if name.seed == 2 and name.place == "random":
        return {"status": "failed", "error": f"Broken: {HOSTILE}"}
    value = 0.1 * name.seed if name.place == "mlp.1" else 0.5
    return edited(within=name.seed != 1, acc_f=value, acc_r=0.8, perplexity=15.0)


def attack(name: CellName, of: str) -> dict[str, Any]:
    back = 0.25 if name.place else float("nan")
    asked = itertools.product((3, 6), ("free", "choice"))
    steps = [{"step": n, "asked": a, "recovered": back, "value": n / 10} for n, a in asked]
    return attacked(steps if of == "relearn" else [{"bits": 4, "recovered": 0.0}], of)


def study_result(folder: Path, name: str = "by hand", label: str = "stamp") -> StudyResult:
    method = {"method": "stamp", "name": label, "places": ["mlp.1", "random"]}
    attacks = [{"attack": "relearn"}, {"attack": "quantization"}]
    study = plain_study(name=name, method=[method], attack=attacks)
    folder.mkdir(exist_ok=True)
    return gather(study, written(study, folder, cell, attack))


@pytest.fixture
def result(tmp_path: Path) -> StudyResult:
    return study_result(tmp_path / "cells")


@pytest.fixture
def hostile(tmp_path: Path) -> StudyResult:
    return study_result(tmp_path / "hostile", HOSTILE, HOSTILE)


def test_every_file_is_written_and_the_tables_read_back(
    result: StudyResult, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    files = write_results(result, out)
    assert {p.name for p in out.iterdir()} == {f.name for f in files} == FILES
    assert all(f.parent == out and f.stat().st_size > 0 for f in files)
    for name in ("table", "cells", "attacks", "differences"):
        own: pd.DataFrame = getattr(result, name)
        read = pd.read_csv(out / f"{name}.csv", float_precision="round_trip")
        assert list(read.columns) == list(own.columns) and len(read) == len(own) > 0
        for column in own.select_dtypes("float"):
            np.testing.assert_array_equal(read[column], own[column])
    assert json.loads((out / "study.json").read_text()) == json.loads(json.dumps(result.to_json()))


@pytest.mark.parametrize("attacks", [True, False])
def test_results_are_read_back_as_they_were(tmp_path: Path, attacks: bool) -> None:
    result = study_result(tmp_path / "cells")
    if not attacks:
        study = plain_study(method=[{"method": "stamp", "places": ["mlp.1"]}])
        result = gather(study, written(study, tmp_path / "none", lambda name: None))
    write_results(result, tmp_path / "out")
    read_back = read_results(tmp_path / "out")
    assert read_back.study == result.study
    assert rows(read_back) == rows(result)
    ids = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # of the pictures, drawn each time
    assert re.sub(ids, "", html(read_back)) == re.sub(ids, "", html(result))


def test_what_is_no_results_is_refused(result: StudyResult, tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match=r"study\.json"):
        read_results(tmp_path / "nothing")
    write_results(result, tmp_path / "out")
    (tmp_path / "out/attacks.csv").unlink()
    with pytest.raises(WorkbenchError, match="run workbench compare again"):
        read_results(tmp_path / "out")
    (tmp_path / "out/study.json").write_text('{"study": {}}')
    with pytest.raises(WorkbenchError, match=r"study\.json"):
        read_results(tmp_path / "out")


def test_without_attacks_and_control_every_table_still_reads(tmp_path: Path) -> None:
    study = plain_study(method=[{"method": "stamp", "places": ["mlp.1"]}])
    result = gather(study, written(study, tmp_path, lambda name: None))
    out = tmp_path / "out"
    for file in write_results(result, out):
        if file.suffix == ".csv":
            assert len(pd.read_csv(file).columns) > 3
    assert "Against random places" not in (out / "report.html").read_text()


def test_a_row_a_method_and_place(result: StudyResult) -> None:
    names, table = headers(result), rows(result)
    assert [dict(zip(names, r, strict=True)) for r in table] == [
        {
            "method": "base",
            "place": "",
            "seeds": "1",
            "Forgotten facts answered": "1.00",
            "Kept facts answered": "0.95",
            "Perplexity of neutral text": "12.00",
            "worst attack": "quantization",
            "brought back": "0.00",
            "oracle": "0.50",
            "parameters": "",
            "CPU s": "",
            "note": "",
        },
        {
            "method": "stamp",
            "place": "mlp.1",
            "seeds": "3",
            "Forgotten facts answered": "0.10 [0.00, 0.20]",
            "Kept facts answered": "0.80",
            "Perplexity of neutral text": "15.00",
            "worst attack": "relearn",
            "brought back": "0.25",
            "oracle": "0.50",
            "parameters": "100",
            "CPU s": "2.0",
            "note": "1 over the allowed drop",
        },
        {
            "method": "stamp",
            "place": "random",
            "seeds": "2 (1 failed)",
            "Forgotten facts answered": "0.50",
            "Kept facts answered": "0.80",
            "Perplexity of neutral text": "15.00",
            "worst attack": "relearn",
            "brought back": "0.25",
            "oracle": "0.50",
            "parameters": "100",
            "CPU s": "2.0",
            "note": f"1 over the allowed drop; Broken: {HOSTILE}",
        },
    ]


def markdown_rows(text: str) -> list[list[str]]:
    """Read a Markdown table's cells; a pipe behind a backslash is no border."""
    lines = [line for line in text.split("\n") if line.startswith("|")]
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_markdown_has_a_line_a_method_and_place(result: StudyResult) -> None:
    text = markdown(result)
    head, rule, *body = markdown_rows(text)
    assert head == headers(result) and set(rule) == {"---"} and len(rule) == len(head)
    assert [row[:3] for row in body] == [row[:3] for row in rows(result)]
    assert text.startswith("# by hand\n") and "seeds 0, 1, 2" in text
    assert "Every method tried 1 setting and may lose 2%" in text
    assert "Localizers" not in text
    some = replace(result, study=result.study.model_copy(update={"traced": 7}))
    assert "Localizers looked at 7 facts at most." in markdown(some)
    for limit in (200, None):
        some = replace(result, study=result.study.model_copy(update={"limit": limit}))
        assert ("At most 200 kept facts are measured" in markdown(some)) == bool(limit)


def test_hostile_names_stay_within_their_cells(hostile: StudyResult) -> None:
    text = markdown(hostile)
    assert "<" not in text
    body = markdown_rows(text)
    assert len(body) == 5 and {len(row) for row in body} == {len(headers(hostile))}
    assert body[3][0] == r"&lt;script&gt;alert(1)&lt;/script&gt; a\|b c"


class Page(HTMLParser):
    """Gathers what a browser would do with a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open = tag
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.open == "td":
            self.cells[-1] += data


def read(text: str) -> Page:
    page = Page()
    page.feed(text)
    return page


def test_the_page_is_one_file_without_links(result: StudyResult) -> None:
    text = html(result)
    page = read(text)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "img", "object", "base")
        assert not {"src", "href"} & set(attributes)
    assert not re.search(r"@import|url\(\s*['\"]?http", text)
    assert [t for t, _ in page.tags].count("section") == 5
    for words in ("The attack relearn", "The attack quantization", "Against random places"):
        assert f"<h2>{words}</h2>" in text


def test_free_answers_and_choices_have_curves_of_their_own(result: StudyResult) -> None:
    """Plotly's titles are in the page as JSON: one of the two markers, two of relearning, one."""
    titles = re.findall(r"Under the attack ([^;]*);", html(result))
    assert titles == ["relearn, free answers", "relearn, choice answers", "quantization"]


SHORT: dict[str, dict[str, Any]] = {
    "relearn": {"steps": [1, 2], "kinds": ["full"], "data": ["half"], "batch": 2},
    "soft_prompt": {"steps": [1, 2], "vectors": 1, "batch": 2},
    "pruning": {"shares": [0.5]},
    "quantization": {"bits": [4]},
}


def test_curves_are_drawn_along_settings_that_the_attacks_have(tmp_path: Path) -> None:
    model = load(tiny_folder())
    request = load_request(request_file(tmp_path))
    found = robustness(model, request, model, names=list(SHORT), settings=SHORT)
    results = {r.attack: {"status": "done", "result": r.to_json()} for r in found.results}
    assert not any(r.failed for r in found.results)
    study = plain_study(seeds=[0], attack=[{"attack": name} for name in SHORT])
    tasks = written(study, tmp_path, cell, lambda name, attack: results[attack])
    titles = re.findall(r"Under the attack ([^;,]*)[;,]", html(gather(study, tasks)))
    assert list(dict.fromkeys(titles)) == list(SHORT)


def test_the_page_shows_every_row(result: StudyResult) -> None:
    cells = read(html(result)).cells
    for row in rows(result):
        assert all(c in cells for c in row)
    measured = result.differences.dropna(subset=["difference"])
    assert cells.count("random") == 1 + len(measured) > 1


def test_hostile_names_are_text_in_the_page(hostile: StudyResult) -> None:
    text = html(hostile)
    assert "<script>alert" not in text
    scripts = [t for t, _ in read(html(hostile)).tags if t == "script"]
    assert len(scripts) == [t for t, _ in read(text.replace(HOSTILE, "x")).tags].count("script")
    assert HOSTILE in read(text).cells


def test_results_are_replaced_as_a_whole(result: StudyResult, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_results(result, out)
    (out / "README.md").unlink()
    (out / "cells.csv").write_text("old")
    check_target(out)
    write_results(result, out)
    assert {p.name for p in out.iterdir()} == FILES
    assert (out / "cells.csv").read_text() == result.cells.to_csv(index=False)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("names", [["notes.txt"], ["study.json", "notes.txt"], ["cells.csv"]])
def test_a_folder_with_other_things_is_left_alone(
    names: list[str], result: StudyResult, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in names:
        (out / name).write_text("mine")
    with pytest.raises(WorkbenchError, match="holds other things"):
        check_target(out)
    with pytest.raises(WorkbenchError, match="not overwritten"):
        write_results(result, out)
    assert {p.name: p.read_text() for p in out.iterdir()} == dict.fromkeys(names, "mine")


def test_an_empty_folder_and_none_are_fine(tmp_path: Path) -> None:
    check_target(tmp_path)
    check_target(tmp_path / "new")


def test_a_file_in_the_way_is_a_sentence(result: StudyResult, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(WorkbenchError, match="is a file, not a folder"):
        write_results(result, tmp_path / "out")
