"""A language model as a value: nothing ever writes to it.

`with_delta` builds an edited model whose untouched parameters are the very tensors of its base, so
an edit costs the touched tensors only, undo is dropping the edited model, and two users of one
base cannot disturb each other. The TransformerLens bridge rewires the module that it wraps; it is
therefore built on a parameter-sharing copy, and the pristine module keeps its Hugging Face names
for edits and export.
"""

from __future__ import annotations

import copy
import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from workbench.models.components import Structure
    from workbench.models.delta import WeightDelta
    from workbench.models.vision import Vision


@dataclass(frozen=True, eq=False)
class Model:
    """One causal language model with its tokenizer.

    No two threads may share one hooked module tree: the modules below are for one thread at a
    time; `fork()` gives another thread its own at no cost in memory.

    Attributes:
        hf: the pristine Hugging Face module, in eval mode, without gradients.
        tokenizer: its tokenizer.
        name: "demo", "smollm2", a folder or a hub id.
        deltas: the edits that made it from its base, oldest first.
        vision: how it sees images; None for a model that reads text only.
    """

    hf: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    deltas: tuple[WeightDelta, ...] = field(default=())
    vision: Vision | None = None

    def __post_init__(self) -> None:
        """Freeze the module: evaluation mode, no gradients."""
        self.hf.eval()
        self.hf.requires_grad_(False)

    @property
    def config(self) -> Any:
        """The Hugging Face configuration of the text model."""
        return self.hf.config.get_text_config()

    @property
    def n_layers(self) -> int:
        """Number of transformer blocks."""
        return int(self.config.num_hidden_layers)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.config.hidden_size)

    @property
    def n_ctx(self) -> int:
        """Longest sequence of tokens the model takes."""
        return int(getattr(self.config, "max_position_embeddings", 1 << 30))

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.hf.parameters()).device

    @property
    def n_parameters(self) -> int:
        """Number of parameters, tied ones counted once."""
        return sum(p.numel() for p in self.hf.parameters())

    @cached_property
    def parameters(self) -> Mapping[str, Tensor]:
        """Every parameter by its Hugging Face name; tied ones appear once."""
        return dict(self.hf.named_parameters())

    @cached_property
    def bridge(self) -> TransformerBridge:
        """TransformerLens hooks over this model's own parameters."""
        return boot_bridge(self.hf, self.tokenizer, self.vision)

    @cached_property
    def structure(self) -> Structure:
        """Which parameters and modules each component stands for."""
        from workbench.models.components import Structure

        return Structure.of(self.hf, self.bridge)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, shapes, types and bytes of all parameters."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.parameters.items()):
            digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}".encode())
            digest.update(tensor_bytes(tensor))
        return digest.hexdigest()

    @property
    def identity(self) -> tuple[Any, ...]:
        """What everything the model says hangs on: weights, configuration and chat template.

        Equal weights run differently under another window, and talk otherwise in another template;
        what reads images sees otherwise with another image processor.
        """
        template = self.tokenizer.chat_template
        seen = (self.vision.settings,) if self.vision else ()
        return (self.fingerprint, self.config.to_json_string(), template, *seen)

    def fork(self) -> Model:
        """Copy the module tree, sharing every parameter, for use in another thread."""
        copied = replace(self, hf=share_parameters(self.hf))
        return self._handed_on(copied, "fingerprint", "structure")

    def with_delta(self, delta: WeightDelta) -> Model:
        """Apply an edit and return the edited model; this one stays as it is.

        Raises:
            WorkbenchError: the delta names a parameter this model lacks, has another shape, or
                holds a value that is not finite.
        """
        hf = share_parameters(self.hf)
        for name, update in delta.updates.items():
            replace_parameter(hf, name, _updated(self.parameters, name, update.dense()))
        edited = replace(self, hf=hf, deltas=(*self.deltas, delta))
        return self._handed_on(edited, "structure")

    def _handed_on(self, other: Model, *names: str) -> Model:
        """Give another model what was worked out here and holds there too: no bridge to read it."""
        for name in names:
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other


def _updated(parameters: Mapping[str, Tensor], name: str, update: Tensor) -> Tensor:
    """Return parameter + update in the parameter's own type, added in float64."""
    if name not in parameters:
        raise WorkbenchError(
            f"The edit changes {name!r}, which this model does not have; apply it to the model it "
            "was made for."
        )
    old = parameters[name]
    if old.shape != update.shape:
        raise WorkbenchError(
            f"The edit of {name!r} has shape {tuple(update.shape)}, the model's is "
            f"{tuple(old.shape)}; apply it to the model it was made for."
        )
    new = (old.double() + update.to(old.device).double()).to(old.dtype)
    if not torch.isfinite(new).all():
        raise WorkbenchError(
            f"The edit makes {name!r} infinite or NaN, so nothing was changed; lower the strength "
            "or raise lambda."
        )
    return new


def share_parameters(module: PreTrainedModel) -> PreTrainedModel:
    """Copy a module tree; parameters and buffers stay the same tensors."""
    shared = {id(t): t for t in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, memo=shared)


def replace_parameter(module: nn.Module, name: str, value: Tensor) -> None:
    """Put a new tensor in the place of parameter `name`, wherever it is tied.

    `module` must be a parameter-sharing copy: the old tensor is left as it is.
    """
    old = module.get_parameter(name)
    new = nn.Parameter(value, requires_grad=False)
    for owner in module.modules():
        for key, parameter in list(owner._parameters.items()):
            if parameter is old:
                owner._parameters[key] = new


def boot_bridge(
    hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, vision: Vision | None = None
) -> TransformerBridge:
    """Wrap a parameter-sharing copy of `hf` with TransformerLens hooks.

    The bridge reads its configuration from a folder, so a temporary one with the configuration,
    the tokenizer and the processor is written: a model in memory and a hub id need no network this
    way.

    Raises:
        WorkbenchError: TransformerLens does not know the architecture.
    """
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.model_bridge.sources.transformers import helpers

    # Where a processor cannot be read, TransformerLens would install torchvision with pip, and with
    # it another torch, into the running environment. Nothing here installs anything.
    helpers._ensure_torchvision = lambda: False
    with tempfile.TemporaryDirectory(prefix="workbench-bridge-") as folder:
        hf.config.save_pretrained(folder)
        if vision is not None:
            vision.processor.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        shared = share_parameters(hf)
        try:
            bridge = TransformerBridge.boot_transformers(
                folder, hf_model=shared, device=str(next(hf.parameters()).device)
            )
        except (ValueError, KeyError, NotImplementedError) as error:
            raise WorkbenchError(
                f"TransformerLens has no bridge for {type(hf).__name__}; use an architecture it "
                "supports, such as GPT-2, Llama, Qwen, Gemma, Mistral, GPT-NeoX or Phi."
            ) from error
    bridge.eval()
    bridge.requires_grad_(False)
    return bridge


def tensor_bytes(tensor: Tensor) -> bytes:
    """Return the raw bytes of a tensor, for hashing; works for bfloat16 too."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
