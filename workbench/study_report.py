"""A study's results on disk: tables as CSV, JSON and Markdown, and one HTML page with pictures."""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.compare.study import make_study
from workbench.compare.table import StudyResult, along, numbers_in
from workbench.errors import WorkbenchError
from workbench.facts.readers import parse_json, read_text
from workbench.figures.html import drawn, page, section, tabled
from workbench.figures.studies import curves, pareto
from workbench.figures.theme import measure_label
from workbench.models.atomic import whole_folder

SHOWN = (
    *("acc_f", "acc_shown_f", "acc_view_f", "acc_named_f", "held_out_f", "mcq_f", "mcq_view_f"),
    *("refusal_f", "replaced_f", "acc_r", "acc_shown_r", "acc_view_r", "acc_named_r", "perplexity"),
)
_FILES = (
    *("table.csv", "cells.csv", "attacks.csv", "differences.csv"),
    *("study.json", "README.md", "report.html"),
)
_ALONG = {"relearn": "step", "soft_prompt": "step", "pruning": "share", "quantization": "bits"}


def write_results(result: StudyResult, folder: str | Path) -> tuple[Path, ...]:
    """Write everything into a folder; an earlier study's results there are replaced as a whole.

    Returns:
        The files: table, cells, attacks and differences as CSV, study.json, README.md, report.html.

    Raises:
        WorkbenchError: the folder cannot be written, or holds something else.
    """
    folder = Path(folder)
    tables = (result.table, result.cells, result.attacks, result.differences)
    texts = (
        *(table.to_csv(index=False) for table in tables),
        json.dumps(result.to_json(), indent=1) + "\n",
        markdown(result),
        html(result),
    )
    with whole_folder(folder, overwrite=True, ours=_is_study) as new:
        for name, text in zip(_FILES, texts, strict=True):
            (new / name).write_text(text, encoding="utf-8")
    return tuple(folder / name for name in _FILES)


def read_results(folder: str | Path) -> StudyResult:
    """Read what `write_results` has written, from study.json and attacks.csv.

    Raises:
        WorkbenchError: a file is missing or is not what was written.
    """
    folder = Path(folder)
    written = folder / "study.json"
    data = parse_json(read_text(written), str(written))
    try:
        study = make_study(data["study"], str(written))
        cells = pd.DataFrame(data["cells"])
        numbers = numbers_in(cells)
        added = [name for name in numbers if name not in cells]  # measured since it was written
        cells = cells.assign(**dict.fromkeys(added, math.nan)).astype(dict.fromkeys(numbers, float))
        attacks = pd.read_csv(folder / "attacks.csv", keep_default_na=False, na_values=[""])
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise WorkbenchError(
            f"{folder} does not hold a study's results; run workbench compare again."
        ) from error
    texts = ["place", "error", "worst_attack", "worst_setting"]
    cells[texts] = cells[texts].fillna("")
    for name in ("place", "note"):
        attacks[name] = attacks[name].fillna("")
    return StudyResult(study, cells, attacks)


def check_target(folder: str | Path) -> None:
    """Refuse a folder that holds something else, before a study runs for hours.

    Raises:
        WorkbenchError: it does.
    """
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not _is_study(folder):
        raise WorkbenchError(
            f"{folder} holds other things than a study's results, so it is not overwritten; "
            "choose another folder."
        )


def _is_study(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return "study.json" in names and names <= {*_FILES}


def headers(result: StudyResult) -> list[str]:
    """Return the names of the table's columns for readers."""
    shown = _measures(result)
    return [
        "method",
        "place",
        "seeds",
        *(measure_label(m) for m in shown),
        "worst attack",
        "brought back",
        "oracle",
        "parameters",
        "CPU s",
        "note",
    ]


def rows(result: StudyResult) -> list[list[str]]:
    """Return the table's rows for readers: means with their intervals over seeds."""
    out = []
    for row in result.table.to_dict("records"):
        numbers = [_interval(row, m) for m in _measures(result)]
        note = str(row["note"])
        if row["over_drop"]:
            note = f"{row['over_drop']} over the allowed drop; {note}".removesuffix("; ")
        out.append(
            [
                str(row["method"]),
                str(row["place"]),
                str(row["seeds"]) + (f" ({row['failed']} failed)" if row["failed"] else ""),
                *numbers,
                str(row["worst_attack"]),
                _interval(row, "recovered"),
                _number(row["oracle_recovered"]),
                _count(row["parameters"]),
                _number(row["cpu_seconds"], 1),
                note,
            ]
        )
    return out


def _measures(result: StudyResult) -> list[str]:
    return [m for m in SHOWN if m in result.table and result.table[m].notna().any()]


def _interval(row: dict[Any, Any], name: str) -> str:
    value = _number(row[name])
    low, high = _number(row[f"{name}_low"]), _number(row[f"{name}_high"])
    return value if low == high else f"{value} [{low}, {high}]"


def _number(value: float, digits: int = 2) -> str:
    return "" if pd.isna(value) else f"{value:.{digits}f}"


def _count(value: float) -> str:
    return "" if pd.isna(value) else f"{value:,.0f}"


def markdown(result: StudyResult) -> str:
    """Write the table as Markdown."""
    table = [headers(result), *rows(result)]
    head, *body = ("| " + " | ".join(map(_plain, row)) + " |" for row in table)
    lines = [
        f"# {_plain(result.study.name)}",
        "",
        _plain(_words(result)),
        "",
        head,
        "|" + "---|" * len(table[0]),
        *body,
        "",
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Take from a text what Markdown would read as a line's end, a cell's end or HTML."""
    return escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def _words(result: StudyResult) -> str:
    study = result.study
    tried = len(study.method[0].candidates)
    looked = f" Localizers looked at {study.traced} facts at most." if study.traced else ""
    asked = (
        f"At most {study.limit} kept facts are measured, the same for every edit and seed: the "
        "intervals leave out how they were drawn. "
        if study.limit
        else ""
    )
    return (
        f"Model {study.model}, request {study.request}, seeds "
        f"{', '.join(map(str, study.seeds))}. Every method tried "
        f"{tried} setting{'s' * (tried > 1)} and may lose {study.allowed_drop:.0%} of the "
        f"retained facts while they are chosen. Means, and 95 % intervals over seeds. {asked}"
        f"Brought back: share of what was removed that the worst attack recovers.{looked}"
    )


def _curves(result: StudyResult, attack: str, across: str) -> list[str]:
    """Draw an attack's curves; free answers and choices have pictures of their own."""
    rows = result.attacks[result.attacks["attack"] == attack]
    asked = rows["asked"].dropna().unique() if "asked" in rows else []
    parts = [(f"{attack}, {a} answers", rows[rows["asked"] == a]) for a in asked]
    return [
        drawn(curves(along(part, attack, across), attack=name, across=across))
        for name, part in parts or [(attack, rows)]
    ]


def html(result: StudyResult) -> str:
    """Write one self-contained page."""
    body = [f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows(result)]
    blocks = [
        f"<h1>{escape(result.study.name)}</h1><p>{escape(_words(result))}</p>",
        section("Methods and places", "", tabled([escape(h) for h in headers(result)], body)),
        section("Forgotten against kept", "", drawn(pareto(result.table), script=True)),
    ]
    for attack in dict.fromkeys(result.attacks["attack"]):
        across = _ALONG.get(attack)
        if across:
            blocks.append(section(f"The attack {attack}", "", *_curves(result, attack, across)))
    differences = result.differences.dropna(subset=["difference"])
    if len(differences):
        words = (
            "Difference from the same method at random components of the same size, paired by "
            "seed; p of an exact sign-flip test, corrected by Holm's method."
        )
        lines = [
            f"<tr><td>{escape(d['method'])}</td><td>{escape(d['place'])}</td>"
            f"<td>{escape(d['control'])}</td><td>{escape(measure_label(d['measure']))}</td>"
            f'<td class="n">{d["seeds"]}</td><td class="n">{d["difference"]:+.3f}</td>'
            f'<td class="n">{d["p_holm"]:.3f}</td></tr>'
            for d in differences.to_dict("records")
        ]
        columns = ("method", "place", "control", "measure", "#seeds", "#difference", "#p")
        blocks.append(section("Against random places", words, tabled(columns, lines)))
    return page(f"Study {result.study.name}", blocks)
