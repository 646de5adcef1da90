"""Write a model so that it can be trusted elsewhere: checkpoint, delta file, LoRA adapter, card.

    FOLDER/model.safetensors, config.json, tokenizer, ...  the edited model, for plain transformers
    FOLDER/delta/delta.safetensors                         the edit itself
    FOLDER/lora/                                           the edit as a PEFT adapter, if low-rank
    FOLDER/README.md, FOLDER/edit.json                     the edit card, for people and programs

Everything is written into a sibling temporary folder, reloaded there by a clean process and
compared with the model in memory, and only then renamed into place: a kill at any moment leaves
what was there before, or all of the new.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from workbench.errors import WorkbenchError, unknown_name
from workbench.models.atomic import unwritable, whole_folder, write_json
from workbench.models.delta import WeightDelta, total
from workbench.models.edit_card import edit_card, edit_record
from workbench.models.load import quiet_transformers
from workbench.models.lora import lora_obstacle, write_lora
from workbench.models.model import Model, share_parameters
from workbench.models.verify import PROMPTS, TOLERANCE, Reload, verify
from workbench.progress import SILENT, Progress

Format = Literal["checkpoint", "delta", "lora"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        folder: where.
        formats: what of checkpoint, delta and lora.
        max_logit_difference: largest difference of any logit between the model in memory and the
            reloaded formats; None if nothing was verified.
        differences: the same by what was reloaded, "checkpoint" and "LoRA adapter".
        files: SHA-256 by relative name, edit.json itself left out.
        left_out: formats that were not asked for by name and could not be written, with the reason.
    """

    folder: Path
    formats: tuple[str, ...]
    max_logit_difference: float | None
    differences: Mapping[str, float]
    files: Mapping[str, str]
    left_out: Mapping[str, str] = field(default_factory=dict)


def export(
    model: Model,
    folder: str | Path,
    *,
    base: Model | None = None,
    delta: WeightDelta | None = None,
    scorecard: Mapping[str, Any] | None = None,
    certificate: Mapping[str, Any] | None = None,
    formats: Sequence[str] | None = None,
    prompts: Sequence[str] = (),
    overwrite: bool = False,
    max_shard: str | int = "4GB",
    verified: bool = True,
    progress: Progress = SILENT,
) -> ExportResult:
    """Export a model, verified.

    Args:
        model: the (edited) model.
        folder: where to; must not exist, unless `overwrite`.
        base: the model it was made from; a LoRA adapter is verified on top of it.
        delta: the edit; the sum of the model's own edits if not given.
        scorecard: measures for the edit card, in JSON types.
        certificate: what attacks brought back, for the edit card.
        formats: of "checkpoint", "delta", "lora"; None writes every one that is possible.
        prompts: texts to compare logits on, besides the fixed ones.
        overwrite: replace an earlier export.
        max_shard: largest size of one weight file.
        verified: reload in a clean process and compare.
        progress: where to report.

    Raises:
        WorkbenchError: the folder exists or cannot be written, a format is impossible, or what was
            written is not the model; nothing is left behind then.
        Cancelled: the user stopped it; nothing is left behind.
    """
    from safetensors import SafetensorError

    delta = delta if delta is not None else (total(list(model.deltas)) if model.deltas else None)
    if delta is not None and base is not None:
        _check_edit(model, base, delta)
    chosen, left_out = _choose(formats, model, base, delta)
    target = Path(folder).expanduser()
    texts = (*PROMPTS, *prompts)
    differences: dict[str, float] = {}
    with whole_folder(target, overwrite=overwrite, ours=_is_export) as place:
        try:
            progress.step(0, 3, "writing the export")
            _write(model, base, delta, chosen, place, max_shard)
            progress.step(1, 3, "verifying the export")
            if verified:
                optional = formats is None
                differences = _verify(model, base, chosen, place, texts, optional, progress)
                chosen = _drop_inexact(model, place, chosen, differences, left_out)
            progress.step(2, 3, "writing the edit card")
            card = edit_card(model, delta, scorecard, chosen, certificate)
            (place / "README.md").write_text(card, encoding="utf-8")
            files = _hashes(place)
            record = edit_record(
                model,
                base,
                delta,
                scorecard,
                certificate=certificate,
                files=files,
                differences=differences,
            )
            write_json(place / "edit.json", record)
        except SafetensorError as error:
            raise unwritable(target, error) from error
    progress.step(3, 3, "exported")
    largest = max(differences.values(), default=None)
    return ExportResult(target, chosen, largest, differences, files, left_out)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_export(folder: Path) -> bool:
    return (folder / "edit.json").is_file()


def _hashes(folder: Path) -> dict[str, str]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): file_sha256(p) for p in paths}


def _choose(
    formats: Sequence[str] | None, model: Model, base: Model | None, delta: WeightDelta | None
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the formats to write, and why the others of the default were left out."""
    for name in formats or ():
        if name not in FORMATS:
            raise unknown_name("export format", name, FORMATS)
    if formats is not None and not formats:
        raise WorkbenchError(f"No export format is chosen; choose of {', '.join(FORMATS)}.")
    obstacles: dict[str, str] = {}
    if delta is None:
        reason = "The model was not edited, so there is no edit to export; export a checkpoint."
        obstacles = {"delta": reason, "lora": reason}
    elif obstacle := lora_obstacle(model, delta):
        obstacles["lora"] = obstacle
    elif base is None:
        obstacles["lora"] = (
            "A LoRA adapter is verified on top of its base model; give the base model too."
        )
    wanted = tuple(f for f in FORMATS if formats is None or f in formats)
    refused = {f: obstacles[f] for f in wanted if f in obstacles}
    if formats is not None and refused:
        raise WorkbenchError(next(iter(refused.values())))
    return tuple(f for f in wanted if f not in refused), refused


def _check_edit(model: Model, base: Model, delta: WeightDelta) -> None:
    """Refuse a model that is not its base plus the edit; rounding may differ."""
    again = base.with_delta(delta)
    for name, there in model.parameters.items():
        here = again.parameters.get(name)
        if here is None or here.shape != there.shape:
            raise WorkbenchError(
                f"The model and its base differ in {name}; give the base it was made from."
            )
        if here is there:
            continue
        scale = max(float(there.abs().max()), 1e-12)
        if float((here - there).abs().max()) > 8 * torch.finfo(there.dtype).eps * scale:
            raise WorkbenchError(
                f"The model is not its base plus the edit: {name} differs; give the base it was "
                "made from and the edit that made it."
            )


def _write(
    model: Model,
    base: Model | None,
    delta: WeightDelta | None,
    formats: Sequence[str],
    place: Path,
    max_shard: str | int,
) -> None:
    if "checkpoint" in formats:
        write_checkpoint(model, place, max_shard)
    if delta is not None and "delta" in formats:
        (place / "delta").mkdir()
        delta.save(place / "delta" / "delta.safetensors")
    if delta is not None and base is not None and "lora" in formats:
        (place / "lora").mkdir()
        named = base.name if "/" in base.name else None
        write_lora(base, delta, place / "lora", base=named)


def write_checkpoint(model: Model, folder: Path, max_shard: str | int = "4GB") -> None:
    """Save weights, configurations, tokenizer and processor as plain transformers files.

    `save_pretrained` writes into the module's configuration, so it gets a parameter-sharing copy.

    Raises:
        WorkbenchError: the model's generation settings contradict themselves.
    """
    try:
        with quiet_transformers():
            share_parameters(model.hf).save_pretrained(folder, max_shard_size=max_shard)
            if model.vision is not None:
                model.vision.processor.save_pretrained(folder)
            model.tokenizer.save_pretrained(folder)
    except ValueError as error:
        raise WorkbenchError(
            f"transformers refuses to save this model ({str(error).splitlines()[0]}); mend its "
            "generation_config.json or the shard size."
        ) from error


def _verify(
    model: Model,
    base: Model | None,
    formats: Sequence[str],
    place: Path,
    prompts: Sequence[str],
    optional: bool,
    progress: Progress,
) -> dict[str, float]:
    """Check the delta file here, and the rest in one clean process."""
    if "delta" in formats and base is not None:
        _check_edit(model, base, WeightDelta.load(place / "delta" / "delta.safetensors"))
    reloads = [Reload("checkpoint", place)] if "checkpoint" in formats else []
    with tempfile.TemporaryDirectory(prefix=".base-", dir=place) as folder:
        if "lora" in formats and base is not None:
            write_checkpoint(base, Path(folder))
            reloads.append(Reload("LoRA adapter", Path(folder), place / "lora", optional))
        if not reloads:
            return {}
        return verify(model, reloads, place, prompts=prompts, progress=progress)


def _drop_inexact(
    model: Model,
    place: Path,
    formats: tuple[str, ...],
    differences: dict[str, float],
    left_out: dict[str, str],
) -> tuple[str, ...]:
    """Take away an adapter, not asked for by name, that rounding moved beyond the tolerance."""
    difference, limit = differences.get("LoRA adapter", 0.0), TOLERANCE[model.hf.dtype]
    if difference <= limit:
        return formats
    del differences["LoRA adapter"]
    shutil.rmtree(place / "lora")
    left_out["lora"] = (
        f"The logits with the LoRA adapter differ by {difference:.2g}, more than {limit:.0e}, so "
        "it was left out; use the checkpoint."
    )
    return tuple(f for f in formats if f != "lora")
