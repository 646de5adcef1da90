"""The ledger of one patient: every repair, in what order, and what the weights are now.

A folder: `ledger.json` (the repairs in force and the file of their weights), a record a repair, a
delta file for every set of repairs that ever was in force, and `requests.jsonl`, where every
request stands with its outcome. `ledger.json` is replaced in one step and last: whatever happens
before, the patient is as it was.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workbench.checked import Scalar
from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.readers import parse_json, read_text
from workbench.models.atomic import unwritable, write_json
from workbench.models.delta import WeightDelta
from workbench.models.model import Model
from workbench.models.paths import cache_dir
from workbench.repair.plan import RepairPlan, make_plan
from workbench.repair.solving import Dose

REPAIRED, UNDONE = "repaired", "undone"  # how outcomes in the log begin
_FORMAT = "workbench-ledger-1"


@dataclass(frozen=True)
class Entry:
    """One repair.

    Attributes:
        id: its name.
        plan: what was asked for and how it was done.
        settings: the settings that met the limits.
        found: every check.
        answers: questions with the answers before and after.
        state: the delta file of all repairs in force after it.
        seconds: wall time.
        user: who asked.
        time: UTC time, ISO 8601.
    """

    id: str
    plan: RepairPlan
    settings: Mapping[str, Scalar]
    found: Sequence[Mapping[str, Any]]
    answers: Sequence[Mapping[str, Any]]
    state: str
    seconds: float
    user: str
    time: str

    @property
    def dose(self) -> Dose:
        """What it takes to make it again."""
        return Dose(self.plan, dict(self.settings))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        plain = {k: getattr(self, k) for k in self.__dataclass_fields__}
        return {**plain, "plan": self.plan.to_json(), "settings": dict(self.settings)}

    @staticmethod
    def from_json(data: Any, where: str) -> Entry:
        """Read what `to_json` wrote.

        Raises:
            WorkbenchError: it is no such record.
        """
        try:
            return Entry(**{**data, "plan": make_plan(data["plan"], where)})
        except (TypeError, KeyError) as error:
            raise WorkbenchError(f"{where} is no repair that this workbench wrote.") from error


@dataclass(frozen=True)
class Ledger:
    """The repairs of one patient.

    Attributes:
        folder: where they are; it need not exist yet.
        model: name of the patient.
        fingerprint: SHA-256 of the base's parameters.
    """

    folder: Path
    model: str
    fingerprint: str

    @staticmethod
    def of(base: Model, folder: Path | None = None) -> Ledger:
        """Return a model's ledger.

        Raises:
            WorkbenchError: the folder holds the repairs of another model.
        """
        print_ = base.fingerprint
        where = folder or ledgers() / f"{Path(base.name).name}-{print_[:12]}"
        ledger = Ledger(where, base.name, print_)
        written = ledger._read().get("fingerprint", print_)
        if written != print_:
            raise WorkbenchError(
                f"{where} holds the repairs of another model ({written[:12]}); give another folder."
            )
        return ledger

    @staticmethod
    def open(folder: Path) -> Ledger:
        """Return the ledger in a folder.

        Raises:
            WorkbenchError: there is none.
        """
        ledger = Ledger(folder, "", "")
        written = ledger._read()
        if not written:
            raise WorkbenchError(f"{folder} holds no repairs; give the folder of a ledger.")
        return Ledger(folder, written["model"], written["fingerprint"])

    @property
    def active(self) -> tuple[Entry, ...]:
        """The repairs in force, in the order they were made."""
        return tuple(self.entry(name) for name in self._read().get("active", ()))

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every repair ever made, oldest first; those that were taken back too."""
        names = sorted(path.stem for path in (self.folder / "repairs").glob("*.json"))
        return tuple(self.entry(name) for name in names)

    def entry(self, name: str) -> Entry:
        """Return one repair.

        Raises:
            WorkbenchError: there is none of that name, or its record is damaged.
        """
        path = self.folder / "repairs" / f"{name}.json"
        if not path.is_file():
            known = [p.stem for p in (self.folder / "repairs").glob("*.json")]
            if not known:
                raise WorkbenchError(f"There is no repair {name!r}; none was made yet.")
            raise unknown_name("repair", name, known)
        return Entry.from_json(parse_json(read_text(path), str(path)), str(path))

    def delta(self) -> WeightDelta | None:
        """Return the change of the weights by all repairs in force; None if there is none."""
        state = self._read().get("state")
        return WeightDelta.load(self.folder / "states" / state) if state else None

    def state_of(self, names: Sequence[str]) -> WeightDelta | None:
        """Return the change by a set of repairs that was in force before, if it was."""
        path = self.folder / "states" / _state_name(names)
        return WeightDelta.load(path) if names and path.is_file() else None

    def add(
        self,
        plan: RepairPlan,
        settings: Mapping[str, Scalar],
        delta: WeightDelta,
        *,
        found: Sequence[Mapping[str, Any]],
        answers: Sequence[Mapping[str, Any]],
        seconds: float,
        user: str,
        after: Sequence[str],
    ) -> Entry:
        """Write a repair and put it in force.

        Args:
            plan: what was asked for and how it was done.
            settings: the settings that met the limits.
            delta: the change of the weights by all repairs in force, this one with them.
            found: every check.
            answers: questions with the answers before and after.
            seconds: wall time.
            user: who asked.
            after: the repairs that were in force when it was made.

        Raises:
            WorkbenchError: it cannot be written, or another repair came in between.
        """
        now = datetime.now(UTC)
        name = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        active = [*after, name]
        rest = (_state_name(active), round(seconds, 3), user, now.isoformat(timespec="seconds"))
        entry = Entry(name, plan, settings, found, answers, *rest)
        try:
            (self.folder / "repairs").mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "repairs" / f"{name}.json", entry.to_json())
        except OSError as error:
            raise unwritable(self.folder, error) from error
        try:
            self.put_in_force(active, delta, instead_of=after)
        except BaseException:
            (self.folder / "repairs" / f"{name}.json").unlink(missing_ok=True)
            raise
        return entry

    def put_in_force(
        self, names: Sequence[str], delta: WeightDelta | None, *, instead_of: Sequence[str]
    ) -> None:
        """Let these repairs be in force, and no others.

        Raises:
            WorkbenchError: it cannot be written, or the repairs in force are not `instead_of`.
        """
        if list(self._read().get("active", ())) != list(instead_of):
            raise WorkbenchError(
                "Another repair of this patient was made in the meantime, so nothing was changed; "
                "try again."
            )
        state = _state_name(names) if names else None
        record = {"format": _FORMAT, "model": self.model, "fingerprint": self.fingerprint}
        try:
            (self.folder / "states").mkdir(parents=True, exist_ok=True)
            if state and delta is not None:
                delta.save(self.folder / "states" / state)
            write_json(self.folder / "ledger.json", {**record, "active": [*names], "state": state})
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def log(self, user: str, text: str, outcome: str, subjects: Sequence[str] = ()) -> None:
        """Write down that something was asked for, and what came of it.

        Raises:
            WorkbenchError: it cannot be written; what is not logged is not done.
        """
        record = Logged(
            datetime.now(UTC).isoformat(timespec="seconds"), user, text, outcome, tuple(subjects)
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "requests.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def logged(self) -> tuple[Logged, ...]:
        """Return everything that was ever asked for, oldest first."""
        path = self.folder / "requests.jsonl"
        if not path.is_file():
            return ()
        lines = [line for line in read_text(path).split("\n") if line.strip()]
        records = [parse_json(line, str(path)) for line in lines]
        return tuple(Logged(**{**r, "subjects": tuple(r["subjects"])}) for r in records)

    def _read(self) -> Mapping[str, Any]:
        path = self.folder / "ledger.json"
        if not path.is_file():
            return {}
        data = parse_json(read_text(path), str(path))
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise WorkbenchError(f"{path} is no ledger that this workbench wrote.")
        return data


@dataclass(frozen=True)
class Logged:
    """One line of the log.

    Attributes:
        time: UTC time, ISO 8601.
        user: who asked.
        text: the words.
        outcome: what came of it.
        subjects: whom it was about.
    """

    time: str
    user: str
    text: str
    outcome: str
    subjects: tuple[str, ...]


def ledgers() -> Path:
    """Return the folder of all ledgers."""
    return cache_dir() / "repairs"


def ledger_with(name: str) -> Path:
    """Return the folder of the ledger that has a repair.

    Raises:
        WorkbenchError: none has.
    """
    for path in ledgers().glob(f"*/repairs/{name}.json"):
        return path.parent.parent
    raise unknown_name("repair", name, [p.stem for p in ledgers().glob("*/repairs/*.json")])


def _state_name(names: Sequence[str]) -> str:
    return f"{hashlib.sha256(' '.join(names).encode()).hexdigest()[:20]}.safetensors"
