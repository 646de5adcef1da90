"""What changed between two localizations: has recall gone, or moved?

    score = after - before      stderr = sqrt(stderr_after^2 + stderr_before^2)

Both must be in the same unit: the second trace of an edited model is measured on the base's scale
(`trace_again`), two methods on one model each on their own.
"""

from __future__ import annotations

import pandas as pd

from workbench.errors import WorkbenchError
from workbench.localize.localization import COLUMNS, Localization

_CELL = ["kind", "layer", "index", "role", "position"]


def difference(after: Localization, before: Localization) -> Localization:
    """Subtract one localization from another, cell by cell.

    Cells that only one of them scored are left out. The result's clean and corrupted metrics are
    those of `after`.

    Raises:
        WorkbenchError: they have no cell in common.
    """
    table = after.table.merge(
        before.table[[*_CELL, "score", "stderr"]], on=_CELL, suffixes=("", "_before")
    )
    if table.empty:
        raise WorkbenchError(
            "The two localizations have no cell in common; localize the same facts with the same "
            "kinds of cells."
        )
    table["score"] -= table["score_before"]
    table["stderr"] = (table["stderr"] ** 2 + table["stderr_before"] ** 2) ** 0.5
    return Localization(
        after.method,
        pd.DataFrame(table[list(COLUMNS)]),
        after.clean,
        after.corrupted,
        after.n_facts,
        after.left_out,
        after.sizes,
        {"after": dict(after.config), "before": dict(before.config)},
    )
