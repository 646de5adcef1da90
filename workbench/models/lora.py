"""A low-rank edit as a PEFT LoRA adapter.

LoRA adds scaling * B A to a linear map's [out, in] weight. With alpha = rank for every module the
scaling is exactly 1, and B A is the edit's left @ right (transposed for Conv1D, which stores
[in, out]). The files are plain JSON and safetensors, written without importing peft.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.delta import LowRank, WeightDelta
from workbench.models.model import Model


def lora_obstacle(model: Model, delta: WeightDelta) -> str | None:
    """Say in a sentence why an edit cannot become a LoRA adapter; None if it can."""
    if not delta.updates:
        return "The edit changes nothing, so there is no LoRA adapter to write."
    tied = _tied_weights(model)
    for name, update in delta.updates.items():
        if not isinstance(update, LowRank):
            return (
                f"The update of {name} is not low-rank, so it cannot become a LoRA adapter; edit "
                "with rank=... or compress the delta first."
            )
        module = model.hf.get_submodule(name.rpartition(".")[0])
        known = isinstance(module, nn.Linear) or _is_conv1d(module)
        if not known or not name.endswith(".weight") or name in tied:
            return (
                f"The edit changes {name}, which is not the weight of a linear map of its own, so "
                "it cannot become a LoRA adapter; export a checkpoint or the delta."
            )
    return None


def write_lora(model: Model, delta: WeightDelta, folder: Path, *, base: str | None) -> None:
    """Write adapter_config.json and adapter_model.safetensors.

    Args:
        model: the base or the edited model; only its modules' types are read.
        delta: the edit.
        folder: an existing folder.
        base: where peft finds the base model, for the configuration.

    Raises:
        WorkbenchError: the edit is not low-rank throughout.
    """
    from safetensors.torch import save_file

    obstacle = lora_obstacle(model, delta)
    if obstacle:
        raise WorkbenchError(obstacle)
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    transposed = False
    low_rank = {n: u for n, u in delta.updates.items() if isinstance(u, LowRank)}
    for name, update in low_rank.items():
        path = name.removesuffix(".weight")
        conv = _is_conv1d(model.hf.get_submodule(path))
        transposed |= conv
        down, up = (update.left.T, update.right.T) if conv else (update.right, update.left)
        ranks[path] = update.rank
        for side, factor in (("A", down), ("B", up)):
            key = f"base_model.model.{path}.lora_{side}.weight"
            tensors[key] = factor.detach().cpu().contiguous()
    config = json.dumps(_configuration(ranks, transposed, base), indent=1)
    (folder / "adapter_config.json").write_text(config, encoding="utf-8")
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})


def _configuration(ranks: dict[str, int], transposed: bool, base: str | None) -> dict[str, Any]:
    first = next(iter(ranks.values()))
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": first,
        "lora_alpha": first,
        "rank_pattern": ranks,
        "alpha_pattern": ranks,
        "target_modules": sorted(ranks),
        "fan_in_fan_out": transposed,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "inference_mode": True,
    }


def _is_conv1d(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D"


def _tied_weights(model: Model) -> set[str]:
    """Names of weights that more than one module uses."""
    seen: dict[int, int] = {}
    for _, parameter in model.hf.named_parameters(remove_duplicate=False):
        seen[id(parameter)] = seen.get(id(parameter), 0) + 1
    return {n for n, p in model.hf.named_parameters() if seen[id(p)] > 1}
