"""What a model said once, kept in the user's cache: made from the same, it is the same.

Half of the time of an edit of a larger model goes into letting it talk, and the next edit of that
model needs the very same texts. A key holds everything they are made of, the weights included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from workbench.models.atomic import write_json
from workbench.models.model import Model
from workbench.models.paths import cache_dir
from workbench.models.pictured import with_digests
from workbench.models.versions import versions

_MOST = 400  # files; the oldest go
_MOST_EACH = 50_000  # answers in one file
_OFF: ContextVar[bool] = ContextVar("nothing_kept", default=False)


@contextmanager
def nothing_kept() -> Iterator[None]:
    """Make everything anew within the block and keep nothing, as where work is measured."""
    token = _OFF.set(True)
    try:
        yield
    finally:
        _OFF.reset(token)


def kept(model: Model, what: str, inputs: Any, make: Callable[[], Any]) -> Any:
    """Return what was made before of the same model and inputs, or make and keep it.

    A cache that cannot be read or written is as good as none.

    Args:
        model: whose words it is.
        what: its kind, part of the file's name.
        inputs: everything else it is made of, in JSON types.
        make: makes it, in JSON types.
    """
    if _OFF.get():
        return make()
    file = _folder() / f"{what}-{_key(model, what, inputs)}.json"
    with suppress(OSError, ValueError):
        return json.loads(file.read_text(encoding="utf-8"))
    made = make()
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, made)
        _let_go(file.parent)
    return made


def kept_each(
    model: Model, what: str, inputs: Any, asked: Sequence[Any], make: Callable[[list[Any]], Any]
) -> list[Any]:
    """Return what was made before for each of some things, and make and keep what is missing.

    What is missing is made together, so an answer that hangs on rounding may hang on what else was.

    Args:
        model: whose words it is.
        what: its kind, part of the file's name.
        inputs: everything but the things that it is made of, in JSON types.
        asked: the things, such as prompts.
        make: makes it for some of the things, one for each, in JSON types.
    """
    if _OFF.get():
        return list(make(list(asked)))
    file = _folder() / f"{what}-{_key(model, what, inputs)}.json"
    names = [json.dumps(with_digests(one)) for one in asked]
    found: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        read = json.loads(file.read_text(encoding="utf-8"))
        found = read if isinstance(read, dict) else {}
    missing = {n: one for n, one in zip(names, asked, strict=True) if n not in found}
    if missing:
        made = dict(zip(missing, make(list(missing.values())), strict=True))
        out = found | made
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, out if len(out) <= _MOST_EACH else {n: out[n] for n in names})
            _let_go(file.parent)
        found = out
    return [found[name] for name in names]


def _folder() -> Path:
    return cache_dir() / "kept"


def _key(model: Model, what: str, inputs: Any) -> str:
    of = versions()
    parts = [*model.identity, what, with_digests(inputs), of["edit-workbench"], of["transformers"]]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _let_go(folder: Path) -> None:
    files = sorted(folder.glob("*.json"), key=lambda f: f.stat().st_mtime)
    for old in files[: max(len(files) - _MOST, 0)]:
        old.unlink(missing_ok=True)
