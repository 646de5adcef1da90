"""`workbench repair trial` and `task`: many repairs in a row, and a whole request in sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.console import (
    Json,
    ModelName,
    Overwrite,
    RequestName,
    Seed,
    check_output,
    columns,
    emit,
    progress_bar,
)


def trial(
    model: ModelName,
    out: Annotated[Path, typer.Option(help="The folder to write the table and the picture to.")],
    repairs: Annotated[int, typer.Option(help="How many, each about another subject.")] = 100,
    every: Annotated[int, typer.Option(help="After how many to measure.")] = 10,
    facts: Annotated[Path | None, typer.Option(help="A fact file about the model's world.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Find out how many repairs a model takes; its own repairs stay as they are.

    Example: workbench repair trial demo --repairs 20 --every 10 --out trial
    """
    from workbench.models.load import load
    from workbench.repair.catalog import Catalog
    from workbench.repair.trial import run_trial
    from workbench.trial_report import check_trial_folder, write_trial

    check_trial_folder(out)
    with progress_bar(as_json) as progress:
        base = load(model, progress=progress)
        catalog = Catalog.of(base, facts, seed=seed, progress=progress)
        found = run_trial(base, catalog, repairs=repairs, every=every, seed=seed, progress=progress)
    write_trial(found, out, model=base, seed=seed)
    shown = found.table.round(3).astype(str)
    rows = [tuple(shown.columns), *shown.itertuples(index=False, name=None)]
    lost = f"{len(found.not_understood)} of {len(found.sentences)} sentences were not understood."
    value = {"table": found.table.to_dict("records"), "not_understood": found.not_understood}
    emit(value, f"{columns(rows)}\n{lost}\nWrote {out}.", as_json)


def task(
    model: ModelName,
    request: RequestName,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")],
    facts: Annotated[Path | None, typer.Option(help="A fact file about the model's world.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most kept facts to ask about.")] = 120,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Repair a whole request in sentences, one a subject; the model's own repairs stay as they are.

    Example: workbench repair task demo --request hazard --out hazard.json
    """
    target = check_output(out, overwrite)
    from workbench.job_inputs import neutral_texts, request_for
    from workbench.models.atomic import write_json
    from workbench.models.load import load
    from workbench.models.versions import versions
    from workbench.repair.task import run_task

    with progress_bar(as_json) as progress:
        base = load(model, progress=progress)
        wanted = request_for(base, request, seed=seed, progress=progress)
        found = run_task(
            *(base, wanted),
            neutral=neutral_texts(base, request),
            facts=facts,
            limit=limit,
            seed=seed,
            progress=progress,
        )
    value = {
        "model": base.name,
        "fingerprint": base.fingerprint,
        "request": request,
        "seed": seed,
        "limit": limit,
        "versions": versions(),
        **found.to_json(),
    }
    write_json(target, value)
    rows = [
        (r["sentence"], f"{r['tried']} tries" if r["repaired"] else r["reason"])
        for r in value["sentences"]
    ]
    told = ", ".join(f"{name} {found.card.value(name):.2f}" for name in ("acc_f", "acc_r"))
    emit(value, f"{columns(rows)}\n{told}\nWrote {target}.", as_json)
