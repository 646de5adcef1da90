"""Attacks on an edited model as a plan and as a recorded run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from workbench.attack.attack import AttackResult
from workbench.attack.registry import ATTACKS, attack_named, make_config
from workbench.attack.robustness import Robustness, robustness
from workbench.errors import WorkbenchError
from workbench.facts.fact import Request
from workbench.job_inputs import request_for
from workbench.models.load import load, oracle_for
from workbench.models.model import Model
from workbench.plans.plan import Plan, Recorded, apply_deltas, load_deltas, options
from workbench.progress import SILENT, Progress
from workbench.store.store import RunStore


@dataclass(frozen=True)
class AttackPlan(Plan):
    """Settings of attacks.

    Attributes:
        model: demo, smollm2, a folder or a hub id.
        request: what was to be forgotten.
        deltas: delta files to apply: the edit that is attacked.
        oracle: a model that never knew, for comparison.
        attacks: names of the attacks; none for all.
        settings: settings that differ from the defaults, written "relearn.steps".
        seed: of every draw.
    """

    KIND: ClassVar[str] = "attack"

    request: str = ""
    deltas: tuple[str, ...] = ()
    oracle: str = ""
    attacks: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def arguments(self) -> list[str]:
        """Return the command's words behind `workbench attack MODEL`."""
        none = ["--oracle", ""] if oracle_for(self.model) and not self.oracle else []
        return none + options(
            request=self.request,
            delta=self.deltas,
            oracle=self.oracle,
            attack=self.attacks,
            set_=[f"{key}={written(value)}" for key, value in self.settings.items()],
            seed=self.seed or None,
        )

    def names(self) -> tuple[str, ...]:
        """Return the attacks that run where there are all of them for the request.

        Raises:
            WorkbenchError: there is none of a name.
        """
        for name in self.attacks:
            attack_named(name)
        return self.attacks or tuple(ATTACKS)

    def by_attack(self) -> dict[str, dict[str, Any]]:
        """Return the settings of each attack.

        Raises:
            WorkbenchError: a setting names no attack that runs, or none of its settings.
        """
        out: dict[str, dict[str, Any]] = {}
        for key, value in self.settings.items():
            name, dot, setting = key.partition(".")
            if not dot:
                raise WorkbenchError(
                    f"The setting {key!r} names no attack; write it like relearn.steps=12."
                )
            attack_named(name)
            if name not in self.names():
                raise WorkbenchError(f"The setting {key!r} is for an attack that is not run.")
            make_config(name, {setting: value})
            out.setdefault(name, {})[setting] = value
        return out


def written(value: Any) -> str:
    """Write a setting as it stands on the command line."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(written, value))
    return "none" if value is None else str(value)


def run_attack(
    plan: AttackPlan,
    base: Model | None = None,
    edited: Model | None = None,
    request: Request | None = None,
    *,
    oracle: Model | None = None,
    store: RunStore | None = None,
    progress: Progress = SILENT,
) -> Recorded[Robustness]:
    """Attack and record the run.

    Args:
        plan: what to do.
        base: the plan's model, if it is loaded already.
        edited: the same with the plan's deltas, if it is at hand already.
        request: the plan's request, if it is loaded already.
        oracle: the plan's oracle, if it is loaded already.
        store: where to record; the user's own by default.
        progress: where to report.

    Raises:
        WorkbenchError: the plan does not fit, or there is no edit to attack.
    """
    plan.names()  # a wrong one is told before the long work
    settings = plan.by_attack()
    deltas = [] if edited else load_deltas(plan.deltas)  # a wrong path is told before the long work
    if not plan.deltas:
        raise WorkbenchError("There is no edit to attack; give its delta file with --delta.")
    base = base or load(plan.model, progress=progress)
    edited = edited or apply_deltas(base, deltas)
    if plan.oracle:
        oracle = oracle or load(plan.oracle, progress=progress)
    request = request or request_for(base, plan.request, seed=plan.seed, progress=progress)
    store = store or RunStore.default()
    with store.start("attack", plan.to_json(), name=request.name, seed=plan.seed) as run:
        found = robustness(
            edited,
            request,
            base,
            oracle if plan.oracle else None,
            names=plan.attacks or None,
            settings=settings,
            seed=plan.seed,
            progress=progress,
        )
        run.save_json("robustness", found.to_json())
        run.save_table("attacks", found.table)
    return Recorded(run.id, run.path, found)


def attacked(plan: AttackPlan, store: RunStore) -> dict[str, AttackResult]:
    """Return what earlier runs found, by attack: of this very edit, oracle, settings and seed."""
    wanted = replace(plan, attacks=(), settings={})
    found: dict[str, AttackResult] = {}
    for record in store.newest():
        if record.kind != "attack" or record.status != "FINISHED":
            continue
        theirs = AttackPlan.from_json(record.config)
        if replace(theirs, attacks=(), settings={}) != wanted:
            continue
        for result in Robustness.load(record.path / "robustness.json").results:
            if _settings_of(theirs, result.attack) == _settings_of(plan, result.attack):
                found.setdefault(result.attack, result)
    return {name: found[name] for name in ATTACKS if name in found}


def _settings_of(plan: AttackPlan, *attacks: str) -> dict[str, str]:
    """Return the settings of some attacks, as they are written."""
    mine = {k: v for k, v in plan.settings.items() if k.partition(".")[0] in attacks}
    return {key: written(value) for key, value in mine.items()}


def attack_missing(
    plan: AttackPlan,
    base: Model | None = None,
    edited: Model | None = None,
    request: Request | None = None,
    *,
    store: RunStore | None = None,
    progress: Progress = SILENT,
) -> Robustness:
    """Return what the plan's attacks bring back; only those that were never tried are run.

    Args and errors are those of `run_attack`.
    """
    store = store or RunStore.default()
    known = attacked(plan, store)
    missing = tuple(name for name in plan.names() if name not in known)
    if missing:
        less = replace(plan, attacks=missing, settings=_settings_of(plan, *missing))
        run_attack(less, base, edited, request, store=store, progress=progress)
        known = attacked(plan, store)
    return Robustness(tuple(known[name] for name in plan.names() if name in known))
