"""A study: which methods, at which places, with which seeds, under which attacks.

It is a TOML file that is checked before anything runs:

    name = "athletes"
    model = "demo"
    oracle = "demo-oracle"          # a model that never knew; optional
    request = "athletes"
    seeds = [0, 1, 2]
    budget = "mlp.0-3"              # parameters of every place; or a number, or a share below 1
    allowed_drop = 0.02             # of retained accuracy while settings are searched for
    limit = 200                     # retained facts measured
    traced = 40                     # facts that localizers look at; without it, all to forget

    [[method]]
    method = "stamp"
    places = ["causal_tracing_mlps", "random", "random_mlps"]
    search = {weight = [10, 30]}    # every method tries equally many settings

    [[attack]]
    attack = "relearn"
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from workbench.attack.registry import make_config as attack_config
from workbench.checked import Checked, Scalar, checked
from workbench.compare.places import check_place
from workbench.edit.registry import make_config
from workbench.errors import WorkbenchError
from workbench.facts.readers import read_toml
from workbench.models.components import ComponentSet

IN_CONTEXT = "in-context"  # the base, asked to forget by a text before each prompt
REFERENCES = ("base", "oracle", IN_CONTEXT)  # what is measured beside the edits


class MethodEntry(Checked):
    """One method of a study.

    Attributes:
        method: its name in the registry.
        name: what it is called in the tables; the method's name if empty.
        places: where it edits: a localizer's name, with `_mlps` for its MLPs only; random,
            random_mlps, all_mlps, everything; or components.
        settings: settings that differ from the method's defaults.
        search: settings to try, each with its values; all combinations are tried.
    """

    method: str
    name: str = ""
    places: tuple[str, ...] = Field(min_length=1)
    settings: dict[str, Scalar] = Field(default_factory=dict)
    search: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """What it is called in the tables."""
        return self.name or self.method

    @property
    def candidates(self) -> tuple[dict[str, Scalar], ...]:
        """Every combination of settings that is tried."""
        tried = itertools.product(*self.search.values())
        return tuple({**self.settings, **dict(zip(self.search, v, strict=True))} for v in tried)


class AttackEntry(Checked):
    """One attack of a study.

    Attributes:
        attack: its name in the registry.
        settings: settings that differ from the attack's defaults.
    """

    attack: str
    settings: dict[str, Scalar | tuple[Scalar, ...]] = Field(default_factory=dict)


class Study(Checked):
    """Everything that a study runs.

    Attributes:
        name: of its results.
        model: demo, smollm2, a folder or a hub id.
        oracle: a model that never knew the facts.
        in_context: also measure the base with a text before each prompt that asks it to forget;
            it changes no weights, so there is nothing to attack.
        request: what to forget, by name or file.
        seeds: of every draw; each method runs once with each.
        budget: parameters of a place: a number, a share of all, or components that have as many.
        allowed_drop: most loss of retained accuracy while settings are searched for.
        limit: most retained facts that are measured, the same ones for every edit and seed; of 80
            a share of 0.97 is uncertain by 0.04, of 200 by 0.02.
        traced: most facts to forget that a localizer looks at, drawn with the seed; None = all.
        method: the methods.
        attack: the attacks.
    """

    name: str
    request: str
    model: str = "demo"
    oracle: str | None = None
    in_context: bool = False
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    budget: int | float | str
    allowed_drop: float = 0.02
    limit: int | None = Field(200, ge=1)
    traced: int | None = Field(None, ge=1)
    method: tuple[MethodEntry, ...] = Field(min_length=1)
    attack: tuple[AttackEntry, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """What is measured beside the edits."""
        wanted = {"base": True, "oracle": bool(self.oracle), IN_CONTEXT: self.in_context}
        return tuple(label for label in REFERENCES if wanted[label])


def read_study(path: str | Path) -> Study:
    """Read a study file and check it.

    Raises:
        WorkbenchError: it is no TOML, has an unknown key, or names what does not exist.
    """
    return make_study(read_toml(path), str(path))


def make_study(data: Mapping[str, Any], where: str = "The study") -> Study:
    """Check a study's contents.

    Raises:
        WorkbenchError: with the first fault.
    """
    study = checked(Study, data, where)
    _check(study, where)
    return study


def _check(study: Study, where: str) -> None:
    """Refuse names that do not exist, doubles, and a search that favours a method."""
    labels = [*REFERENCES, *(entry.label for entry in study.method)]
    for label in labels:
        if labels.count(label) > 1:
            raise WorkbenchError(
                f"{where} has two rows called {label!r}; give the method another name."
            )
    if len(set(study.seeds)) != len(study.seeds):
        raise WorkbenchError(f"{where} has a seed twice; give different ones.")
    if not 0 <= study.allowed_drop <= 1:
        raise WorkbenchError(f"{where}: allowed_drop lies between 0 and 1.")
    if isinstance(study.budget, str):
        ComponentSet.parse(study.budget)
    elif not study.budget > 0:
        raise WorkbenchError(f"{where}: the budget must be positive.")
    for entry in study.method:
        for place in entry.places:
            check_place(place)
        if len(set(entry.places)) != len(entry.places):
            raise WorkbenchError(f"{where} has a place of {entry.label} twice; give it once.")
        if not entry.candidates:
            raise WorkbenchError(f"{where}: a search of {entry.label} is empty; give it values.")
        for settings in entry.candidates:
            make_config(entry.method, settings).check()
        if "seed" in entry.settings or "seed" in entry.search:
            raise WorkbenchError(f"{where}: seeds stand in `seeds`, not in a method's settings.")
    for attack in study.attack:
        config = attack_config(attack.attack, attack.settings)
        if hasattr(config, "check"):  # some attacks have no setting that could be wrong
            config.check()
    sizes = {entry.label: len(entry.candidates) for entry in study.method}
    if len(set(sizes.values())) > 1:
        few, many = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
        raise WorkbenchError(
            f"{where}: {many} tries {sizes[many]} settings and {few} {sizes[few]}; give every "
            "method as many, or the comparison favours one."
        )
