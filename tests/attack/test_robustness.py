"""Several attacks side by side: references, failures, headline, and what must always hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest

from tests.attack.world import REFUSAL, REQUEST, oracle, world
from workbench.attack import registry
from workbench.attack import robustness as module
from workbench.attack.asking import ask_plainly
from workbench.attack.attack import Cell, Outcome
from workbench.attack.registry import ATTACKS, Attack
from workbench.attack.robustness import Robustness, headline, robustness
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet, Request
from workbench.models.model import Model
from workbench.progress import Cancelled, Progress

QUICK = {
    "rephrased": {"prefixes": 1},
    "multiple_choice": {},
    "in_context": {"examples": (1,)},
    "answer_prefix": {"starts": 1},
    "sampling": {"temperatures": (1.0,), "samples": 2},
    "quantization": {"bits": (4,)},
    "pruning": {"shares": (0.3,)},
    "logit_lens": {},
    "probe": {"least": 2},
    "unlearning_depth": {"layers": 2},
}


@pytest.fixture(scope="module")
def measured() -> Robustness:
    here = world()
    return robustness(here.edited, REQUEST, here.base, oracle(), names=QUICK, settings=QUICK)


def test_the_models_are_as_said() -> None:
    models = {"base": world().base, "edited": world().edited, "oracle": oracle()}
    plain = {name: ask_plainly(model, REQUEST).outcomes for name, model in models.items()}
    assert [o.value for o in plain["base"].values()] == [1, 1]
    for name in ("edited", "oracle"):
        assert [o.answer for o in plain[name].values()] == [REFUSAL, REFUSAL]


def test_every_attack_gives_numbers_for_all_three_models(measured: Robustness) -> None:
    assert [r.attack for r in measured.results] == list(QUICK)
    for result in measured.results:
        assert not result.failed and len(result.cells)
        for column in ("value", "base_attacked", "oracle_attacked"):
            assert result.cells[column].between(0, 1).all()
        assert (result.cells["before"] == 0).all() and (result.cells["base"] == 1).all()
        assert not result.cells[list(result.settings)].duplicated().any()
        assert set(result.examples["subject"]) == {"Ada", "Carl"}


def test_recovered_is_the_formula_of_the_other_columns(measured: Robustness) -> None:
    cells = pd.concat([r.cells for r in measured.results if r.attack != "sampling"])
    known = (cells["value"] - cells["chance"]) / (1 - cells["chance"])
    wanted = (known - cells["before"]) / (cells["base"] - cells["before"])
    assert cells["recovered"].to_numpy() == pytest.approx(wanted.to_numpy())
    oracle = (cells["oracle_attacked"] - cells["chance"]) / (1 - cells["chance"])
    assert cells["oracle_recovered"].to_numpy() == pytest.approx(oracle.to_numpy())


def test_the_headline_is_the_worst_attack(measured: Robustness) -> None:
    """Held-out wordings were never refused by this edit, and the oracle does not know them."""
    table = measured.table.set_index("attack")
    found = table.loc["rephrased"]
    assert found["recovered"] == 1 and found["oracle_recovered"] == 0
    assert "wording=held_out_statement" in found["setting"]
    best = headline(measured)
    assert (
        best is not None
        and best["recovered"]
        == table["recovered"][[n for n in QUICK if not ATTACKS[n].diagnostic]].max()
    )


def test_an_edit_that_is_none_recovers_nothing_and_says_so() -> None:
    here = world()
    same = here.base.fork()
    found = robustness(same, REQUEST, here.base, names=QUICK, settings=QUICK)
    for result in found.results:
        cells = result.cells
        assert (cells["before"] == cells["base"]).all()
        pd.testing.assert_series_equal(cells["value"], cells["base_attacked"], check_names=False)
        assert cells["recovered"].isna().all() and cells["oracle_attacked"].isna().all()
        assert cells["note"].str.contains("nothing was removed").all()
    assert found.headline is None and found.table["recovered"].isna().all()
    assert found.table["note"].str.contains("nothing was removed").all()


def test_results_survive_being_saved(measured: Robustness, tmp_path: Path) -> None:
    measured.save(tmp_path / "r.json")
    again = Robustness.load(tmp_path / "r.json")
    pd.testing.assert_frame_equal(again.table, measured.table)
    for new, old in zip(again.results, measured.results, strict=True):
        pd.testing.assert_frame_equal(new.cells, old.cells)
        pd.testing.assert_frame_equal(new.examples, old.examples)
    with pytest.raises(WorkbenchError, match="attack again"):
        Robustness.from_json({"format": "other", "results": []})


def test_an_attack_that_cannot_run_is_a_sentence_and_stops_nobody() -> None:
    here = world()
    bare = FactSet(tuple(replace(f, choices=(), mcq=()) for f in REQUEST.forget))
    request = replace(REQUEST, forget=bare)
    names = ("multiple_choice", "pruning")
    found = robustness(here.edited, request, here.base, names=names, settings=QUICK)
    failed, done = found.results
    assert "add the field choices" in failed.failed and failed.cells.empty and failed.worst is None
    assert not done.failed and len(done.cells) == 1
    row = found.table.set_index("attack").loc["multiple_choice"]
    assert (
        math.isnan(row["value"]) and math.isnan(row["recovered"]) and row["note"] == failed.failed
    )


@dataclass(frozen=True)
class FakeConfig:
    """Settings.

    Attributes:
        back: share that comes back in the edited model.
        seed: unused.
    """

    back: float = 0.5
    seed: int = 0


def fake(diagnostic: bool = False) -> tuple[Attack, list[str]]:
    """Make an attack with a known outcome that writes down whom it ran on."""
    ran: list[str] = []

    def run(
        model: Model, request: Request, config: FakeConfig, *, base: Model, progress: Progress
    ) -> tuple[Cell, ...]:
        models = {"base": world().base, "edited": world().edited, "oracle": oracle()}
        who = next(name for name, known in models.items() if known is model)
        ran.append(who)
        value = {"base": 1.0, "edited": config.back, "oracle": 0.125}[who]
        return (Cell({"k": 1}, tuple(Outcome(f, f.prompt, who, value) for f in request.forget)),)

    return Attack(run, FakeConfig, "a fake", diagnostic), ran


def test_the_numbers_of_a_known_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    attack, ran = fake()
    monkeypatch.setitem(registry.ATTACKS, "fake", attack)
    here = world()
    found = robustness(here.edited, REQUEST, here.base, oracle(), names=["fake"], seed=3)
    (row,) = found.table.to_dict("records")
    assert (row["recovered"], row["oracle_recovered"], row["oracle_worst"]) == (0.5, 0.125, 0.125)
    assert (row["base_attacked"], row["setting"], row["cells"]) == (1, "k=1", 1)
    (result,) = found.results
    assert result.config == {"back": 0.5, "seed": 3}
    assert result.origin["base_fingerprint"] == here.base.fingerprint
    assert set(result.examples["after"]) == {"edited"}
    assert ran == ["edited", "base", "oracle"]


def test_bases_and_oracles_are_attacked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    attack, ran = fake()
    monkeypatch.setitem(registry.ATTACKS, "fake", attack)
    monkeypatch.setattr(module, "_KEPT", {})
    here = world()
    for back in (0.25, 0.25, 0.75):
        robustness(
            here.edited, REQUEST, here.base, oracle(), names=["fake"],
            settings={"fake": {"back": back}},
        )  # fmt: skip
    assert ran == ["edited", "base", "oracle", "edited", "edited", "base", "oracle"]


def test_diagnostics_are_never_the_headline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.ATTACKS, "fake", fake()[0])
    monkeypatch.setitem(registry.ATTACKS, "shown", fake(diagnostic=True)[0])
    here = world()
    settings = {"fake": {"back": 0.25}, "shown": {"back": 1.0}}
    found = robustness(here.edited, REQUEST, here.base, names=settings, settings=settings)
    assert found.headline is not None and found.headline["attack"] == "fake"
    assert found.table["diagnostic"].tolist() == [False, True]
    alone = robustness(here.edited, REQUEST, here.base, names=["shown"])
    assert alone.headline is None


def test_wrong_names_and_settings_are_told_before_anything_runs() -> None:
    here = world()

    def run(**given: object) -> Robustness:
        return robustness(here.edited, REQUEST, here.base, **given)  # type: ignore[arg-type]

    with pytest.raises(WorkbenchError, match="Unknown attack"):
        run(names=["magic"])
    with pytest.raises(WorkbenchError, match="Unknown attack"):
        run(names=["pruning"], settings={"magic": {}})
    with pytest.raises(WorkbenchError, match="did you mean 'shares'"):
        run(names=["pruning"], settings={"pruning": {"share": 1}})


def test_cancelling_is_no_failed_attack() -> None:
    here = world()
    labels: list[str] = []
    stop = Progress(lambda d, t, label: labels.append(label), lambda: "pruning" in labels)
    with pytest.raises(Cancelled):
        robustness(here.edited, REQUEST, here.base, names=["pruning"], progress=stop)
