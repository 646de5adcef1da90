"""Cells that a user picks become components at the site their token belongs to."""

from __future__ import annotations

import pandas as pd
import pytest

from workbench.facts.prompts import PICTURE, ROLES
from workbench.figures.cells import CellName
from workbench.localize.localization import COLUMNS, Localization
from workbench.models.components import Component, ComponentSet
from workbench.workspace import Workspace
from workbench.workspace.choosing import by_site, site_of, with_cells


def found(*cells: tuple[str, int, int, str, float]) -> Localization:
    rows = [(k, layer, i, role, -1, "", score, 0.0, 3) for k, layer, i, role, score in cells]
    return Localization("x", pd.DataFrame(rows, columns=list(COLUMNS)), 1.0, 0.0, 3)


@pytest.mark.parametrize("role", ROLES)
def test_the_subjects_own_tokens_are_the_subject_site(role: str) -> None:
    assert site_of(role) == ("subject" if "subject" in role or role == PICTURE else "answer")


def test_cells_are_added_and_the_stream_is_counted() -> None:
    start = Workspace(selection={"subject": ComponentSet.parse("mlp.0")})
    cells = [
        CellName("mlp", 1, -1, "last subject"),
        CellName("mlp", 0, -1, "first subject"),
        CellName("resid", 1, -1, "last"),
        CellName("head", 2, 3, "last"),
        CellName("attn", 2, -1, "further"),
        CellName("resid", 0, -1, "last subject"),
    ]
    new, left = with_cells(start, cells)
    assert left == 2
    assert {s: str(c) for s, c in new.selection.items()} == {
        "subject": "mlp.0-1",
        "answer": "attn.2, head.2.3",
    }
    assert with_cells(new, cells) == (new, 2)
    assert with_cells(start, []) == (start, 0)


def test_what_is_written_reads_back() -> None:
    new, _ = with_cells(Workspace(), [CellName("head", 2, 0, "last"), CellName("mlp", 1, -1, "x")])
    assert Workspace.from_query(new.to_query()) == new


def test_components_go_where_their_effect_is_largest() -> None:
    where = found(
        ("mlp", 0, -1, "last subject", 0.4),
        ("mlp", 0, -1, "last", -0.5),
        ("mlp", 1, -1, "last subject", -0.6),
        ("mlp", 1, -1, "last", 0.5),
        ("attn", 1, -1, "first subject", 0.2),
        ("attn", 1, -1, "last", 0.1),
        ("resid", 0, -1, "last subject", 9.0),
    )
    sites = by_site(where, [Component(0, "mlp"), Component(1, "mlp"), Component(1, "attn")])
    assert {s: str(c) for s, c in sites.items()} == {"answer": "mlp.0", "subject": "attn.1, mlp.1"}


def test_an_attention_goes_with_its_strongest_head_and_the_unknown_to_the_answer() -> None:
    where = found(
        ("head", 1, 0, "last", 0.1),
        ("head", 1, 1, "last subject", -0.9),
        ("head", 1, 2, "last", 0.5),
    )
    wanted = [Component(1, "attn"), Component(1, "head", 2), Component(2, "mlp")]
    sites = by_site(where, wanted)
    assert {s: str(c) for s, c in sites.items()} == {
        "subject": "attn.1",
        "answer": "head.1.2, mlp.2",
    }
    assert by_site(where, []) == {}
