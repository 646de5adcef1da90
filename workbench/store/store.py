"""The folder of all runs: start, list, read, delete.

Runs never share a file, so any number of processes may write at the same time.
"""

from __future__ import annotations

import builtins
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.models.atomic import unwritable, write_json
from workbench.models.paths import cache_dir
from workbench.models.versions import versions
from workbench.progress import Cancelled
from workbench.store.run import SCHEMA, Run, RunRecord, check_name, owner, read_record


def default_root() -> Path:
    """Return where runs are kept: WORKBENCH_RUNS, or `runs` in the cache."""
    configured = os.environ.get("WORKBENCH_RUNS")
    return Path(configured).expanduser() if configured else cache_dir() / "runs"


@dataclass(frozen=True)
class RunStore:
    """Runs under one folder.

    Attributes:
        root: the folder; it need not exist yet.
    """

    root: Path

    @staticmethod
    def default() -> RunStore:
        """Return the user's own store."""
        return RunStore(default_root())

    @contextmanager
    def start(
        self, kind: str, config: Mapping[str, Any], *, name: str = "", seed: int | None = None
    ) -> Iterator[Run]:
        """Open a run and record how it ends: FINISHED, FAILED or INTERRUPTED.

        Whatever ends the block is raised again after it was recorded.

        Args:
            kind: localize, edit, measure, ...
            config: settings, in JSON types.
            name: the user's name for it.
            seed: the seed of every random choice.

        Raises:
            WorkbenchError: the store cannot be written or the settings are not JSON types.
        """
        run, record = self._open(check_name(kind), dict(config), name, seed)
        try:
            yield run
        except (KeyboardInterrupt, Cancelled) as stop:
            _close(run, record, "INTERRUPTED", str(stop) or "The user stopped it.")
            raise
        except BaseException as error:
            _close(run, record, "FAILED", _sentence(error))
            raise
        _close(run, record, "FINISHED", None)

    def list(self) -> list[RunRecord]:
        """Return every run, oldest first; unreadable ones as BROKEN."""
        return [read_record(folder) for folder in self._folders()]

    def newest(self) -> Iterator[RunRecord]:
        """Yield every run, newest first; one is read only when it is asked for."""
        return (read_record(folder) for folder in reversed(self._folders()))

    def get(self, run_id: str) -> RunRecord:
        """Return one run.

        Raises:
            WorkbenchError: there is none of that id.
        """
        return read_record(self._folder(run_id))

    def find(self, kind: str, config: Mapping[str, Any]) -> RunRecord | None:
        """Return the last finished run of a kind with these very settings, if there is one."""
        wanted = json.loads(json.dumps(config))
        for record in self.newest():
            if record.kind == kind and record.status == "FINISHED" and record.config == wanted:
                return record
        return None

    def delete(self, run_id: str) -> None:
        """Remove a run and all that it wrote.

        Raises:
            WorkbenchError: there is no such run, it is still running, or it cannot be removed.
        """
        folder = self._folder(run_id)
        if read_record(folder).status == "RUNNING":
            raise WorkbenchError(f"Run {run_id} is still running; stop it first.")
        # Hidden first, in one step: a half-deleted run is never listed.
        hidden = folder.with_name(f".deleted-{folder.name}")
        try:
            folder.rename(hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            raise unwritable(folder, error) from error

    def _folders(self) -> builtins.list[Path]:
        if not self.root.is_dir():
            return []
        return sorted(p for p in self.root.iterdir() if _is_run(p))

    def _folder(self, run_id: str) -> Path:
        folder = self.root / check_name(run_id)
        if not _is_run(folder):
            raise WorkbenchError(
                f"There is no run {run_id!r} in {self.root}; `workbench runs` lists them."
            )
        return folder

    def _open(
        self, kind: str, config: dict[str, Any], name: str, seed: int | None
    ) -> tuple[Run, dict[str, Any]]:
        now = datetime.now(UTC)
        run_id = f"{now:%Y%m%d-%H%M%S}-{now.microsecond:06d}-{kind}-{secrets.token_hex(3)}"
        folder = self.root / run_id
        record = {
            "schema": SCHEMA,
            "id": run_id,
            "kind": kind,
            "name": name,
            "status": "RUNNING",
            "config": config,
            "versions": versions(),
            "seed": seed,
            "started": now.isoformat(),
            "finished": None,
            "error": None,
            "owner": owner(),
        }
        hidden = folder.with_name(f".new-{run_id}")  # a listing never sees a run without its record
        try:
            hidden.mkdir(parents=True)
            write_json(hidden / "run.json", record)
            hidden.rename(folder)
        except OSError as error:
            shutil.rmtree(hidden, ignore_errors=True)
            raise unwritable(self.root, error) from error
        except (TypeError, ValueError) as error:
            shutil.rmtree(hidden, ignore_errors=True)
            raise WorkbenchError(
                f"The settings of a run must be plain JSON types ({error}); convert them."
            ) from error
        return Run(run_id, folder), record


def _is_run(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".")


def _close(run: Run, record: dict[str, Any], status: str, error: str | None) -> None:
    ending = {"status": status, "finished": datetime.now(UTC).isoformat(), "error": error}
    try:
        write_json(run.path / "run.json", {**record, **ending})
    except OSError as problem:
        if status == "FINISHED":
            raise unwritable(run.path, problem) from problem


def _sentence(error: BaseException) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {text}"
