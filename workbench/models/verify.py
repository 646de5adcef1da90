"""Have a clean process with plain transformers reload an export and compare it with the model.

Compared are the logits at every position of a few prompts, every parameter byte by byte, tied
embeddings, the tokenizer's output and the chat template; of a model that reads images also what
its processor makes of a prompt with a picture, and the logits behind it. Cost: one interpreter
start (some five seconds), one load, and a forward pass a prompt.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.model import Model
from workbench.models.pictured import MARKER, pictures_of, shown
from workbench.models.pictures import read_picture
from workbench.models.text import encode
from workbench.models.vision import pixels_for
from workbench.progress import SILENT, Progress

PROMPTS = (
    "The capital of France is",
    "Question: Which sport does Ada Brook play?\nAnswer:",
    "In the morning she went to the market and bought 12 apples, bread and",
    "I do not know.",
)
TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}
_SCRIPT = Path(__file__).with_name("verify_checkpoint.py")


@dataclass(frozen=True)
class Reload:
    """One thing to reload.

    Attributes:
        name: what it is, for messages.
        folder: a checkpoint.
        adapter: a PEFT adapter to put on top of it; then only logits are compared.
        optional: a difference that is too large is returned, not an error.
    """

    name: str
    folder: Path
    adapter: Path | None = None
    optional: bool = False


def verify(
    model: Model,
    reloads: Sequence[Reload],
    scratch: Path,
    *,
    prompts: Sequence[str] = PROMPTS,
    progress: Progress = SILENT,
) -> dict[str, float]:
    """Reload exports in one clean process and compare each with the model in memory.

    Args:
        model: what they should be.
        reloads: what to reload.
        scratch: an existing folder for the request; it is left as it was.
        prompts: texts to compare logits on.
        progress: where to report.

    Returns:
        The largest absolute difference of any logit, by name; more than the tolerance only for
        what is optional.

    Raises:
        WorkbenchError: one cannot be reloaded, or is not the same model.
        Cancelled: the user stopped it.
    """
    with tempfile.TemporaryDirectory(prefix=".verify-", dir=scratch) as folder:
        request = Path(folder) / "request.json"
        content = _request(model, reloads, list(prompts), Path(folder))
        request.write_text(json.dumps(content), encoding="utf-8")
        answers = _ask(request, Path(folder), progress)
    limit = TOLERANCE[model.hf.dtype]
    out = {}
    for reload, answer in zip(reloads, answers, strict=True):
        out[reload.name] = _difference(reload, answer, limit)
    return out


def _difference(reload: Reload, answer: dict[str, Any], limit: float) -> float:
    """Return the largest logit difference; refuse one that matters."""
    difference = float(answer["difference"])
    problems = list(answer["problems"])
    if not difference <= limit:
        if reload.optional:
            return difference
        problems.insert(0, f"logits differ by {difference:.2g}, more than {limit:.0e}")
    if problems:
        raise WorkbenchError(
            f"The exported {reload.name} is not the edited model ({'; '.join(problems)}), so "
            "nothing was written; please report this."
        )
    return difference


@torch.no_grad()
def _request(
    model: Model, reloads: Sequence[Reload], prompts: list[str], scratch: Path
) -> dict[str, Any]:
    from safetensors.torch import save_file

    plain = [text for text in prompts if not pictures_of(text)]
    texts = [(text, list(model.tokenizer(text)["input_ids"])) for text in plain]
    runs: list[tuple[list[int], dict[str, Tensor]]]
    runs = [(ids[: model.n_ctx], {}) for _, ids in texts if ids]
    seen = [*(t for t in prompts if pictures_of(t)), *_with_a_picture(model, scratch)]
    pictured = []
    for number, text in enumerate(seen):
        ids = encode(model, text)
        files = [scratch / f"picture-{number}-{i}.png" for i in range(len(pictures_of(text)))]
        for file, picture in zip(files, pictures_of(text), strict=True):
            picture.rgb().save(file)
        pictured.append({"text": str(text), "files": [str(f) for f in files], "run": len(runs)})
        runs.append((ids, pixels_for(model.vision, [ids], model.device)))
    reference: dict[str, Tensor] = {}
    for i, (ids, pixels) in enumerate(runs):
        tensor = torch.tensor([ids])
        reference[f"ids.{i}"] = tensor
        reference |= {f"{name}.{i}": value.cpu() for name, value in pixels.items()}
        logits = model.hf(input_ids=tensor.to(model.device), **pixels).logits
        reference[f"logits.{i}"] = logits.cpu().contiguous()
    save_file(reference, scratch / "reference.safetensors")
    jobs = [
        {"folder": str(r.folder), "adapter": str(r.adapter) if r.adapter else None} for r in reloads
    ]
    return {
        "jobs": jobs,
        "reference": str(scratch / "reference.safetensors"),
        "dtype": str(model.hf.dtype).removeprefix("torch."),
        "device": str(model.device),
        "fingerprint": model.fingerprint,
        "tied": is_tied(model),
        "texts": texts,
        "pictured": pictured,
        "chat_template": model.tokenizer.chat_template,
    }


def _with_a_picture(model: Model, scratch: Path) -> list[str]:
    """Return a prompt with a picture of smooth colors, for a model that reads images."""
    if model.vision is None:
        return []
    from PIL import Image

    file = scratch / "picture.png"
    slopes = (Image.linear_gradient("L").rotate(turn) for turn in (0, 90, 180))
    Image.merge("RGB", list(slopes)).save(file)
    return [shown(f"{MARKER}\n{PROMPTS[0]}", read_picture(file))]


def is_tied(model: Model) -> bool:
    """Whether input and output embeddings are one tensor."""
    head = model.hf.get_output_embeddings()
    return head is not None and head.weight is model.hf.get_input_embeddings().weight


def _ask(request: Path, scratch: Path, progress: Progress) -> list[dict[str, Any]]:
    """Run the script in a clean process; asked to stop, kill it."""
    out, err = scratch / "out", scratch / "err"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with (
        out.open("w") as stdout,
        err.open("w") as stderr,
        # -P keeps this folder, whose file names could hide others, off the import path.
        subprocess.Popen(
            [sys.executable, "-P", str(_SCRIPT), str(request)],
            stdout=stdout,
            stderr=stderr,
            env=environment,
            cwd=scratch,
        ) as process,
    ):
        try:
            while process.poll() is None:
                progress.step(0, 1, "verifying the export")
                time.sleep(0.05)
        finally:
            process.kill()
    lines = out.read_text(encoding="utf-8").strip().splitlines()
    if process.returncode != 0 or not lines:
        reason = (["", *err.read_text(errors="replace").strip().splitlines()])[-1]
        raise WorkbenchError(
            f"The export could not be reloaded by plain transformers ({reason.strip()}), so "
            "nothing was written; please report this."
        )
    return list(json.loads(lines[-1]))
