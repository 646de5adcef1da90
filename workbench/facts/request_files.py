"""Requests from files: a named request of a folder of facts, a request file, or plain fact files.

A request file is JSON. One request is a record of selections; a file may hold several by name:

    {"athletes": {"forget":   [{"file": "athletes.jsonl", "subjects": ["Ada Brook"]}],
                  "retain":   [{"file": "athletes.jsonl", "tags": ["retain"]}],
                  "evaluate": [{"file": "athletes.jsonl", "tags": ["evaluate"]}],
                  "unknown":  [{"file": "unknown.jsonl", "tags": ["athlete"]}],
                  "behaviour": {"refuse": " I do not know."}}}        or {"replace": true}

A selection takes the facts of a file (a path beside the request file) whose subject is listed, or
which have all the tags; with neither it takes the whole file. With "relations" it takes of these
only the facts of the listed relations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.fact import Behaviour, Fact, FactSet, Refuse, Replace, Request
from workbench.facts.readers import parse_json, read_facts, read_text, write_facts
from workbench.models.atomic import write_json
from workbench.models.bundled import BUNDLES

NAMED = "requests.json"
_PARTS = ("forget", "retain", "evaluate", "unknown")
_KEYS = ("file", "subjects", "tags", "relations")


def request_names(facts_dir: str | Path | None = None) -> tuple[str, ...]:
    """Return the names of the requests of a folder of facts, the bundled ones by default."""
    return tuple(name for folder in _folders(facts_dir) for name in _read(folder / NAMED))


def load_request(name_or_path: str | Path, *, facts_dir: str | Path | None = None) -> Request:
    """Load a request by its name, or from a request file (`file.json`, `file.json#name`).

    Args:
        name_or_path: "athletes", or the path of a request file.
        facts_dir: the folder whose `requests.json` names the requests; the bundled ones by default.

    Raises:
        WorkbenchError: there is no such request, or it or one of its files is wrong.
    """
    given = str(name_or_path)
    path, _, name = given.partition("#")
    if not path.endswith(".json"):
        folders = _folders(facts_dir)
        file = next((f / NAMED for f in folders if given in _read(f / NAMED)), None)
        if file is None:
            raise unknown_name("request", given, request_names(facts_dir))
        name = given
    else:
        file = Path(path)
    known = _read(file)
    if "forget" in known and isinstance(known["forget"], list):
        return _make(known, file.parent, file.stem)
    if not name and len(known) == 1:
        name = next(iter(known))
    if name not in known:
        raise unknown_name("request", name, known)
    return _make(known[name], file.parent, name)


def request_from_files(
    forget: str | Path, retain: str | Path | None = None, behaviour: Behaviour | None = None
) -> Request:
    """Make a request of two fact files.

    Raises:
        WorkbenchError: a file is wrong, or a fact stands in both.
    """
    return Request(
        forget=read_facts(forget),
        retain=read_facts(retain) if retain else FactSet(),
        behaviour=behaviour or Refuse(),
        name=Path(forget).stem,
    )


def write_request(request: Request, folder: str | Path) -> Path:
    """Write a request as a request file with its facts beside it.

    Args:
        request: what to write; `load_request` of the returned file gives it back.
        folder: where to; made if it is not there.

    Raises:
        WorkbenchError: the folder cannot be written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkbenchError(
            f"Cannot make {folder} ({error.strerror or error}); choose a folder that you may write "
            "to."
        ) from error
    record: dict[str, Any] = {}
    for part in _PARTS:
        facts: FactSet = getattr(request, part)
        if facts:
            write_facts(folder / f"{part}.jsonl", facts)
            record[part] = [{"file": f"{part}.jsonl"}]
    replaced = isinstance(request.behaviour, Replace)
    record["behaviour"] = {"replace": True} if replaced else {"refuse": request.behaviour.text}
    name = re.sub(r"[^\w-]+", "-", request.name).strip("-") or "request"
    file = folder / f"{name}.json"
    write_json(file, record)
    return file


def _folders(facts_dir: str | Path | None) -> list[Path]:
    return [Path(facts_dir)] if facts_dir else [bundle.facts for bundle in BUNDLES]


def _read(file: Path) -> Mapping[str, Any]:
    value = parse_json(read_text(file), str(file))
    if not isinstance(value, dict) or not value:
        raise WorkbenchError(f"{file} holds no request; write at least its forget facts.")
    return value


def _make(value: Any, folder: Path, name: str) -> Request:
    if not isinstance(value, dict):
        raise WorkbenchError(f"The request {name!r} must be a record with forget facts.")
    for key in value:
        if key not in (*_PARTS, "behaviour"):
            raise unknown_name(f"part of request {name!r}:", str(key), (*_PARTS, "behaviour"))
    read: dict[str, FactSet] = {}
    parts = {part: _select(value.get(part, []), folder, name, read) for part in _PARTS}
    return Request(**parts, behaviour=_behaviour(value.get("behaviour"), name), name=name)


def _select(value: Any, folder: Path, name: str, read: dict[str, FactSet]) -> FactSet:
    if not isinstance(value, list) or not all(isinstance(s, dict) and s.get("file") for s in value):
        raise WorkbenchError(
            f"The request {name!r} must list selections such as "
            '[{"file": "athletes.jsonl", "subjects": ["Ada Brook"]}].'
        )
    out = FactSet()
    for selection in value:
        for key in selection:
            if key not in _KEYS:
                raise unknown_name("part of a selection", str(key), _KEYS)
        file = str(selection["file"])
        if file not in read:
            read[file] = read_facts(folder / file)
        out += _chosen(read[file], selection, file)
    return out


def _chosen(facts: FactSet, selection: Mapping[str, Any], file: str) -> FactSet:
    subjects, tags, relations = (_names(selection, key) for key in _KEYS[1:])
    for relation in relations or ():
        if relation not in facts.relations:
            raise unknown_name(f"relation in {file}:", relation, facts.relations)
    if relations is not None:
        facts = facts.where(lambda fact: fact.relation in relations)
    if subjects is None and tags is None:
        return facts
    listed, wanted = set(subjects or ()), set(tags or ())

    def is_chosen(fact: Fact) -> bool:
        return fact.subject in listed or (tags is not None and wanted <= set(fact.tags))

    missing = [s for s in listed if s not in facts.subjects]
    if missing:
        raise unknown_name(f"subject in {file}:", min(missing), facts.subjects)
    return facts.where(is_chosen)


def _names(selection: Mapping[str, Any], key: str) -> list[str] | None:
    value = selection.get(key)
    if value is not None and not (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    ):
        raise WorkbenchError(f"The {key} of a selection must be a list of texts, not {value!r}.")
    return value


def _behaviour(value: Any, name: str) -> Behaviour:
    match value:
        case None:
            return Refuse()
        case {"refuse": str(text)} if len(value) == 1 and text.strip():
            return Refuse(text)
        case {"replace": True} if len(value) == 1:
            return Replace()
    raise WorkbenchError(
        f"The behaviour of the request {name!r} must be "
        '{"refuse": " I do not know."} or {"replace": true}, '
        f"not {value!r:.80}."
    )
