"""`workbench attack | compare`: does it come back, and which method is better?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.console import (
    Deltas,
    Json,
    ModelName,
    RequestName,
    Seed,
    check_folder,
    columns,
    emit,
    progress_bar,
    settings_of,
)


def attack(
    model: ModelName,
    request: RequestName,
    delta: Deltas = None,
    oracle: Annotated[
        str | None,
        typer.Option(help="A model that never knew the facts; the bundled model has its own."),
    ] = None,
    attack: Annotated[
        list[str] | None, typer.Option(help="Only this attack; may be repeated.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, attack.key=value.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Try to bring back what an edit removed; base and oracle go through the same attacks.

    Example: workbench attack demo --request athletes --delta athletes.safetensors
    """
    settings = settings_of(set_)
    from workbench.models.load import oracle_for
    from workbench.plans import AttackPlan, run_attack

    plan = AttackPlan(
        model,
        request=request,
        deltas=tuple(str(d) for d in delta or ()),
        oracle=oracle_for(model) if oracle is None else oracle,
        attacks=tuple(attack or ()),
        settings=settings,
        seed=seed,
    )
    with progress_bar(as_json) as progress:
        recorded = run_attack(plan, progress=progress)
    found = recorded.result
    shown = ("attack", "setting", "value", "before", "base", "recovered", "oracle_recovered")
    rows = [
        ["attack", "worst setting", "attacked", "before", "base", "brought back", "oracle"],
        *([_written(row[c]) for c in shown] for row in found.table.to_dict("records")),
    ]
    worst = found.headline
    verdict = (
        f"The worst attack is {worst['attack']} ({worst['setting']}): it brings back "
        f"{max(worst['recovered'], 0):.0%} of what was removed."
        if worst is not None
        else "No attack could be measured."
    )
    failed = [f"{r.attack} did not run: {r.failed}" for r in found.results if r.failed]
    text = "\n".join([columns(rows), verdict, *failed])
    emit({"run": recorded.run, **found.to_json()}, text, as_json)


def _written(value: object) -> str:
    """Write a number of a table with two places, what was not measured as nothing."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.2f}"
    return str(value)


def compare(
    study: Annotated[Path, typer.Argument(help="The study, a TOML file.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; beside the study by default.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes to run on.")] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Run on a Ray cluster.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the study and say what it would run.")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Run nothing; write what is there so far.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a study: methods at places with seeds, attacked alike, in one table.

    A study that was stopped goes on where it was.

    Example: workbench compare studies/athletes.toml --workers 2
    """
    from workbench.compare.estimate import estimate
    from workbench.compare.runner import cells_dir, run_study, tasks_of
    from workbench.compare.study import read_study
    from workbench.compare.table import gather
    from workbench.study_report import check_target, headers, rows, write_results

    checked = read_study(study)
    folder = cells_dir()
    if dry_run:
        plan = estimate(checked, tasks_of(checked, folder), folder, workers)
        emit(plan.to_json(), plan.words(), as_json)
        return
    target = (out or study.with_suffix("")).expanduser()
    check_target(target)
    check_folder(target, overwrite=True)
    if report_only:
        tasks = tasks_of(checked, folder)
    else:
        with progress_bar(as_json) as progress:
            tasks = run_study(checked, workers=workers, ray=ray, folder=folder, progress=progress)
    result = gather(checked, tasks)
    files = write_results(result, target)
    text = f"{columns([headers(result), *rows(result)])}\nWrote {len(files)} files to {target}."
    emit({"files": [str(f) for f in files], "table": result.to_json()["table"]}, text, as_json)
