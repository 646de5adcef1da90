"""`workbench edit | measure | export`: make an edit, look at it, write it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.console import (
    Deltas,
    Json,
    ModelName,
    Overwrite,
    RequestName,
    Seed,
    check_folder,
    check_output,
    columns,
    emit,
    progress_bar,
    settings_of,
)


def edit(
    model: ModelName,
    request: RequestName,
    out: Annotated[Path, typer.Option(help="The delta file to write (.safetensors).")],
    components: Annotated[
        str | None, typer.Option(help='What to edit, such as "mlp.1-3, head.4.0".')
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="What to edit at the subject's last token.")
    ] = None,
    answer: Annotated[
        str | None, typer.Option(help="What to edit where the answer is read out.")
    ] = None,
    auto: Annotated[
        bool,
        typer.Option(
            "--auto",
            help="Choose the components by causal tracing, and STAMP's settings by the request; "
            "those given with --set stay.",
        ),
    ] = False,
    method: Annotated[str, typer.Option(help="The edit method.")] = "stamp",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the method, key=value.")
    ] = None,
    delta: Deltas = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make an edit and write it as a delta file; the model itself stays as it is.

    Example: workbench edit demo --request athletes --auto --out athletes.safetensors
    """
    settings = settings_of(set_)
    target = check_output(out, overwrite)
    from workbench.plans import EditPlan, run_edit

    plan = EditPlan(
        model,
        request=request,
        components=components or "",
        subject=subject or "",
        answer=answer or "",
        auto=auto,
        method=method,
        settings=settings,
        deltas=tuple(str(d) for d in delta or ()),
        seed=seed,
    )
    with progress_bar(as_json) as progress:
        recorded = run_edit(plan, progress=progress)
    made = recorded.result
    made.delta.save(target)
    result = {"run": recorded.run, "delta": str(target), **made.summary()}
    before, after = made.target_log_probability
    text = (
        f"Edited {result['components']} in {made.seconds:.1f} s; the forgotten answers' mean "
        f"log-probability went from {before:.2f} to {after:.2f}. Wrote {target}."
    )
    emit(result, f"{text}\n{made.failed}" if made.failed else text, as_json)


def measure(
    model: ModelName,
    request: RequestName,
    delta: Deltas = None,
    limit: Annotated[int | None, typer.Option(help="Most kept facts to ask about.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure what a model answers, with or without an edit.

    Example: workbench measure demo --request athletes --delta athletes.safetensors
    """
    from workbench.plans import MeasurePlan, run_measure

    deltas = tuple(str(d) for d in delta or ())
    plan = MeasurePlan(model, request=request, deltas=deltas, limit=limit, seed=seed)
    with progress_bar(as_json) as progress:
        recorded = run_measure(plan, progress=progress)
    card = recorded.result
    rows = [("measure", "value", "95 % interval", "n")]
    rows += [
        (name, f"{s.value:.3f}", f"{s.low:.3f} to {s.high:.3f}", str(s.n))
        for name, s in card.scores.items()
        if s
    ]
    emit({"run": recorded.run, **card.to_json()}, f"{columns(rows)}\n{card.verdict}", as_json)


def export(
    model: ModelName,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    delta: Deltas = None,
    lora: Annotated[
        bool, typer.Option("--lora", help="Also write a LoRA adapter (low-rank edits).")
    ] = False,
    overwrite: Overwrite = False,
    certify: Annotated[
        bool,
        typer.Option("--certify", help="Write down what attacks bring back; needs --request."),
    ] = False,
    request: Annotated[str, typer.Option(help="What was to be forgotten, for --certify.")] = "",
    as_json: Json = False,
) -> None:
    """Write an edited model as a plain Hugging Face folder, verified in a clean process.

    Example: workbench export demo --delta athletes.safetensors --out edited
    """
    check_folder(out, overwrite)
    from workbench.plans import ExportPlan, run_export

    deltas = tuple(str(d) for d in delta or ())
    plan = ExportPlan(
        model,
        out=str(out),
        deltas=deltas,
        lora=lora,
        overwrite=overwrite,
        certify=certify,
        request=request,
    )
    with progress_bar(as_json) as progress:
        made = run_export(plan, progress=progress).result
    result = {
        "folder": str(made.folder),
        "formats": list(made.formats),
        "max_logit_difference": made.max_logit_difference,
        "files": dict(made.files),
    }
    text = (
        f"Wrote {', '.join(made.formats)} to {made.folder}; reloaded in a clean process, largest "
        f"logit difference {made.max_logit_difference:.1e}."
    )
    emit(result, text, as_json)
