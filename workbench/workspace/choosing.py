"""From cells that a user picks to components, by the site that their token belongs to."""

from __future__ import annotations

from collections.abc import Iterable

from workbench.edit.buffer import Site
from workbench.facts.prompts import PICTURE
from workbench.figures.cells import CellName
from workbench.localize.localization import Localization
from workbench.models.components import Component, ComponentSet
from workbench.workspace.workspace import Workspace

_SUBJECT = frozenset({"first subject", "middle subject", "last subject", PICTURE})


def site_of(role: str) -> Site:
    """Return the site of a token role: the subject's own tokens, or where the answer is read."""
    return "subject" if role in _SUBJECT else "answer"


def with_cells(workspace: Workspace, cells: Iterable[CellName]) -> tuple[Workspace, int]:
    """Add the components of cells to the selection.

    Returns:
        The new workspace, and how many cells were no component: the residual stream is what
        components write to and cannot be edited itself.
    """
    left = 0
    for cell in cells:
        if cell.kind == "resid":
            left += 1
            continue
        summed = cell.kind == "head" and cell.index < 0  # all heads of a layer are its attention
        kind = "attn" if summed else cell.kind
        component = Component(cell.layer, kind, cell.index)  # type: ignore[arg-type]
        workspace = workspace.adding(site_of(cell.role), [component])
    return workspace, left


def by_site(
    localization: Localization, components: Iterable[Component]
) -> dict[Site, ComponentSet]:
    """Sort components by the site of the token role at which their effect is largest."""
    rows = localization.table[localization.table["kind"] != "resid"]
    rows = rows.assign(size=rows["score"].abs()).sort_values("size")
    best = {
        Component(int(row["layer"]), row["kind"], int(row["index"])): str(row["role"])
        for _, row in rows.iterrows()
    }
    merged = {Component(c.layer, "attn"): role for c, role in best.items() if c.kind == "head"}
    out: dict[Site, list[Component]] = {}
    for component in components:
        role = best.get(component) or merged.get(component, "last")
        out.setdefault(site_of(role), []).append(component)
    return {site: ComponentSet(tuple(found)) for site, found in out.items()}
