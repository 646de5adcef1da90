"""A study's tables by hand, and their statistics against scipy or every sign by hand."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import permutation_test

from tests.compare.small import attacked, edited, plain_study, scored, written
from workbench.compare.cell import CellName
from workbench.compare.table import COMPARED, StudyResult, along, gather, holm, sign_flip
from workbench.measure.statistics import score

ACC = {("mlp.1", 0): 0.1, ("mlp.1", 1): 0.2, ("mlp.1", 2): 0.3}
ACC |= {("random", 0): 0.4, ("random", 1): 0.4, ("random", 2): 0.6}


def cell(name: CellName) -> dict[str, Any]:
    if name.label in ("base", "oracle"):
        return scored(acc_f=1.0, acc_r=0.9)
    return edited(f"run-{name}", acc_f=ACC[name.place, name.seed], acc_r=0.8)


def result(
    folder: Path,
    of: Any = cell,
    under: Any = lambda *_: None,
    attacks: Sequence[str] = (),
    **more: Any,
) -> StudyResult:
    study = plain_study(attack=[{"attack": name} for name in attacks], **more)
    return gather(study, written(study, folder, of, under))


def row(table: pd.DataFrame, **where: Any) -> dict[str, Any]:
    (found,) = (
        r for r in table.to_dict("records") if all(r[key] == value for key, value in where.items())
    )
    return found


def test_one_row_a_method_and_place_over_seeds(tmp_path: Path) -> None:
    found = result(tmp_path)
    who = [tuple(r) for r in found.table[["method", "place", "seeds"]].to_numpy()]
    assert who == [("base", "", 1), ("stamp", "mlp.1", 3), ("stamp", "random", 3)]
    ours = row(found.table, place="mlp.1")
    own = score([0.1, 0.2, 0.3])
    assert own is not None
    assert (ours["acc_f"], ours["acc_f_low"], ours["acc_f_high"]) == (own.value, own.low, own.high)
    assert ours["acc_f"] == pytest.approx(0.2) and ours["acc_f_low"] < 0.2 < ours["acc_f_high"]
    assert (ours["acc_r"], ours["acc_r_low"], ours["acc_r_high"]) == pytest.approx((0.8, 0.8, 0.8))
    assert (ours["parameters"], ours["cpu_seconds"], ours["forward_tokens"]) == (100, 2, 30)
    assert (ours["failed"], ours["over_drop"], ours["note"]) == (0, 0, "")
    assert math.isnan(ours["mcq_f"]) and math.isnan(row(found.table, method="base")["parameters"])


def test_cells_keep_what_was_chosen(tmp_path: Path) -> None:
    cells = result(tmp_path).cells
    assert len(cells) == 7
    one = row(cells, place="random", seed=2)
    assert one["settings"] == {"weight": 10} and one["components"] == "mlp.1"
    assert one["run"] == "run-stamp at random, seed 2" and one["within"] is True


def test_a_failed_cell_is_counted_and_named_and_never_a_zero(tmp_path: Path) -> None:
    def of(name: CellName) -> dict[str, Any] | None:
        if name.place == "mlp.1" and name.seed == 1:
            return {"status": "failed", "error": "It was too large."}
        return None if name.place == "random" else cell(name)

    found = result(tmp_path, of)
    ours = row(found.table, place="mlp.1")
    assert (ours["seeds"], ours["failed"], ours["note"]) == (2, 1, "It was too large.")
    assert ours["acc_f"] == pytest.approx(0.2)  # of 0.1 and 0.3
    random = row(found.table, place="random")
    assert (random["seeds"], random["failed"]) == (0, 0)
    assert random["note"] == "Not run yet: seeds 0, 1, 2."
    assert math.isnan(random["acc_f"]) and math.isnan(random["acc_f_low"])
    failed = row(found.cells, place="mlp.1", seed=1)
    assert (failed["status"], failed["error"]) == ("failed", "It was too large.")
    assert math.isnan(failed["acc_f"]) and math.isnan(failed["cpu_seconds"])


def test_an_edit_that_did_nothing_and_one_that_harms_are_said(tmp_path: Path) -> None:
    def of(name: CellName) -> dict[str, Any]:
        found = cell(name)
        if name.place == "mlp.1" and name.seed > 0:
            found["within"] = False
        if name.place == "random" and name.seed == 2:
            found["failed"] = "The edit changed nothing."
        return found

    table = result(tmp_path, of).table
    assert row(table, place="mlp.1")["over_drop"] == 2
    assert row(table, place="random")["note"] == "The edit changed nothing."
    assert row(table, place="random")["seeds"] == 3


def rounding(back: float, oracle: float = 0.1) -> dict[str, Any]:
    rows = [{"bits": 8, "group": "row", "recovered": back, "oracle_recovered": oracle}]
    return attacked([*rows, {"bits": 4, "group": "row", "recovered": 0.0, "oracle_recovered": 0.2}])


def test_the_worst_attack_of_a_cell(tmp_path: Path) -> None:
    back = {("quantization", 0): 0.2, ("quantization", 1): 0.5, ("quantization", 2): 0.3}
    back |= {("pruning", 0): 0.1, ("pruning", 1): 0.6, ("pruning", 2): 0.0}

    def attack(name: CellName, of: str) -> dict[str, Any] | None:
        if name.place != "mlp.1":
            return None
        if of == "quantization":
            return rounding(back[of, name.seed])
        return attacked([{"share": 0.1, "recovered": back[of, name.seed]}], "pruning")

    found = result(tmp_path, under=attack, attacks=("quantization", "pruning"))
    cells = found.cells[found.cells["place"] == "mlp.1"]
    assert cells["worst_attack"].tolist() == ["quantization", "pruning", "quantization"]
    assert cells["worst_setting"].tolist() == [
        "bits=8, group=row",
        "share=0.1",
        "bits=8, group=row",
    ]
    assert cells["recovered"].tolist() == [0.2, 0.6, 0.3]
    ours = row(found.table, place="mlp.1")
    assert ours["worst_attack"] == "quantization"
    assert ours["recovered"] == pytest.approx(np.mean([0.2, 0.6, 0.3]))
    random = row(found.table, place="random")
    assert random["worst_attack"] == "" and math.isnan(random["recovered"])


def test_what_is_left_after_the_worst_attack_and_the_front(tmp_path: Path) -> None:
    """The base answers 1.0. Of what stamp at mlp.1 removed, 0.8, half comes back: 0.6."""
    back = {"mlp.1": 0.5, "random": -0.3}

    def attack(name: CellName, of: str) -> dict[str, Any]:
        return rounding(back.get(name.place, 0.0))

    table = result(tmp_path, under=attack, attacks=("quantization",)).table
    ours, random = row(table, place="mlp.1"), row(table, place="random")
    assert ours["after"] == pytest.approx(0.6)
    assert random["after"] == pytest.approx(random["acc_f"])  # 0.47: less, and as much is kept
    assert (ours["front"], random["front"]) == (False, True)
    assert row(table, method="base")["front"] is False
    (tmp_path / "new").mkdir()
    new = result(
        *(tmp_path / "new", lambda name: None if name.label == "base" else cell(name), attack),
        attacks=("quantization",),
    )
    assert row(new.table, place="mlp.1")["after"] == pytest.approx(0.6)  # all were known then
    (tmp_path / "bare").mkdir()
    assert not result(tmp_path / "bare").table["front"].any()  # nothing was attacked


def test_an_attack_that_was_measured_names_the_worst_even_if_most_seeds_have_none(
    tmp_path: Path,
) -> None:
    def attack(name: CellName, of: str) -> dict[str, Any] | None:
        return rounding(0.4) if (name.place, name.seed) == ("mlp.1", 0) else None

    ours = row(result(tmp_path, under=attack, attacks=("quantization",)).table, place="mlp.1")
    assert (ours["worst_attack"], ours["recovered"]) == ("quantization", 0.4)


def test_a_failed_attack_is_said_and_is_no_number(tmp_path: Path) -> None:
    def attack(name: CellName, of: str) -> dict[str, Any]:
        if name.seed == 0:
            return {"status": "failed", "error": "The worker was killed."}
        return attacked([], failed="No choices.") if name.seed == 1 else rounding(0.5)

    found = result(tmp_path, under=attack, attacks=("quantization",))
    ours = found.cells[found.cells["place"] == "mlp.1"]
    assert ours["error"].tolist() == [
        "quantization: The worker was killed.",
        "quantization: No choices.",
        "",
    ]
    assert ours["status"].tolist() == ["done"] * 3
    assert ours["recovered"].isna().tolist() == [True, True, False]
    table = row(found.table, place="mlp.1")
    assert table["recovered"] == 0.5 and table["note"] == "quantization: The worker was killed."
    assert set(found.attacks["seed"]) == {2}


def test_attacks_hold_every_setting_of_every_cell(tmp_path: Path) -> None:
    """One attack calls a setting `attack`; the column is the attack's name all the same."""

    def attack(name: CellName, of: str) -> dict[str, Any]:
        if of == "quantization":
            return rounding(0.3)
        return attacked([{"attack": "start", "text": "Sure"}], "answer_prefix")

    attacks = ("quantization", "answer_prefix")
    found = result(tmp_path, under=attack, attacks=attacks).attacks
    assert list(found.columns[:5]) == ["method", "place", "seed", "attack", "setting"]
    assert len(found) == 7 * 3
    ours = found[(found["place"] == "mlp.1") & (found["seed"] == 1)]
    assert ours["attack"].tolist() == ["quantization", "quantization", "answer_prefix"]
    assert ours["setting"].tolist() == [
        *("bits=8, group=row", "bits=4, group=row", "attack=start, text=Sure"),
    ]
    assert ours["recovered"].tolist() == [0.3, 0.0, 0.5]


def test_without_attacks_their_table_is_empty_and_has_its_columns(tmp_path: Path) -> None:
    found = result(tmp_path)
    assert found.attacks.empty and {"method", "attack", "value"} <= {*found.attacks.columns}


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    """Seed 1 of the control failed, so seeds 0 and 2 are compared: -0.3 and -0.3."""

    def of(name: CellName) -> dict[str, Any]:
        if name.place == "random" and name.seed == 1:
            return {"status": "failed", "error": "x"}
        return cell(name)

    found = result(tmp_path, of).differences
    assert found["measure"].tolist() == list(COMPARED)
    assert set(found["place"]) == {"mlp.1"} and set(found["control"]) == {"random"}
    ours = row(found, measure="acc_f")
    assert (ours["seeds"], ours["difference"]) == (2, pytest.approx(-0.3))
    assert ours["p"] == ours["p_holm"] == 0.5
    same = row(found, measure="acc_r")
    assert (same["seeds"], same["difference"], same["p"]) == (2, 0.0, 1.0)
    missing = row(found, measure="mcq_f")
    assert missing["seeds"] == 0 and math.isnan(missing["p"]) and math.isnan(missing["p_holm"])


def test_differences_are_against_the_methods_own_control(tmp_path: Path) -> None:
    other = {"method": "ga", "places": ["mlp.1", "mlp.2", "random_mlps"]}
    ours = {"method": "stamp", "places": ["mlp.1", "random"]}
    size = {"stamp": 0.1, "ga": 0.5}

    def of(name: CellName) -> dict[str, Any]:
        drawn = name.place.startswith("random")
        return edited(acc_f=size.get(name.label, 1.0) * (1 if drawn else 0) + name.seed / 100)

    found = result(tmp_path, of, method=[ours, other]).differences
    found = found[found["measure"] == "acc_f"]
    assert [tuple(r) for r in found[["method", "place", "control"]].to_numpy()] == [
        ("stamp", "mlp.1", "random"),
        ("ga", "mlp.1", "random_mlps"),
        ("ga", "mlp.2", "random_mlps"),
    ]
    assert found["difference"].tolist() == pytest.approx([-0.1, -0.5, -0.5])
    assert found["p"].tolist() == [0.25] * 3 and found["p_holm"].tolist() == [0.75] * 3


def test_a_study_without_a_control_has_no_differences(tmp_path: Path) -> None:
    only = {"method": "stamp", "places": ["mlp.1"]}
    assert result(tmp_path, method=[only]).differences.empty


@pytest.mark.parametrize(
    ("differences", "p"),
    [([1, 1, 1], 0.25), ([1, 1, -1], 1.0), ([1.0], 1.0), ([0, 0], 1.0), ([3, 1, 1, 1], 0.125)],
)
def test_sign_flips_by_hand(differences: list[float], p: float) -> None:
    assert sign_flip(differences) == p


@pytest.mark.parametrize("n", [2, 5, 9])
@pytest.mark.parametrize("seed", range(4))
def test_sign_flips_are_scipys_exact_permutation_test(n: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    values = np.round(draw.normal(0.3, 1, n), 1)  # rounded, so that sums tie
    wanted = permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        n_resamples=math.inf,
        alternative="two-sided",
    )
    every = [abs(np.dot(s, values)) for s in itertools.product((1, -1), repeat=n)]
    assert sign_flip(values.tolist()) == np.mean(np.array(every) >= abs(values.sum()) - 1e-9)
    # scipy doubles the smaller tail; by symmetry that is the same unless the mean is 0.
    if values.sum():
        assert sign_flip(values.tolist()) == pytest.approx(wanted.pvalue)


def test_many_seeds_are_no_matter() -> None:
    assert sign_flip([1.0] * 18) == 2 / 2**18


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        # Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1, each at least as large as the one before.
        ([0.04, 0.01, 0.03, 0.02], [0.06, 0.04, 0.06, 0.06]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.2], [0.2]),
        ([], []),
        ([0.01, math.nan, 0.02], [0.02, math.nan, 0.02]),
    ],
)
def test_holm_by_hand(p: list[float], adjusted: list[float]) -> None:
    assert holm(p) == pytest.approx(adjusted, nan_ok=True)


def lines(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["method", "place", "seed", "attack", "steps", "lr", "value"])


def test_along_by_hand() -> None:
    """Of the learning rates the one that brings most back counts, seed by seed."""
    table = lines(
        [
            ("stamp", "mlp.1", 0, "relearn", 24, 1, 0.8),
            ("stamp", "mlp.1", 0, "relearn", 3, 1, 0.1),
            ("stamp", "mlp.1", 0, "relearn", 3, 2, 0.3),
            ("stamp", "mlp.1", 1, "relearn", 3, 1, 0.5),
            ("stamp", "mlp.1", 1, "relearn", 3, 2, 0.2),
            ("base", "", 0, "relearn", 3, 1, 0.9),
            ("base", "", 0, "soft_prompt", 3, 1, 1.0),
        ]
    )
    found = along(table, "relearn", "steps")
    assert found.to_dict("records") == [
        {"method": "stamp", "place": "mlp.1", "at": 3, "value": 0.4, "low": 0.3, "high": 0.5},
        {"method": "base", "place": "", "at": 3, "value": 0.9, "low": 0.9, "high": 0.9},
        {"method": "stamp", "place": "mlp.1", "at": 24, "value": 0.8, "low": 0.8, "high": 0.8},
    ]


def test_a_result_is_plain_json(tmp_path: Path) -> None:
    found = result(tmp_path, under=lambda *_: rounding(0.5), attacks=("quantization",))
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["study"] == found.study.model_dump(mode="json")
    assert [r["place"] for r in data["table"]] == ["", "mlp.1", "random"]
    assert data["table"][0]["parameters"] is None and data["table"][1]["recovered"] == 0.5
    assert len(data["cells"]) == 7 and data["cells"][1]["settings"] == {"weight": 10}
    assert [d["measure"] for d in data["differences"]] == list(COMPARED)
