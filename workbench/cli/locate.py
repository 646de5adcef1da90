"""`workbench localize`: where a model recalls some facts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.console import (
    LOST_BY,
    FactsFile,
    Json,
    MetricName,
    ModelName,
    Most,
    Overwrite,
    Relation,
    RequestName,
    Samples,
    Seed,
    SubjectName,
    check_folder,
    columns,
    emit,
    progress_bar,
)

if TYPE_CHECKING:
    from workbench.localize.localization import Localization


def localize(
    model: ModelName,
    facts: FactsFile = None,
    request: RequestName | None = None,
    method: Annotated[str, typer.Option(help="The localizer.")] = "causal_tracing",
    corruption: Annotated[str | None, typer.Option(help=LOST_BY)] = None,
    samples: Samples = None,
    metric: MetricName = None,
    window: Annotated[int | None, typer.Option(help="Layers restored together.")] = None,
    relation: Relation = None,
    subject: SubjectName = None,
    most: Most = 48,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the table and pictures.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Find where a model recalls some facts.

    Example: workbench localize demo --request athletes --out where
    """
    if out:
        check_folder(out, overwrite)
    from workbench.plans import LocalizePlan, run_localize

    plan = LocalizePlan(
        model,
        request=request or "",
        facts=str(facts or ""),
        method=method,
        corruption=corruption,
        samples=samples,
        metric=metric,
        window=window,
        relation=relation,
        subject=subject,
        most=most,
        seed=seed,
    )
    with progress_bar(as_json) as progress:
        recorded = run_localize(plan, progress=progress)
    found = recorded.result
    if out:
        _save_localization(found, out, overwrite, model)
    ranked = [{"component": str(c), "score": s} for c, s in found.ranking()[:12]]
    result = {
        "run": recorded.run,
        "method": found.method,
        "facts": found.n_facts,
        "left_out": list(found.left_out),
        "clean": found.clean,
        "corrupted": found.corrupted,
        "ranking": ranked,
        "table": found.table.to_dict("records"),
        "config": dict(found.config),
    }
    out_of = f"{len(found.left_out)} left out, not known or not to be corrupted"
    lines = [f"{found.n_facts} facts; {out_of}."]
    lines.append(columns([(r["component"], f"{r['score']:.3f}") for r in ranked]))
    lines.append(f"Recorded as run {recorded.run}.")
    emit(result, "\n".join(lines), as_json)


def _save_localization(found: Localization, out: Path, overwrite: bool, model: str) -> None:
    from workbench.figures.portraits import portrait_panels
    from workbench.figures.static import trace_svg
    from workbench.figures.traces import trace_panels
    from workbench.localize.patch_grid import has_patches, pictured_fact
    from workbench.models.atomic import whole_folder
    from workbench.models.load import load

    def ours(folder: Path) -> bool:
        return (folder / "localization.json").is_file()

    with whole_folder(out.expanduser(), overwrite=overwrite, ours=ours) as place:
        found.save(place)
        (place / "trace.svg").write_text(trace_svg(found), encoding="utf-8")
        page = trace_panels(found).to_html(include_plotlyjs=True)
        (place / "trace.html").write_text(page, encoding="utf-8")
        if has_patches(found):
            picture = pictured_fact(found, load(model).vision)
            for kind in found.kinds:
                page = portrait_panels(found, kind, picture).to_html(include_plotlyjs=True)
                (place / f"picture-{kind}.html").write_text(page, encoding="utf-8")
