"""What a localization has to beat: random components, all MLPs, everything.

A method that edits the places it found is only better for finding them if it beats as many
parameters drawn at random (Guo et al. 2024, arXiv 2410.12949, equal-budget protocol): whole
components are added until the budget is met, as `Localization.choose(parameters=...)` does.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from workbench.errors import WorkbenchError, unknown_name
from workbench.models.components import Component, ComponentSet, Structure


def random_components(
    structure: Structure,
    parameters: float,
    *,
    kinds: Sequence[str] = ("mlp", "attn"),
    seed: int = 0,
) -> ComponentSet:
    """Draw whole components until their parameters reach a budget.

    Args:
        structure: the model's.
        parameters: the budget, or a share of all MLP and attention parameters if below 1.
        kinds: mlp, attn or both.
        seed: seed of the draw.

    Raises:
        WorkbenchError: an unknown kind, or a budget that is not positive.
    """
    for kind in kinds:
        if kind not in ("mlp", "attn"):
            raise unknown_name("kind of random component", kind, ("mlp", "attn"))
    if not parameters > 0 or not kinds:
        raise WorkbenchError("Random components need a budget above 0 and a kind; give both.")
    whole = structure.n_parameters(structure.everything)
    limit = parameters * whole if parameters < 1 else parameters
    pool = [c for c in structure.everything if c.kind in kinds]
    random.Random(seed).shuffle(pool)
    chosen: list[Component] = []
    used = 0
    for component in pool:
        if used >= limit:
            break
        chosen.append(component)
        used += structure.n_parameters(ComponentSet((component,)))
    return ComponentSet(tuple(chosen))


def all_mlps(structure: Structure) -> ComponentSet:
    """Return the MLP of every layer."""
    return ComponentSet(tuple(Component(i, "mlp") for i in range(structure.n_layers)))


def everything(structure: Structure) -> ComponentSet:
    """Return every MLP and every attention."""
    return structure.everything
