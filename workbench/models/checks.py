"""What must be true of a checkpoint folder before anything in it is loaded.

Only JSON and the headers of safetensors files are read here: no weights, no code, no pickle.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.models.vision import LANGUAGE_MODELS, MODEL_TYPE, PROCESSOR_FILES, TOWERS

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def check_folder(folder: Path) -> None:
    """Refuse a folder that is not a complete, plain causal language model.

    Raises:
        WorkbenchError: with the first reason found.
    """
    config = read_config(folder)
    check_config(config, folder)
    check_weights(folder)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise WorkbenchError(
            f"{folder} has no tokenizer; copy the model's tokenizer.json and tokenizer_config.json "
            "into it."
        )
    sees = config.get("model_type") == MODEL_TYPE
    if sees and not any((folder / name).is_file() for name in PROCESSOR_FILES):
        raise WorkbenchError(
            f"{folder} has no image processor; copy the model's processor_config.json or "
            "preprocessor_config.json into it."
        )


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json.

    Raises:
        WorkbenchError: it is missing or not a JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        if (folder / "adapter_config.json").is_file():
            raise WorkbenchError(
                f"{folder} is a LoRA adapter, not a model; give the folder of a full checkpoint."
            )
        raise WorkbenchError(
            f"{folder} has no config.json, so it is no Hugging Face model; give the folder that "
            "save_pretrained wrote."
        )
    return read_json_object(path)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        WorkbenchError: it cannot be read or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkbenchError(
            f"{path} cannot be read as JSON ({error}); copy or download the model again."
        ) from error
    if not isinstance(value, dict):
        raise WorkbenchError(
            f"{path} does not hold a JSON object; copy or download the model again."
        )
    return value


def check_config(config: dict[str, Any], source: Path | str) -> None:
    """Refuse what transformers itself cannot run as a causal language model.

    Raises:
        WorkbenchError: unknown architecture, code of its own, not causal, or quantized.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    if kind not in CONFIG_MAPPING_NAMES:
        if config.get("auto_map"):
            raise WorkbenchError(
                f"{source} wants to run Python code of its own, which is never done here; use a "
                "model whose architecture is part of transformers."
            )
        raise WorkbenchError(
            f"{source} has the model type {kind!r}, which this version of transformers does not "
            "know; use a model of a known architecture or update transformers."
        )
    if kind == MODEL_TYPE:
        _check_llava(config, source)
    elif kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or not _is_causal(config, kind):
        raise WorkbenchError(
            f"{source} ({_described(config, kind)}) is not a causal language model; use one that "
            "continues text, such as GPT-2, Llama or Qwen."
        )
    if config.get("quantization_config"):
        raise WorkbenchError(
            f"{source} is quantized, and quantized weights cannot be edited; use the model in "
            "float16, bfloat16 or float32."
        )


def _check_llava(config: dict[str, Any], source: Path | str) -> None:
    """Refuse other parts than a CLIP vision tower and a language model that hooks can reach."""
    tower, language = (_kind(config.get(f"{part}_config")) for part in ("vision", "text"))
    if tower not in TOWERS:
        raise WorkbenchError(
            f"{source} sees through a {tower or 'nameless'} tower, and only "
            f"{', '.join(TOWERS)} is read here; use a checkpoint of the LLaVA 1.5 form."
        )
    if language not in LANGUAGE_MODELS:
        raise WorkbenchError(
            f"{source} speaks through a {language or 'nameless'} language model, in which hooks "
            f"find no parts; use one of {', '.join(LANGUAGE_MODELS)}."
        )


def _kind(part: Any) -> str:
    return str(part.get("model_type", "")) if isinstance(part, dict) else ""


def _described(config: dict[str, Any], kind: str) -> str:
    architectures = config.get("architectures")
    return ", ".join(map(str, architectures)) if isinstance(architectures, list) else kind


def _is_causal(config: dict[str, Any], kind: str) -> bool:
    """Whether the weights have a language-model head and attend only to the left."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    if config.get("is_encoder_decoder"):
        return False
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.get("is_decoder"):
        return False
    named = config.get("architectures")
    if not isinstance(named, list) or not named:
        return True
    heads: set[str] = set()
    for value in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        heads |= {value} if isinstance(value, str) else set(value)
    return bool(heads & set(named))


def check_weights(folder: Path) -> None:
    """Refuse missing, pickled, incomplete or damaged weight files.

    Raises:
        WorkbenchError: with the first file at fault.
    """
    for path in _weight_files(folder):
        _check_header(path)


def _weight_files(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        if any(next(folder.glob(pattern), None) for pattern in _PICKLES):
            raise WorkbenchError(
                f"{folder} holds its weights only as Python pickles, which can run code when they "
                "are opened; convert them to safetensors first."
            )
        raise WorkbenchError(
            f"{folder} has no weights (model.safetensors); copy or download the model again."
        )
    shards = read_json_object(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise WorkbenchError(f"{index} names no weight files; copy or download the model again.")
    return [folder / Path(str(name)).name for name in sorted(set(shards.values()))]


def _check_header(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise WorkbenchError(
            f"The weight file {path} is missing; copy or download the model again."
        )
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise WorkbenchError(
            f"The weight file {path} is truncated or damaged ({error}); copy or download it again."
        ) from error
