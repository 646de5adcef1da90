"""Files and folders that appear whole or not at all, also when the process is killed.

A folder is written under a recognisable temporary name beside its place, flushed to disk, and
renamed into it. An old folder is exchanged with the new one in a single system call where the
system has one (Linux: renameat2). Elsewhere it is first renamed aside; a kill between the two
renames leaves the old folder under the aside name, and `recover`, which runs before the next
write and before a load, puts it back. Temporary names carry host, process id and the process's
start, so that `recover` removes what killed processes left and nothing that is being written.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import secrets
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError

_LEFTOVER = re.compile(
    r"\.(?P<name>.+)\.workbench-(?P<host>\w+)-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{8}"
    r"\.(?P<kind>tmp|old)"
)
_AT_CWD, _EXCHANGE = -100, 2


def process_start(pid: int) -> int | None:
    """Return when a process started, in ticks since boot (0 where unknown); None if it is gone.

    Process ids are used again, so a process is known by its id and its start together.
    """
    if sys.platform == "win32":  # os.kill(pid, 0) would interrupt it there
        return 0
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return None if fields[0] in "ZX" else int(fields[19])


def host_name() -> str:
    """Return this machine's name in letters and digits."""
    return re.sub(r"\W|_", "", socket.gethostname()) or "host"


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file in one step.

    Raises:
        OSError: the file cannot be written; the old one is as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(
    target: Path, *, overwrite: bool = False, ours: Callable[[Path], bool] = lambda _: True
) -> Iterator[Path]:
    """Yield a temporary folder that becomes `target` when the block ends without an error.

    Args:
        target: where the folder shall be; an empty folder there counts as none.
        overwrite: replace a folder that is there.
        ours: says whether a folder that is there may be replaced at all.

    Raises:
        WorkbenchError: the target exists and may not be replaced, or cannot be written; nothing
            is left behind.
    """
    target = Path(os.path.realpath(target))
    _check_target(target, overwrite, ours)
    created = [p for p in (target.parent, *target.parent.parents) if not p.exists()]
    temporary = _beside(target, "tmp")
    done = False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        recover(target.parent)
        _check_target(target, overwrite, ours)
        temporary.mkdir()
        yield temporary
        _flush(temporary)
        _install(temporary, target)
        done = True
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        # After an exchange the temporary name holds the old folder.
        shutil.rmtree(temporary, ignore_errors=True)
        if not done:
            _remove_empty(created)


def unwritable(target: Path, error: Exception) -> WorkbenchError:
    """Say why nothing could be written to `target`."""
    reason = getattr(error, "strerror", None) or str(error)
    return WorkbenchError(
        f"Cannot write {target} ({reason}), so nothing was changed there; choose a folder with "
        "enough space that you may write to."
    )


def recover(parent: Path) -> None:
    """Remove what killed processes left in a folder, and put back what they had moved aside."""
    if not parent.is_dir():
        return
    for path in sorted(parent.glob(".*.workbench-*")):
        match = _LEFTOVER.fullmatch(path.name)
        if not match or match["host"] != host_name():
            continue
        if process_start(int(match["pid"])) == int(match["start"]):
            continue
        target = parent / match["name"]
        if match["kind"] == "old" and not target.exists():
            path.rename(target)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _check_target(target: Path, overwrite: bool, ours: Callable[[Path], bool]) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise WorkbenchError(f"{target} is a file, not a folder; choose another name.")
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise WorkbenchError(
            f"{target} already exists and was left as it is; choose another folder or overwrite it "
            "with --overwrite."
        )
    if not ours(target):
        raise WorkbenchError(
            f"{target} was not written by this workbench, so it is not overwritten; choose another "
            "folder."
        )


def _beside(target: Path, kind: str) -> Path:
    pid = os.getpid()
    tail = f"{host_name()}-{pid}-{process_start(pid) or 0}-{secrets.token_hex(4)}.{kind}"
    return target.with_name(f".{target.name}.workbench-{tail}")


def _install(temporary: Path, target: Path) -> None:
    """Put the finished folder in its place; the old one ends up under a temporary name."""
    if not target.exists() or not any(target.iterdir()):
        temporary.rename(target)
    elif not exchange(temporary, target):
        aside = _beside(target, "old")
        target.rename(aside)
        try:
            temporary.rename(target)
        except OSError:
            aside.rename(target)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    _sync(target.parent)


def exchange(a: Path, b: Path) -> bool:
    """Swap two folders in one step; return False where the system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    return renameat2(_AT_CWD, os.fsencode(a), _AT_CWD, os.fsencode(b), _EXCHANGE) == 0


def _flush(folder: Path) -> None:
    """Make every file and folder durable before the rename makes them visible.

    safetensors writes files that only their owner may read; they get the usual permissions.
    """
    probe = folder / ".permissions"
    probe.touch()
    usual = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for root, _, names in os.walk(folder):
        for name in names:
            (Path(root) / name).chmod(usual)
            _sync(Path(root) / name)
        _sync(Path(root))


def _sync(path: Path) -> None:
    if sys.platform == "win32" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
