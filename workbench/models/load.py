"""Load a model: the bundled ones, SmolLM2, a local folder, or a hub id.

Only safetensors weights are read and no code of the checkpoint is ever run. transformers fills
tensors that a checkpoint lacks with random numbers and goes on; here that is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from workbench.errors import WorkbenchError, unknown_name
from workbench.models.atomic import recover
from workbench.models.bundled import BUNDLES, bundle_of
from workbench.models.checks import check_config, check_folder, read_config
from workbench.models.model import Model
from workbench.models.paths import cache_dir
from workbench.models.vision import MODEL_TYPE, Vision
from workbench.progress import SILENT, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
NAMED = (*(name for bundle in BUNDLES for name in bundle.weights), "smollm2")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def load(
    name: str | Path,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
    progress: Progress = SILENT,
) -> Model:
    """Load a model and its tokenizer, and the processor of one that reads images.

    Args:
        name: a bundled model ("demo", "demo-vision", each with "-oracle" for its oracle),
            "smollm2", a local folder, or a hub id (the only one of these that uses the network).
        dtype: float32, float64, float16 or bfloat16.
        device: "cpu", "cuda", "cuda:1", "mps".
        revision: branch, tag or commit of a hub id.
        progress: where to report.

    Raises:
        WorkbenchError: the model cannot be loaded whole and safely, with the reason.
    """
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    where = check_device(device)
    progress.step(0, 3, f"loading {name}")
    folder = locate(str(name), revision=revision)
    check_folder(folder)
    progress.step(1, 3, f"loading {name}")
    tokenizer = load_tokenizer(folder)
    hf = _load_weights(folder, DTYPES[dtype])
    progress.step(2, 3, f"loading {name}")
    _check_values(hf, tokenizer, folder)
    module: nn.Module = hf
    module.to(where)
    model = Model(hf, tokenizer, str(name), vision=_load_vision(hf, folder))
    progress.step(3, 3, f"loading {name}")
    return model


def oracle_for(name: str) -> str:
    """Return the model that never learned what the bundled requests forget; none if empty."""
    bundle = bundle_of(name)
    return bundle.oracle if bundle and name == bundle.model else ""


def locate(name: str, *, revision: str | None = None) -> Path:
    """Return the local folder of a model, fetching a hub id's files if need be.

    Raises:
        WorkbenchError: there is no such model.
    """
    if name in NAMED:
        return _bundled(name)
    folder = Path(name).expanduser()
    if not folder.exists():
        recover(folder.parent)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise WorkbenchError(f"{name} is a file; give the folder of a Hugging Face model.")
    if not _HUB_ID.fullmatch(name) or name.startswith(("./", "../")):
        raise WorkbenchError(
            f"There is no folder {name!r}; give a model folder, a hub id, or one of "
            f"{', '.join(NAMED)}."
        )
    return _download(name, revision)


def check_device(name: str) -> torch.device:
    """Return the device of a name.

    Raises:
        WorkbenchError: there is no such device on this machine.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise WorkbenchError(
            f"The device {name!r} is not available on this machine; use 'cpu'."
        ) from error
    return device


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a folder's tokenizer.

    Raises:
        WorkbenchError: it cannot be read or cannot say where in the text its tokens are.
    """
    from transformers import AutoTokenizer

    tokenizer = _read(AutoTokenizer, folder, "tokenizer", "tokenizer files")
    if not tokenizer.is_fast or len(tokenizer) == 0:
        raise WorkbenchError(
            f"{folder} has no fast tokenizer (tokenizer.json), which is needed to find a subject's "
            "tokens; save one with the tokenizers library."
        )
    return tokenizer


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from writing to the terminal; what matters is raised as an error."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _bundled(name: str) -> Path:
    if name == "smollm2":
        folder = cache_dir() / "smollm2"
        if not folder.is_dir():
            raise WorkbenchError(
                "SmolLM2 has not been fetched yet; run `workbench models get smollm2` once."
            )
        return folder
    folder = next(b.weights[name] for b in BUNDLES if name in b.weights)
    if not folder.is_dir():
        raise WorkbenchError(
            f"The bundled model {name!r} is missing from {folder}; install the package again."
        )
    return folder


def _load_weights(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM, LlavaForConditionalGeneration

    sees = read_config(folder).get("model_type") == MODEL_TYPE
    kind: Any = LlavaForConditionalGeneration if sees else AutoModelForCausalLM
    load_pretrained: Any = kind.from_pretrained  # typed without the loading info
    try:
        with quiet_transformers():
            hf, info = load_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # whatever a broken checkpoint makes transformers raise
        raise WorkbenchError(
            f"The model in {folder} cannot be loaded ({_first_line(error)}); check its config.json "
            "and weights, or copy it again."
        ) from error
    _check_complete(info, folder)
    return hf


def _load_vision(hf: PreTrainedModel, folder: Path) -> Vision | None:
    """Load the processor of a model that reads images."""
    from transformers import AutoProcessor

    if hf.config.model_type != MODEL_TYPE:
        return None
    processor = _read(AutoProcessor, folder, "image processor", "processor files")
    return Vision.of(hf, processor, folder)


def _read(kind: Any, folder: Path, what: str, files: str) -> Any:
    """Read what stands beside the weights."""
    try:
        with quiet_transformers():
            return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # such files fail in as many ways as there are formats
        raise WorkbenchError(
            f"The {what} in {folder} cannot be read ({_first_line(error)}); copy the model's "
            f"{files} again."
        ) from error


def _check_complete(info: dict[str, Any], folder: Path) -> None:
    missing = sorted(str(key) for key in info.get("missing_keys", ()))
    mismatched = sorted(str(key[0]) for key in info.get("mismatched_keys", ()))
    for names, what in ((missing, "lacks"), (mismatched, "has the wrong shape for")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise WorkbenchError(
                f"The checkpoint {folder} {what} the tensor {names[0]}{more}; its weights do not "
                "belong to its config.json, so copy or download the model again."
            )


def _check_values(hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    for name, parameter in hf.named_parameters():
        if not torch.isfinite(parameter).all():
            raise WorkbenchError(
                f"The weights of {folder} hold NaN or infinite values in {name}; use an undamaged "
                "checkpoint, or a wider dtype such as float32."
            )
    rows = hf.get_input_embeddings().get_parameter("weight").shape[0]
    if len(tokenizer) > rows:
        raise WorkbenchError(
            f"The tokenizer in {folder} makes {len(tokenizer)} tokens but the model has only "
            f"{rows}; use the tokenizer that belongs to the model."
        )


def _download(name: str, revision: str | None) -> Path:
    """Fetch a hub model's top-level safetensors, JSON and tokenizer files; configuration first."""
    from huggingface_hub import snapshot_download

    small = ["*.json", "*.txt", "*.model", "*.jinja"]
    try:
        with quiet_transformers():
            options = {"revision": revision, "ignore_patterns": ["*/*"]}
            folder = Path(snapshot_download(name, allow_patterns=small, **options))
            check_config(read_config(folder), name)
            snapshot_download(name, allow_patterns=[*small, "*.safetensors"], **options)
    except WorkbenchError:
        raise
    except Exception as error:  # offline, not found, gated, proxy: one hub error each
        raise WorkbenchError(
            f"There is no folder {name!r} and the hub model of that name cannot be fetched "
            f"({_first_line(error)}); check the name and the network, or use one of "
            f"{', '.join(NAMED)}."
        ) from error
    return folder


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")[:300]
