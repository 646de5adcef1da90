"""The main job: from a request to a localized edit to a verified checkpoint, and a report of it.

    trace        where are the facts to forget recalled?          localize/causal_tracing
    choose       the components of the subject site and of the answer site
    stamp        send these places to what the model does where it knows nothing
    measure      before and after, forget set and kept facts
    trace again  the same facts in the edited model, on the base's scale
    export       checkpoint and delta, reloaded by a clean process

Everything goes into one folder that appears whole or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.edit.edit import Edit
from workbench.edit.stamp import stamp
from workbench.facts.fact import FactSet
from workbench.job_inputs import JobInputs, JobSettings
from workbench.job_trace import choose_sites, trace_after, trace_before
from workbench.localize.localization import Localization
from workbench.localize.sites import SiteName
from workbench.measure.scorecard import Scorecard, measure
from workbench.models.atomic import whole_folder, write_json
from workbench.models.components import ComponentSet
from workbench.models.export import ExportResult, export
from workbench.models.model import Model
from workbench.models.versions import versions
from workbench.progress import SILENT, Progress
from workbench.report import render_report
from workbench.store.store import RunStore

SUMMARY, REPORT, CHECKPOINT = "summary.json", "report.html", "checkpoint"
_SUMMARY_MEASURES = ("acc_f", "acc_r", "paraphrase_f", "refusal_f", "mcq_f", "perplexity")


@dataclass(frozen=True, eq=False)
class JobResult:
    """What a job did.

    Attributes:
        folder: where everything was written.
        trace: the facts to forget in the base model.
        trace_after: the same facts in the edited model; 1 is the base's whole effect.
        sites: the chosen components, by site.
        edit: the edit.
        before: the base's scorecard.
        after: the edited model's.
        export: what was exported.
        summary: what summary.json holds.
    """

    folder: Path
    trace: Localization
    trace_after: Localization
    sites: Mapping[SiteName, ComponentSet]
    edit: Edit
    before: Scorecard
    after: Scorecard
    export: ExportResult
    summary: Mapping[str, Any]


def run_job(
    model: Model,
    inputs: JobInputs,
    *,
    out: str | Path,
    settings: JobSettings = JobSettings(),  # noqa: B008 - a frozen value
    overwrite: bool = False,
    store: RunStore | None = None,
    command: str = "",
    progress: Progress = SILENT,
) -> JobResult:
    """Run the main job and write its folder.

    Args:
        model: the model to edit; it stays as it is.
        inputs: request, facts to trace, neutral texts.
        out: folder for report.html, summary.json and checkpoint/.
        settings: settings.
        overwrite: replace an earlier job's folder.
        store: where to record the run, if anywhere.
        command: what to type to run it again, for the report.
        progress: where to report.

    Raises:
        WorkbenchError: the folder exists, or a step cannot be done; nothing is written then.
        Cancelled: the user stopped it; nothing is written.
    """
    start = time.perf_counter()
    target = Path(out).expanduser()
    with whole_folder(target, overwrite=overwrite, ours=is_job) as place:
        record = settings_json(settings, model, inputs)
        if store is None:
            return _work(model, inputs, settings, place, target, command, start, progress)
        name = inputs.request.name
        with store.start("job", record, name=name, seed=settings.seed) as run:
            result = _work(model, inputs, settings, place, target, command, start, progress)
            run.save_json("summary", dict(result.summary))
            run.save_table("trace", result.trace.table)
            run.save_table("trace_after", result.trace_after.table)
            run.save_json("before", result.before.to_json())
            run.save_json("after", result.after.to_json())
            run.save_delta(result.edit.delta)
        return result


def _work(
    model: Model,
    inputs: JobInputs,
    settings: JobSettings,
    place: Path,
    target: Path,
    command: str,
    start: float,
    progress: Progress,
) -> JobResult:
    """Do every step in an unfinished folder; see `run_job`."""
    request = inputs.request
    cards = {"neutral": inputs.neutral, "everyday": inputs.everyday, "limit": settings.limit}
    trace, basis = trace_before(model, inputs, settings, progress)
    sites = choose_sites(model, request, basis, settings)
    edit = stamp(
        model, request, sites, settings.stamp, per_site=settings.per_site, progress=progress
    )
    before = measure(model, request, seed=settings.seed, progress=progress, **cards)
    after = measure(
        edit.model,
        request,
        base=model,
        base_card=before,
        seed=settings.seed,
        progress=progress,
        **cards,
    )
    again = trace_after(edit.model, model, inputs.traced, trace, settings, progress)
    exported = export(
        edit.model,
        place / CHECKPOINT,
        base=model,
        delta=edit.delta,
        scorecard=after.summary(),
        formats=("checkpoint", "delta"),
        progress=progress,
    )
    summary = {
        **_summary(model, inputs, sites, edit, before, after, exported),
        "settings": settings_json(settings, model, inputs),
        "versions": versions(),
        "command": command,
        "seconds": time.perf_counter() - start,
    }
    result = JobResult(target, trace, again, sites, edit, before, after, exported, summary)
    page = render_report(trace, again, sites, model.structure, before, after, summary)
    (place / REPORT).write_text(page, encoding="utf-8")
    write_json(place / SUMMARY, summary)
    return result


def _summary(
    model: Model,
    inputs: JobInputs,
    sites: Mapping[SiteName, ComponentSet],
    edit: Edit,
    before: Scorecard,
    after: Scorecard,
    exported: ExportResult,
) -> dict[str, Any]:
    """Return the numbers of summary.json."""
    request = inputs.request
    return {
        "model": model.name,
        "request": request.name,
        "forget": _described(request.forget),
        "retain": {**_described(request.retain), "measured": _described(request.evaluate)},
        "components": str(ComponentSet(tuple(c for s in sites.values() for c in s))),
        "sites": {site: str(chosen) for site, chosen in sites.items()},
        "before": _headline(before),
        "after": _headline(after),
        "edit": edit.summary(),
        "export": {"max_logit_difference": exported.max_logit_difference},
        "verdict": edit.failed or after.verdict,
    }


def is_job(folder: Path) -> bool:
    """Whether a folder was written by this job, and so may be replaced by it."""
    return (folder / SUMMARY).is_file() and (folder / REPORT).is_file()


def settings_json(settings: JobSettings, model: Model, inputs: JobInputs) -> dict[str, Any]:
    """Return everything needed to run a job again, in JSON types."""
    return {
        **asdict(settings),
        "model": model.name,
        "model_fingerprint": model.fingerprint,
        "request": inputs.request.name,
        "request_fingerprint": inputs.request.fingerprint,
        "traced": inputs.traced.fingerprint,
    }


def _described(facts: FactSet) -> dict[str, Any]:
    return {
        "facts": len(facts),
        "subjects": list(facts.subjects),
        "relations": list(facts.relations),
    }


def _headline(card: Scorecard) -> dict[str, float | None]:
    """Return the measures that every summary has, then the others."""
    return {**{m: card.value(m) for m in _SUMMARY_MEASURES}, **card.summary()}
