"""One run on disk: a folder with run.json and the run's artefacts.

run.json is written when the run starts and replaced once when it ends, each time in one step. A
run whose process is gone without an ending reads as INTERRUPTED; a run.json that cannot be read
reads as BROKEN, with the reason. Neither ever stops a listing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.errors import WorkbenchError
from workbench.models.atomic import host_name, process_start, write_json
from workbench.models.delta import WeightDelta

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
Status = Literal["RUNNING", "FINISHED", "FAILED", "INTERRUPTED", "BROKEN"]
ENDINGS = ("FINISHED", "FAILED", "INTERRUPTED")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,100}")


@dataclass(frozen=True)
class RunRecord:
    """What run.json says.

    Attributes:
        id: the folder's name; sorts by start.
        path: the folder.
        status: how it stands.
        kind: localize, edit, measure, ...
        name: the user's name for it.
        config: settings.
        versions: package name -> version.
        seed: the seed, if the run has one.
        started: UTC time, ISO 8601.
        finished: the same; None while it runs.
        error: one sentence, if it failed, was interrupted or cannot be read.
    """

    id: str
    path: Path
    status: Status
    kind: str = ""
    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    started: str = ""
    finished: str | None = None
    error: str | None = None

    def table(self, name: str) -> pd.DataFrame:
        """Read a table that `Run.save_table` wrote.

        Raises:
            WorkbenchError: the run has no such table.
        """
        import pandas as pd

        return pd.read_csv(self._artefact(name, ".csv"), float_precision="round_trip")

    def json(self, name: str) -> Any:
        """Read an object that `Run.save_json` wrote.

        Raises:
            WorkbenchError: the run has no such object, or it cannot be read.
        """
        path = self._artefact(name, ".json")
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise WorkbenchError(
                f"{path} cannot be read as JSON ({error}); run it again."
            ) from error

    def delta(self) -> WeightDelta:
        """Read the run's edit.

        Raises:
            WorkbenchError: the run has none.
        """
        return WeightDelta.load(self.delta_file())

    def delta_file(self) -> Path:
        """Return the file of the run's edit.

        Raises:
            WorkbenchError: the run has none.
        """
        return self._artefact("delta", ".safetensors")

    def _artefact(self, name: str, suffix: str) -> Path:
        path = self.path / (check_name(name) + suffix)
        if not path.is_file():
            raise WorkbenchError(
                f"Run {self.id} has no {path.name}; it has "
                f"{', '.join(self.artefacts) or 'nothing'}."
            )
        return path

    @property
    def artefacts(self) -> tuple[str, ...]:
        """Names of the files beside run.json."""
        names = (p.name for p in self.path.iterdir() if not p.name.startswith("."))
        return tuple(sorted(n for n in names if n != "run.json"))


@dataclass(frozen=True)
class Run:
    """A run being written.

    Attributes:
        id: the folder's name.
        path: the folder, for artefacts of any kind.
    """

    id: str
    path: Path

    def save_table(self, name: str, table: pd.DataFrame) -> Path:
        """Write a table as CSV; numbers read back as the very same."""
        path = self.path / f"{check_name(name)}.csv"
        part = path.with_name(f".{path.name}.part")
        table.to_csv(part, index=False)
        part.replace(path)
        return path

    def save_json(self, name: str, value: Any) -> Path:
        """Write plain JSON types.

        Raises:
            WorkbenchError: the name is run.json's own.
        """
        if name == "run":
            raise WorkbenchError("The name 'run' is the record's own; choose another.")
        path = self.path / f"{check_name(name)}.json"
        write_json(path, value)
        return path

    def save_delta(self, delta: WeightDelta) -> Path:
        """Write the run's edit."""
        path = self.path / "delta.safetensors"
        delta.save(path)
        return path


def check_name(name: str) -> str:
    """Return a name that is safe as a file name.

    Raises:
        WorkbenchError: it is not.
    """
    if not _NAME.fullmatch(name):
        raise WorkbenchError(
            f"{name!r} is not a name for a result; use letters, digits, dots, dashes and "
            "underscores."
        )
    return name


def owner() -> dict[str, Any]:
    """Return what identifies this process."""
    pid = os.getpid()
    return {"host": host_name(), "pid": pid, "process_start": process_start(pid)}


def read_record(folder: Path) -> RunRecord:
    """Read a run folder, whatever state it is in; never raises for what is in it."""
    try:
        data = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("it is not a JSON object")
        if data.get("schema") != SCHEMA:
            raise ValueError(
                f"its schema version is {data.get('schema')!r}, this workbench reads {SCHEMA}"
            )
        return _parse(folder, data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"The record of run {folder.name} cannot be read ({error})."
        return RunRecord(folder.name, folder, "BROKEN", error=reason)


def _parse(folder: Path, data: dict[str, Any]) -> RunRecord:
    status, error = data["status"], data.get("error")
    if status not in ("RUNNING", *ENDINGS):
        raise ValueError(f"its status is {status!r}")
    if status == "RUNNING" and _is_gone(data["owner"]):
        status, error = "INTERRUPTED", "The process that ran it ended without a word."
    if not isinstance(data["config"], dict) or not isinstance(data["versions"], dict):
        raise ValueError("its config or versions are not objects")
    return RunRecord(
        folder.name,
        folder,
        status,
        kind=str(data["kind"]),
        name=str(data["name"]),
        config=data["config"],
        versions=data["versions"],
        seed=data.get("seed"),
        started=str(data["started"]),
        finished=data.get("finished"),
        error=error,
    )


def _is_gone(process: Mapping[str, Any]) -> bool:
    """Whether a process of this machine has ended; of others nothing is known."""
    if process["host"] != host_name():
        return False
    return process_start(int(process["pid"])) != process["process_start"]
