"""Read and write fact files: JSON Lines, JSON lists and CSV, one's own and the public forms.

One's own file uses the field names of `Fact`; fields it does not know are kept in `extra`. In CSV a
list is written as JSON or with `|` between its items, and a target that follows a word gets its
leading space if it has none. Public sets are recognised by their fields (`public_forms.py`).
"""

from __future__ import annotations

import csv
import io
import json
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Probe
from workbench.facts.public_forms import public_fact

_TEXTS = ("subject", "prompt", "target")
_LISTS = ("paraphrases", "statements", "held_out", "choices", "tags")
_PROBES = ("neighbors", "mcq")
_FIELDS = frozenset(f.name for f in fields(Fact)) - {"extra"}
_TABLES = {".csv": ",", ".tsv": "\t"}
_LETTERS = frozenset("ABCD")
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Reading:
    """What a file holds.

    Attributes:
        facts: the records that are facts.
        problems: one sentence for each record that is not, with its line.
    """

    facts: FactSet
    problems: tuple[str, ...]


def read_facts(path: str | Path) -> FactSet:
    """Read a fact file; every record must be a fact.

    Raises:
        WorkbenchError: the file cannot be read, holds no fact, or a record is wrong; the sentence
            names its line.
    """
    path = Path(path)
    return FactSet(tuple(make_fact(r, where, path.parent) for where, r in _records(path)))


def read_facts_leniently(path: str | Path) -> Reading:
    """Read a fact file; leave wrong records out and say which, for large public sets.

    Raises:
        WorkbenchError: the file cannot be read, or no record is a fact.
    """
    path = Path(path)
    made = [_attempt(where, record, path.parent) for where, record in _records(path)]
    facts = tuple(f for f in made if isinstance(f, Fact))
    problems = tuple(str(e) for e in made if isinstance(e, WorkbenchError))
    if not facts:
        raise WorkbenchError(problems[0])
    return Reading(FactSet(facts), problems)


def make_fact(record: Record, where: str, folder: Path | None = None) -> Fact:
    """Make a fact of one record.

    The path of an image begins in `folder`.

    Raises:
        WorkbenchError: a field is missing or wrong; the sentence begins with `where`.
    """
    made = _attempt(where, record, folder)
    if isinstance(made, WorkbenchError):
        raise made
    return made


def write_facts(path: str | Path, facts: Iterable[Fact]) -> None:
    """Write JSON Lines, images by their path from there; the file is there whole or not at all.

    Raises:
        WorkbenchError: the place cannot be written to, or a fact holds what JSON cannot.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    records = (f.to_json(path.parent) for f in facts)
    lines = (json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in records)
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (TypeError, ValueError) as error:
        raise WorkbenchError(
            f"A fact holds something that JSON cannot ({error}); correct it."
        ) from error
    except OSError as error:
        raise WorkbenchError(
            f"Cannot write {path} ({error.strerror or error}); choose a folder with space that "
            "you may write to."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def read_text(path: Path) -> str:
    """Read a UTF-8 file.

    Raises:
        WorkbenchError: there is no such file, it cannot be read, or it is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise WorkbenchError(
            f"{path}, line {line}: the file is not UTF-8 text; save it as UTF-8."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WorkbenchError(f"Cannot read {path} ({reason}); give a readable file.") from error


def parse_json(text: str, where: str) -> Any:
    """Parse strict JSON.

    Raises:
        WorkbenchError: it is malformed, too deep, or holds NaN or half a character.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise WorkbenchError(
            f"{where}: it holds half of a character (a lone surrogate); correct it."
        ) from error
    except RecursionError as error:
        raise WorkbenchError(f"{where}: the JSON is nested too deeply.") from error
    except ValueError as error:
        raise WorkbenchError(f"{where}: this is not valid JSON ({error}).") from error
    return value


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        WorkbenchError: it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(read_text(Path(path)))
    except tomllib.TOMLDecodeError as error:
        raise WorkbenchError(f"{path} is not a TOML file: {error}.") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _records(path: Path) -> Iterator[tuple[str, Record]]:
    """Yield each record and where it stands."""
    text = read_text(path)
    if not text.strip():
        raise WorkbenchError(f"{path} is empty; write one fact a line.")
    empty = True
    for where, value in _split(path, text):
        empty = False
        if not isinstance(value, dict):
            raise WorkbenchError(
                f"{where}: this is not a record with named fields; write an object in braces."
            )
        yield where, value
    if empty:
        raise WorkbenchError(f"{path} holds no fact; write one fact a line.")


def _split(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    if path.suffix.lower() in _TABLES:
        yield from _rows(path, text)
    elif text.lstrip().startswith("["):
        for i, value in enumerate(parse_json(text, str(path)), start=1):
            yield f"{path}, record {i}", value
    elif path.suffix.lower() == ".json" and _is_json(text):
        yield f"{path}, record 1", parse_json(text, str(path))
    else:  # not splitlines(): it would also split at characters that JSON allows inside texts
        for i, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"{path}, line {i}", parse_json(line, f"{path}, line {i}")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _rows(path: Path, text: str) -> Iterator[tuple[str, Record]]:
    """Yield the rows of a table as records; empty cells are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_TABLES[path.suffix.lower()])
    header: list[str] | None = None
    try:
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if not any(cell.strip() for cell in row):
                continue
            if header is None:
                header = [cell.strip() for cell in row]
                if not (len(row) == 6 and row[5].strip() in _LETTERS):  # MMLU has no header
                    continue
                header = ["question", "A", "B", "C", "D", "answer"]
            if len(row) > len(header):
                raise WorkbenchError(
                    f"{where}: the row has {len(row)} cells, the header {len(header)}; put quotes "
                    "around cells that hold the separator."
                )
            cells = zip(header, row, strict=False)
            yield where, _from_cells({k: v for k, v in cells if k and v.strip()}, where)
    except csv.Error as error:
        raise WorkbenchError(
            f"{path}, line {reader.line_num}: this is not a valid table ({error})."
        ) from error


def _attempt(where: str, record: Record, folder: Path | None) -> Fact | WorkbenchError:
    """Make a fact of a record, or the error that says what is wrong with it and where."""
    try:
        own = all(name in record for name in _TEXTS)
        return (None if own else public_fact(record)) or _own(record, folder)
    except WorkbenchError as error:
        return WorkbenchError(f"{where}: {error}")


def _from_cells(record: Record, where: str) -> Record:
    """Read the lists in a table's cells, and give the targets their leading space."""
    out = dict(record)
    for name in (*_LISTS, *_PROBES):
        cell = str(record.get(name, "")).strip()
        if cell:
            is_json = cell.startswith("[")
            out[name] = parse_json(cell, f"{where}, {name}") if is_json else cell.split("|")
    prompt = str(record.get("prompt", ""))
    for name in ("target", "foil"):
        if name in out and not out[name][:1].isspace() and not prompt[-1:].isspace():
            out[name] = f" {out[name]}"
    return out


def _own(record: Record, folder: Path | None) -> Fact:
    """Make a fact of a record with the field names of `Fact`; its image is beside the file."""
    for name in _TEXTS:
        if name not in record:
            raise WorkbenchError(
                f"the field {name!r} is missing; a fact needs subject, prompt and target "
                f"(found: {', '.join(map(str, record)) or 'nothing'})."
            )
    given: dict[str, Any] = {name: _text(record[name], name) for name in _TEXTS}
    given["foil"] = None if record.get("foil") is None else _text(record["foil"], "foil")
    relation = record.get("relation")
    given["relation"] = "" if relation is None else _text(relation, "relation")
    for name in _LISTS:
        given[name] = tuple(_items(record, name, lambda item, n=name: _text(item, n)))
    for name in _PROBES:
        given[name] = tuple(_items(record, name, lambda item, n=name: _probe(item, n)))
    if record.get("image") is not None:
        given["image"] = (folder or Path()) / _text(record["image"], "image")
    beside = _items(record, "views", lambda item: (folder or Path()) / _text(item, "views"))
    given["views"] = tuple(beside)
    return Fact(**given, extra={k: v for k, v in record.items() if k not in _FIELDS})


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise WorkbenchError(f"the field {name!r} must be text, not {value!r:.60}.")
    return value


def _items(record: Record, name: str, read: Callable[[Any], Any]) -> Iterator[Any]:
    value = record.get(name)
    if value is not None and not isinstance(value, list):
        raise WorkbenchError(f"the field {name!r} must be a list, not {value!r:.60}.")
    return map(read, value or [])


def _probe(value: Any, name: str) -> Probe:
    if not isinstance(value, dict) or {"prompt", "target"} - set(value):
        raise WorkbenchError(
            f"each of {name!r} must have a prompt and a target, not {value!r:.60}."
        )
    return Probe(_text(value["prompt"], name), _text(value["target"], name))
