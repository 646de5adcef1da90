"""`workbench edit | measure | export`: make an edit, look at it, write it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.models.delta import WeightDelta
    from workbench.models.model import Model
    from workbench.progress import Progress


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
        bool, typer.Option("--auto", help="Choose the components by causal tracing.")
    ] = False,
    method: Annotated[str, typer.Option(help="The edit method.")] = "stamp",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the method, key=value.")
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make an edit and write it as a delta file; the model itself stays as it is.

    Example: workbench edit demo --request athletes --auto --out athletes.safetensors
    """
    settings = settings_of(set_)
    target = check_output(out, overwrite)
    given = [x for x in (components, subject or answer, auto or None) if x]
    if len(given) != 1:
        raise WorkbenchError(
            "Say what to edit in one way: --components, --subject and --answer, or --auto."
        )
    from workbench.edit.registry import make_config, method_named
    from workbench.job_inputs import request_for
    from workbench.models.components import ComponentSet
    from workbench.models.load import load
    from workbench.store.store import RunStore

    configured = make_config(method, {"seed": seed, **settings})
    written = {"subject": subject, "answer": answer}
    chosen: Any = {s: ComponentSet.parse(text) for s, text in written.items() if text}
    if components:
        chosen = ComponentSet.parse(components)
    with progress_bar(as_json) as progress:
        loaded = load(model, progress=progress)
        wanted = request_for(loaded, request, seed=seed, progress=progress)
        config = {"model": model, "request": request, "method": method, "settings": settings}
        config |= {"components": components or written, "auto": auto}
        with RunStore.default().start("edit", config, name=wanted.name, seed=seed) as run:
            if auto:
                chosen = _traced_sites(loaded, request, seed, progress)
            made = method_named(method).run(loaded, wanted, chosen, configured, progress=progress)
            run.save_delta(made.delta)
            run.save_table("steps", made.steps)
            run.save_json("edit", made.summary())
    made.delta.save(target)
    result = {"run": run.id, "delta": str(target), **made.summary()}
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
    from workbench.facts.everyday import everyday_questions
    from workbench.job_inputs import neutral_texts, request_for
    from workbench.measure.scorecard import measure as run_measure
    from workbench.models.delta import WeightDelta
    from workbench.models.load import load
    from workbench.store.store import RunStore

    deltas = [WeightDelta.load(path) for path in delta or []]
    with progress_bar(as_json) as progress:
        base = load(model, progress=progress)
        edited = _edited(base, deltas)
        wanted = request_for(base, request, seed=seed, progress=progress)
        config = {"model": model, "request": request, "deltas": [str(d) for d in delta or []]}
        config |= {"limit": limit}
        with RunStore.default().start("measure", config, name=wanted.name, seed=seed) as run:
            card = run_measure(
                edited,
                wanted,
                base=base if deltas else None,
                neutral=neutral_texts(request),
                everyday=everyday_questions(base),
                limit=limit,
                seed=seed,
                progress=progress,
            )
            run.save_json("scorecard", card.to_json())
            run.save_table("scores", card.to_frame())
    rows = [("measure", "value", "95 % interval", "n")]
    rows += [
        (name, f"{s.value:.3f}", f"{s.low:.3f} to {s.high:.3f}", str(s.n))
        for name, s in card.scores.items()
        if s
    ]
    emit({"run": run.id, **card.to_json()}, f"{columns(rows)}\n{card.verdict}", as_json)


def export(
    model: ModelName,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    delta: Deltas = None,
    lora: Annotated[
        bool, typer.Option("--lora", help="Also write a LoRA adapter (low-rank edits).")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write an edited model as a plain Hugging Face folder, verified in a clean process.

    Example: workbench export demo --delta athletes.safetensors --out edited
    """
    check_folder(out, overwrite)
    from workbench.models.delta import WeightDelta
    from workbench.models.export import export as run_export
    from workbench.models.load import load

    deltas = [WeightDelta.load(path) for path in delta or []]
    formats = ["checkpoint", *(["delta"] if deltas else []), *(["lora"] if lora else [])]
    with progress_bar(as_json) as progress:
        base = load(model, progress=progress)
        made = run_export(
            _edited(base, deltas),
            out,
            base=base,
            formats=formats,
            overwrite=overwrite,
            progress=progress,
        )
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


def _traced_sites(model: Model, request: str, seed: int, progress: Progress) -> Any:
    from workbench.job_inputs import job_inputs, job_settings
    from workbench.job_trace import choose_sites, trace_before

    inputs = job_inputs(model, request, seed=seed, progress=progress)
    settings = job_settings(request, seed=seed)
    _, basis = trace_before(model, inputs, settings, progress)
    return choose_sites(model, inputs.request, basis, settings)


def _edited(base: Model, deltas: Sequence[WeightDelta]) -> Model:
    """Apply deltas one after the other; each must be made for this base or for what it became.

    Raises:
        WorkbenchError: a delta was made for another model.
    """
    model = base
    for delta in deltas:
        made_for = delta.origin.model_fingerprint
        if made_for and made_for not in (base.fingerprint, model.fingerprint):
            raise WorkbenchError(
                f"The delta was made for another model ({delta.origin.model}, fingerprint "
                f"{made_for[:12]}); apply it to that one."
            )
        model = model.with_delta(delta)
    return model
