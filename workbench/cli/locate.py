"""`workbench localize`: where a model recalls some facts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.console import (
    Json,
    ModelName,
    Overwrite,
    RequestName,
    Seed,
    check_folder,
    columns,
    emit,
    progress_bar,
)
from workbench.errors import WorkbenchError, unknown_name

if TYPE_CHECKING:
    from workbench.facts.fact import FactSet
    from workbench.localize.localization import Localization
    from workbench.models.model import Model
    from workbench.progress import Progress


def localize(
    model: ModelName,
    facts: Annotated[Path | None, typer.Option(help="A fact file to localize.")] = None,
    request: RequestName | None = None,
    method: Annotated[str, typer.Option(help="The localizer.")] = "causal_tracing",
    corruption: Annotated[
        str | None, typer.Option(help="How the subject is lost: noise or replace.")
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Corrupted samples per fact.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="What is measured, such as probability.")
    ] = None,
    window: Annotated[int | None, typer.Option(help="Layers restored together.")] = None,
    relation: Annotated[str | None, typer.Option(help="Only facts of this relation.")] = None,
    most: Annotated[
        int, typer.Option(min=1, help="Most facts to look at, drawn by the seed.")
    ] = 48,
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
    from workbench.job_inputs import draw
    from workbench.localize.registry import localize as run_localizer
    from workbench.models.load import load
    from workbench.store.store import RunStore

    settings: dict[str, Any] = {"metric": metric, "window": window}
    settings = {k: v for k, v in settings.items() if v is not None}
    if corruption or samples:
        settings["corruption"] = _corruption(corruption or "noise", samples, seed)
    elif seed:
        settings |= _seeded(method, seed)
    with progress_bar(as_json) as progress:
        loaded = load(model, progress=progress)
        chosen = _facts(loaded, facts, request, seed, progress)
        chosen = draw(_of_relation(chosen, relation), most, seed)
        config = {"model": model, "method": method, "request": request, "facts": str(facts or "")}
        config |= {"settings": {k: str(v) for k, v in settings.items()}, "most": most}
        with RunStore.default().start("localize", config, seed=seed) as run:
            found = run_localizer(method, loaded, chosen, progress=progress, **settings)
            found.save(run.path)
    if out:
        _save_localization(found, out, overwrite)
    ranked = [{"component": str(c), "score": s} for c, s in found.ranking()[:12]]
    result = {
        "run": run.id,
        "method": found.method,
        "facts": found.n_facts,
        "left_out": list(found.left_out),
        "clean": found.clean,
        "corrupted": found.corrupted,
        "ranking": ranked,
        "table": found.table.to_dict("records"),
        "config": dict(found.config),
    }
    lines = [f"{found.n_facts} facts; {len(found.left_out)} the model does not know left out."]
    lines.append(columns([(r["component"], f"{r['score']:.3f}") for r in ranked]))
    lines.append(f"Recorded as run {run.id}.")
    emit(result, "\n".join(lines), as_json)


def _corruption(name: str, samples: int | None, seed: int) -> Any:
    from workbench.localize.corruption import Noise, Replacement

    kinds = {"noise": Noise, "replace": Replacement}
    if name not in kinds:
        raise unknown_name("corruption", name, kinds)
    return kinds[name](seed=seed, **({"samples": samples} if samples else {}))


def _seeded(method: str, seed: int) -> dict[str, Any]:
    """Return the option that carries the seed to a localizer, in its own default corruption."""
    import inspect
    from dataclasses import replace

    from workbench.localize.registry import LOCALIZERS

    options = inspect.signature(LOCALIZERS[method]).parameters if method in LOCALIZERS else {}
    if "corruption" in options:
        return {"corruption": replace(options["corruption"].default, seed=seed)}
    return {"seed": seed} if "seed" in options else {}


def _facts(
    model: Model, path: Path | None, request: str | None, seed: int, progress: Progress
) -> FactSet:
    from workbench.facts.readers import read_facts
    from workbench.job_inputs import job_inputs

    if (path is None) == (request is None):
        raise WorkbenchError("Say which facts to localize: either --facts FILE or --request NAME.")
    if path is not None:
        return read_facts(path)
    every = job_inputs(model, str(request), most=sys.maxsize, seed=seed, progress=progress)
    return every.traced


def _of_relation(facts: FactSet, relation: str | None) -> FactSet:
    if relation is not None and relation not in facts.relations:
        raise unknown_name("relation", relation, facts.relations)
    return facts if relation is None else facts.where(lambda fact: fact.relation == relation)


def _save_localization(found: Localization, out: Path, overwrite: bool) -> None:
    from workbench.figures.static import trace_svg
    from workbench.figures.traces import trace_panels
    from workbench.models.atomic import whole_folder

    def ours(folder: Path) -> bool:
        return (folder / "localization.json").is_file()

    with whole_folder(out.expanduser(), overwrite=overwrite, ours=ours) as place:
        found.save(place)
        (place / "trace.svg").write_text(trace_svg(found), encoding="utf-8")
        page = trace_panels(found).to_html(include_plotlyjs=True)
        (place / "trace.html").write_text(page, encoding="utf-8")
