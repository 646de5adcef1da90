"""`workbench models | facts | runs`: what there is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.console import Json, columns, emit, progress_bar

_OPTIONS: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None}

models_app = typer.Typer(
    help="The models at hand.\n\nExample: workbench models get smollm2", **_OPTIONS
)
facts_app = typer.Typer(
    help="Requests and fact files.\n\nExample: workbench facts show athletes", **_OPTIONS
)
runs_app = typer.Typer(help="What was run before.\n\nExample: workbench runs list", **_OPTIONS)


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """List the models that have a name of their own, and whether they are here.

    Example: workbench models list
    """
    from workbench.models.bundled import BUNDLES
    from workbench.models.paths import cache_dir

    places = {name: place for bundle in BUNDLES for name, place in bundle.weights.items()}
    places["smollm2"] = cache_dir() / "smollm2"
    found = [{"name": n, "folder": str(p), "here": p.is_dir()} for n, p in places.items()]
    rows = [
        (f["name"], f["folder"] if f["here"] else f"not here; workbench models get {f['name']}")
        for f in found
    ]
    emit(found, columns(rows), as_json)


@models_app.command("get")
def models_get(name: str, as_json: Json = False) -> None:
    """Fetch a model once and keep it in the cache.

    Example: workbench models get smollm2
    """
    from workbench.errors import unknown_name

    if name != "smollm2":
        raise unknown_name("model to fetch", name, ["smollm2"])
    from workbench.models.smollm2 import get_smollm2

    with progress_bar(as_json) as progress:
        folder = get_smollm2(progress)
    emit({"name": name, "folder": str(folder)}, f"{name} is in {folder}", as_json)


@models_app.command("show")
def models_show(name: str, as_json: Json = False) -> None:
    """Load a model and show its shape and its parts.

    Example: workbench models show demo
    """
    from workbench.models.load import load

    with progress_bar(as_json) as progress:
        model = load(name, progress=progress)
    structure = model.structure
    found = {
        "name": model.name,
        "architecture": type(model.hf).__name__,
        "parameters": model.n_parameters,
        "layers": model.n_layers,
        "d_model": model.d_model,
        "heads": structure.n_heads,
        "neurons_per_layer": structure.d_mlp,
        "context": model.n_ctx,
        "fingerprint": model.fingerprint,
    }
    emit(found, columns([(k.replace("_", " "), v) for k, v in found.items()]), as_json)


@facts_app.command("list")
def facts_list(as_json: Json = False) -> None:
    """List the bundled requests.

    Example: workbench facts list
    """
    from workbench.facts.request_files import load_request, request_names

    requests = [load_request(name) for name in request_names()]
    found = [
        {
            "name": r.name,
            "forget": len(r.forget),
            "subjects": len(r.forget.subjects),
            "retain": len(r.retain),
            "behaviour": type(r.behaviour).__name__.lower(),
        }
        for r in requests
    ]
    rows = [("request", "forget", "subjects", "keep", "instead"), *(f.values() for f in found)]
    emit(found, columns([list(r) for r in rows]), as_json)


@facts_app.command("show")
def facts_show(request: str, as_json: Json = False) -> None:
    """Show what a request forgets: a bundled one, or a request file.

    Example: workbench facts show personal
    """
    from workbench.facts.request_files import load_request

    found = load_request(request)
    text = columns(
        [(f.subject, f.relation, f.prompt.replace("\n", " "), f.target) for f in found.forget]
    )
    emit(
        {
            "name": found.name,
            "forget": [f.to_json() for f in found.forget],
            "retain": len(found.retain),
            "evaluate": len(found.evaluate),
            "behaviour": asdict(found.behaviour) or {"replace": True},
            "fingerprint": found.fingerprint,
        },
        text,
        as_json,
    )


@facts_app.command("check")
def facts_check(
    file: Path,
    model: Annotated[
        str | None, typer.Option(help="Also count the facts that this model knows.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read a fact file and say what is in it, or which line is wrong.

    Example: workbench facts check my-facts.jsonl --model demo
    """
    from workbench.facts.readers import read_facts
    from workbench.models.pictured import pictures_of

    facts = read_facts(file)
    pictures = {picture for fact in facts for picture in pictures_of(fact.prompt)}
    for picture in pictures:
        picture.rgb()  # a header alone does not tell a truncated file
    found: dict[str, Any] = {
        "facts": len(facts),
        "subjects": len(facts.subjects),
        "relations": list(facts.relations),
    }
    text = f"{len(facts)} facts about {len(facts.subjects)} subjects; nothing is wrong."
    if model:
        from workbench.facts.known import split_known
        from workbench.models.load import load

        with progress_bar(as_json) as progress:
            split = split_known(load(model, progress=progress), facts, progress=progress)
        found |= {"known": len(split.known), "unknown": [f.prompt for f in split.unknown]}
        text += f" {model} knows {len(split.known)} of them."
    emit(found, text, as_json)


@runs_app.command("list")
def runs_list(as_json: Json = False) -> None:
    """List every run, oldest first.

    Example: workbench runs list
    """
    from workbench.store.store import RunStore

    records = RunStore.default().list()
    found = [
        {"id": r.id, "status": r.status, "kind": r.kind, "name": r.name, "error": r.error}
        for r in records
    ]
    rows = [(r.id, r.status, r.kind, r.name, r.error or "") for r in records]
    emit(found, columns(rows) if rows else "There are no runs yet.", as_json)


@runs_app.command("show")
def runs_show(run_id: str, as_json: Json = False) -> None:
    """Show one run: its settings and what it wrote.

    Example: workbench runs show 20250101-120000-000000-localize-a1b2c3
    """
    from workbench.store.store import RunStore

    record = RunStore.default().get(run_id)
    found = {
        **{k: str(v) if isinstance(v, Path) else v for k, v in vars(record).items()},
        "artefacts": list(record.artefacts),
    }
    emit(found, columns([(k, v) for k, v in found.items()]), as_json)


@runs_app.command("delete")
def runs_delete(
    run_id: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a run and all that it wrote.

    Example: workbench runs delete 20250101-120000-000000-localize-a1b2c3 --yes
    """
    from workbench.store.store import RunStore

    store = RunStore.default()
    record = store.get(run_id)
    if not yes and not as_json:
        typer.confirm(f"Delete {record.id} and everything in it?", abort=True)
    store.delete(record.id)
    emit({"deleted": record.id}, f"Deleted {record.id}.", as_json)
