"""Where a method of a study edits: by a localizer's name, a control's, or as written.

All places have the same number of parameters, so that what differs is where they are (Guo et al.
2024, arXiv 2410.12949): whole components are added by their score until the budget is met. Only
`all_mlps`, `everything` and written components are as large as they are.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.fact import Fact, FactSet
from workbench.localize.controls import all_mlps, everything, random_components
from workbench.localize.localization import Localization
from workbench.localize.registry import LOCALIZERS, localize
from workbench.models.components import ComponentSet, Structure
from workbench.models.model import Model
from workbench.progress import SILENT, Progress
from workbench.recent import remember

MLPS = "_mlps"
CONTROLS = ("random", "random_mlps", "all_mlps", "everything")
_BY_MANY = ("fact_lookup",)  # probes, which have to be trained on other subjects
_KEPT: dict[tuple[str, ...], Localization] = {}  # every method asks for the same ones
_MOST_KEPT = 64
_OTHERS = 128  # facts of each relation that probes are trained on besides
_NOTHING = FactSet()


def place_names() -> tuple[str, ...]:
    """Return every name of a place."""
    found = [name + end for name in LOCALIZERS for end in ("", MLPS)]
    return (*found, *CONTROLS)


def check_place(name: str) -> None:
    """Refuse what is neither a place's name nor components.

    Raises:
        WorkbenchError: with the nearest name.
    """
    if name in place_names():
        return
    try:
        ComponentSet.parse(name)
    except WorkbenchError as error:
        if "." in name:
            raise
        raise unknown_name("place", name, place_names()) from error


def is_random(name: str) -> bool:
    """Whether a place is drawn, and so another one with each seed."""
    return name in ("random", "random_mlps")


def budget_of(structure: Structure, budget: int | float | str) -> int:
    """Return a budget as a number of parameters: given so, as a share of all, or as components.

    Raises:
        WorkbenchError: the model has no such components.
    """
    if isinstance(budget, str):
        components = ComponentSet.parse(budget)
        structure.check(components)
        return structure.n_parameters(components)
    return round(budget * structure.n_parameters(structure.everything) if budget < 1 else budget)


def place(
    name: str,
    model: Model,
    facts: FactSet,
    parameters: int,
    *,
    others: FactSet = _NOTHING,
    most: int | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> ComponentSet:
    """Return the components of a place.

    Args:
        name: one of `place_names`, or components.
        model: the model.
        facts: the facts to localize, in the form to trace them.
        parameters: the budget.
        others: facts about other subjects, for what can only be found with many.
        most: most of the facts that are looked at, if not all; means over some say the same in less
            time.
        seed: of random places, of the facts looked at, and of what a localizer draws.
        progress: where to report.

    Raises:
        WorkbenchError: no such place, or the facts cannot be localized.
    """
    check_place(name)
    structure = model.structure
    if name == "all_mlps":
        return all_mlps(structure)
    if name == "everything":
        return everything(structure)
    mlps_only = name.endswith(MLPS)
    if is_random(name):
        kinds = ("mlp",) if mlps_only else ("mlp", "attn")
        return random_components(structure, parameters, kinds=kinds, seed=seed)
    localizer = name.removesuffix(MLPS)
    if localizer not in LOCALIZERS:
        return ComponentSet.parse(name)
    settings = _seeded(localizer, seed)
    if most is not None:
        facts = _some(facts, most, seed)
    if localizer in _BY_MANY:
        facts = facts + _drawn(others, facts.relations, seed)
    found = remember(
        _KEPT,
        (localizer, repr(settings), model.fingerprint, facts.fingerprint),
        lambda: localize(localizer, model, facts, progress=progress, **settings),
        most=_MOST_KEPT,
    )
    attention = "attn" if "attn" in found.kinds else "head"  # a layer's heads count together
    return found.choose(parameters=parameters, kinds=("mlp",) if mlps_only else ("mlp", attention))


def _drawn(facts: FactSet, relations: Sequence[str], seed: int) -> FactSet:
    """Draw some facts of each relation."""
    out: list[Fact] = []
    for relation in relations:
        out += _some(FactSet(tuple(f for f in facts if f.relation == relation)), _OTHERS, seed)
    return FactSet(tuple(out))


def _some(facts: FactSet, most: int, seed: int) -> FactSet:
    """Draw so many facts; all if there are no more."""
    return FactSet(tuple(random.Random(seed).sample(list(facts), min(len(facts), most))))


def _seeded(localizer: str, seed: int) -> dict[str, Any]:
    """Return the setting that gives a localizer its seed; none if it draws nothing."""
    own = inspect.signature(LOCALIZERS[localizer]).parameters
    if "corruption" in own:
        return {"corruption": replace(own["corruption"].default, seed=seed)}
    return {"seed": seed} if "seed" in own else {}
