"""From a localization to the components of each site: where facts are looked up and read out.

The subject site is where the subject's last token is enriched (Geva et al. 2023, arXiv 2304.14767:
early MLPs), or where its picture's tokens are; the answer site is where the last token receives the
answer. A component belongs to the site at whose token role its indirect effect is the larger.
"""

from __future__ import annotations

import math
from typing import Literal

from workbench.errors import WorkbenchError
from workbench.facts.prompts import PICTURE, Role
from workbench.localize.localization import Localization
from workbench.models.components import Component, ComponentSet

SiteName = Literal["subject", "answer"]
_ROLES: dict[SiteName, tuple[Role, ...]] = {
    "subject": ("last subject", PICTURE),  # a face is looked up at any of its picture's tokens
    "answer": ("last",),
}


def recall_sites(
    localization: Localization,
    *,
    share: float = 0.25,
    most: int = 4,
    kinds: tuple[str, ...] = ("mlp",),
    first: int = 0,
) -> dict[SiteName, ComponentSet]:
    """Choose the components of each site.

    Args:
        localization: scores by token role.
        share: least score of a component, as a share of the best one at its site.
        most: most components of a site.
        kinds: kinds of components to choose from.
        first: lowest layer to choose from. Where the vocabulary is large the first MLP restates
            the token: restoring it gives back the embedding that noise took, wherever the fact is
            recalled. Leave it out there, with every window that reaches it.

    Returns:
        The sites that have components; a site without a positive score is left out.

    Raises:
        WorkbenchError: no site has any component.
    """
    scores = {site: _scores(localization, roles, kinds, first) for site, roles in _ROLES.items()}
    out: dict[SiteName, ComponentSet] = {}
    for site in ("subject", "answer"):
        other = scores["answer" if site == "subject" else "subject"]
        own = {c: s for c, s in scores[site].items() if s > max(0.0, other.get(c, 0.0))}
        best = max(own.values(), default=0.0)
        ranked = sorted(own, key=lambda c: -own[c])[:most]
        chosen = tuple(c for c in ranked if own[c] >= share * best)
        if chosen:
            out[site] = ComponentSet(chosen)
    if not out:
        raise WorkbenchError(
            "No component has a positive effect at the subject's last token or at the last token; "
            "localize on facts the model knows, or name the components yourself."
        )
    return out


def _scores(
    localization: Localization, roles: tuple[Role, ...], kinds: tuple[str, ...], first: int
) -> dict[Component, float]:
    """Return each component's score, the largest where there are several roles."""
    table = localization.table
    wanted = table["role"].isin(roles) & table["kind"].isin(kinds) & (table["layer"] >= first)
    out: dict[Component, float] = {}
    for _, row in table[wanted].iterrows():
        component = Component(int(row["layer"]), row["kind"], int(row["index"]))
        out[component] = max(float(row["score"]), out.get(component, -math.inf))
    return out
