"""What an edit costs: processor time, and tokens through the model forwards and backwards.

Tokens are counted block by block and divided by the number of blocks, so a method that runs half
of the model pays half. A backward pass is counted where a block's output asks for a gradient.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from transformers.modeling_layers import GradientCheckpointingLayer

from workbench.edit import covariance, kept_keys, read_once, retain, stream
from workbench.edit.train import lessons
from workbench.models.kept import nothing_kept
from workbench.models.model import Model


@dataclass
class Cost:
    """What some work took.

    Attributes:
        cpu_seconds: of this process, all threads together.
        forward_tokens: tokens through all blocks, padding included.
        backward_tokens: tokens through whose blocks a gradient was asked for.
    """

    cpu_seconds: float = 0.0
    forward_tokens: float = 0.0
    backward_tokens: float = 0.0


@contextmanager
def as_first() -> Iterator[None]:
    """Let an edit in the block cost as much as a first one: nothing kept for the next is used."""
    for module in (retain, kept_keys, read_once, stream, covariance, lessons):
        module.KEPT.clear()
    with nothing_kept():
        yield


@contextmanager
def metered(model: Model) -> Iterator[Cost]:
    """Count what the block costs; the numbers are there when it is over.

    Only passes of the calling thread are counted; a block of any model counts as one of `model`'s.
    """
    cost, me = Cost(), threading.get_ident()
    share = 1 / model.n_layers
    started = time.process_time()

    def count(module: nn.Module, args: Any, output: Any) -> None:
        if not isinstance(module, GradientCheckpointingLayer) or threading.get_ident() != me:
            return
        hidden = output[0] if isinstance(output, tuple) else output
        if isinstance(hidden, Tensor):
            tokens = hidden.shape[:-1].numel() * share
            cost.forward_tokens += tokens
            if hidden.requires_grad:
                cost.backward_tokens += tokens

    handle = register_module_forward_hook(count)
    try:
        yield cost
    finally:
        handle.remove()
        cost.cpu_seconds = time.process_time() - started
