"""The second trace is on the base's scale: nothing changed gives the very same numbers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tiny_files import request_file

from workbench.errors import WorkbenchError
from workbench.facts.request_files import load_request
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.models.model import Model
from workbench.plans import LocalizePlan, run_localize
from workbench.plans.trace_again import run_trace_again
from workbench.store.store import RunStore


@pytest.mark.parametrize("given", [{}, {"samples": 2, "seed": 3, "window": 3}])
def test_the_unedited_model_gives_the_same_numbers(
    model: Model, store: RunStore, tmp_path: Path, given: dict[str, int]
) -> None:
    plan = LocalizePlan("tiny", request=str(request_file(tmp_path)), **given)  # type: ignore[arg-type]
    before = run_localize(plan, model, store=store).result
    again = run_trace_again(plan, before, model, model, store=store).result
    keys = ["kind", "layer", "index", "role", "position", "n"]
    pd.testing.assert_frame_equal(again.table[keys], before.table[keys])
    for column in ("score", "stderr"):
        found, own = (x.table[column].to_numpy() for x in (again, before))
        assert found == pytest.approx(own, abs=1e-5)
    assert again.clean == pytest.approx(before.clean)
    assert again.corrupted == pytest.approx(before.corrupted)


def test_an_edited_model_is_measured_on_the_bases_scale(
    model: Model, store: RunStore, tmp_path: Path
) -> None:
    """Without attention the subject does not reach the last token: every effect is gone."""
    file = request_file(tmp_path)
    plan = LocalizePlan("tiny", request=str(file), samples=2)
    before = run_localize(plan, model, store=store).result
    gone = {n: Dense(-w) for n, w in model.parameters.items() if n.endswith("o_proj.weight")}
    deaf = model.with_delta(WeightDelta(gone, Origin("by hand", components="attn.0-2")))
    request = load_request(file)
    found = run_trace_again(plan, before, model, deaf, request, store=store)
    assert float(found.result.table["score"].abs().max()) < 1e-4
    assert float(before.table["score"].abs().max()) > 0.1
    record = store.get(found.run)
    assert (record.kind, record.status) == ("trace-again", "FINISHED")
    assert [e["components"] for e in record.config["edits"]] == ["attn.0-2"]


def test_other_methods_have_no_scale_to_keep(model: Model, store: RunStore, tmp_path: Path) -> None:
    file = str(request_file(tmp_path))
    before = run_localize(LocalizePlan("tiny", request=file), model, store=store).result
    for method in ("activation_patching", "logit_lens"):
        plan = LocalizePlan("tiny", request=file, method=method)
        with pytest.raises(WorkbenchError, match="Only causal tracing can be repeated"):
            run_trace_again(plan, before, model, model, store=store)
    assert len(store.list()) == 1
