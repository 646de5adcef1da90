"""What a model said once, kept in the user's cache: made from the same, it is the same.

Half of the time of an edit of a larger model goes into letting it talk, and the next edit of that
model needs the very same texts. A key holds everything they are made of, the weights included.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from workbench.models.atomic import write_json
from workbench.models.model import Model
from workbench.models.paths import cache_dir
from workbench.models.pictured import with_digests
from workbench.models.versions import versions

_MOST = 400  # files; the oldest go
_MOST_EACH = 50_000  # answers in one file
_MOST_BYTES = 1 << 30  # of tensors; the oldest files go
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
        _let_go()
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
            _let_go()
        found = out
    return [found[name] for name in names]


def kept_tensors(
    model: Model, what: str, inputs: Any, *, most: int
) -> list[tuple[dict[str, Tensor], str]]:
    """Return the last tensors that were kept of the same model and inputs, with their notes.

    Args:
        model: whose they are.
        what: their kind.
        inputs: everything they have in common, in JSON types.
        most: how many to read, the newest first.
    """
    found: list[tuple[dict[str, Tensor], str]] = []
    files: list[Path] = []
    if _OFF.get():
        return found
    with suppress(OSError):
        files = _oldest_first(f"{what}-{_key(model, what, inputs)}-*.safetensors")
    for file in files[::-1][:most]:
        with suppress(OSError, ValueError, SafetensorError), safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            found.append((tensors, opened.metadata()["note"]))
    return found


def keep_tensors(
    model: Model, what: str, inputs: Any, tensors: Mapping[str, Tensor], note: str
) -> None:
    """Keep tensors beside others of the same model and inputs; the oldest of all go.

    Args:
        model: whose they are.
        what: their kind, part of the file's name.
        inputs: everything they have in common, in JSON types.
        tensors: what to keep; nothing that is larger than a quarter of what may be kept.
        note: what to keep with them.
    """
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    if _OFF.get() or size > _MOST_BYTES // 4:
        return
    name = f"{what}-{_key(model, what, inputs)}-{hashlib.sha256(note.encode()).hexdigest()[:16]}"
    with suppress(OSError):
        _folder().mkdir(parents=True, exist_ok=True)
        part = _folder() / f".{name}.{os.getpid()}.part"
        try:
            save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, part, {"note": note})
            part.replace(_folder() / f"{name}.safetensors")
        finally:
            part.unlink(missing_ok=True)
        files = _oldest_first("*.safetensors")
        room = sum(f.stat().st_size for f in files) - _MOST_BYTES
        for old in files:
            if room <= 0:
                break
            room -= old.stat().st_size
            old.unlink(missing_ok=True)


def _folder() -> Path:
    return cache_dir() / "kept"


def _key(model: Model, what: str, inputs: Any) -> str:
    of = versions()
    parts = [*model.identity, what, with_digests(inputs), of["edit-workbench"], of["transformers"]]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _oldest_first(pattern: str) -> list[Path]:
    return sorted(_folder().glob(pattern), key=lambda f: f.stat().st_mtime)


def _let_go() -> None:
    files = _oldest_first("*.json")
    for old in files[: max(len(files) - _MOST, 0)]:
        old.unlink(missing_ok=True)
