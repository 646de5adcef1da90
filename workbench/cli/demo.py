"""`workbench demo`: the main job from beginning to end."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.console import Json, Overwrite, Seed, check_folder, emit, progress_bar

if TYPE_CHECKING:
    from workbench.job import JobResult

_SHOWN = (
    ("acc_f", "facts to forget, answered"),
    ("paraphrase_f", "  in other words"),
    ("mcq_f", "  in multiple choice"),
    ("refusal_f", "facts to forget, refused"),
    ("replaced_f", "facts to forget, replaced"),
    ("acc_r", "facts to keep, answered"),
    ("everyday", "everyday questions right"),
    ("perplexity", "perplexity of neutral text"),
)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report and checkpoint.")] = Path(
        "workbench-demo"
    ),
    model: Annotated[str, typer.Option(help="demo, smollm2, a folder or a hub id.")] = "demo",
    request: Annotated[
        str | None,
        typer.Option(
            help="Named request (athletes, personal, misinformation, hazard, ...; capitals for a "
            "pretrained chat model) or a request file."
        ),
    ] = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Localize, edit, measure and export: the main job on a bundled request.

    Writes report.html, summary.json and checkpoint/ into the folder.

    Example: workbench demo --out forget-athletes
    """
    check_folder(out, overwrite)
    from workbench.job import run_job
    from workbench.job_inputs import default_request, job_inputs, job_settings
    from workbench.models.load import load
    from workbench.store.store import RunStore

    name = request or default_request(model)
    command = ["workbench", "demo", "--out", str(out), "--model", model, "--request", name]
    with progress_bar(as_json) as progress:
        loaded = load(model, progress=progress)
        inputs = job_inputs(loaded, name, seed=seed, progress=progress)
        settings = job_settings(name, inputs.request, seed=seed)
        result = run_job(
            loaded,
            inputs,
            out=out,
            settings=settings,
            overwrite=overwrite,
            store=RunStore.default(),
            command=shlex.join([*command, "--seed", str(seed)]),
            progress=progress,
        )
    emit(result.summary, _words(result), as_json)


def _words(result: JobResult) -> str:
    summary = result.summary
    sites = "; ".join(f"{site} site: {chosen}" for site, chosen in summary["sites"].items())
    lines = [
        f"{summary['model']}: {summary['forget']['facts']} facts about "
        f"{len(summary['forget']['subjects'])} subjects, edited at {sites}",
        f"{'':<30}before  after",
    ]
    other = {"refusal_f", "replaced_f"} - {result.after.outcome}
    for name, words in _SHOWN:
        if name in other:
            continue
        old, new = summary["before"][name], summary["after"][name]
        if old is not None and new is not None:
            lines.append(f"{words:<30}{old:6.3f} {new:6.3f}")
    if summary["edit"]["failed"]:
        lines.append(summary["edit"]["failed"])
    difference = summary["export"]["max_logit_difference"]
    lines.append(
        f"The exported checkpoint was reloaded in a clean process; largest logit difference "
        f"{difference:.1e}."
    )
    lines.append(f"{summary['seconds']:.0f} s. Open {result.folder / 'report.html'}")
    return "\n".join(lines)
