"""What the stream must change by for the model to say a given text: the target rule `logits`.

At each position the wanted next token is to lead the strongest other one by a margin. Through the
final norm the lead is nearly linear in the stream x behind the last block, so the smallest change
that makes up for what is missing is, with d the gradient of the lead by x,

    Delta x = (margin - lead)_+  d / |d|^2

Another token may be the strongest then, and the norm is not quite linear, so the step is repeated
until the lead is there (projections on one half-space after the other). No forward pass of the
model takes part in the gradient, only the final norm and the unembedding. This rule is the
project's own (derived); it needs neither a subject whose answer is the wanted one nor a model that
follows its context.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.edit.rows import Rows
from workbench.models.model import Model
from workbench.models.text import batches, final_norm, unembed

_STEPS, _SLACK = 64, 0.1


def readout_change(model: Model, rows: Rows, *, margin: float) -> Float[Tensor, "n d_model"]:
    """Return the change of the final stream at every position of `rows`, in their order.

    Args:
        model: the model as edited so far.
        rows: sequences; the token behind each position read is the one wanted there.
        margin: asked lead in logits.
    """
    start, wanted = _final_stream(model, rows)
    x = start
    for _ in range(_STEPS):
        lead, slope = _lead(model, x, wanted)
        missing = (margin - lead).clamp_min(0)
        if not bool(missing.any()):
            break
        # A little too far each time, or the last bit would take for ever.
        missing = torch.where(missing > 0, missing + _SLACK * margin, missing)
        x = x + missing[:, None] * slope / slope.pow(2).sum(1, keepdim=True).clamp_min(1e-12)
    return x - start


def _lead(
    model: Model, x: Float[Tensor, "n d_model"], wanted: Int[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n d_model"]]:
    """Return the wanted token's lead over the strongest other one, and its gradient."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = unembed(model, final_norm(model, x)).float()
        own = logits.gather(1, wanted[:, None])
        others = logits.scatter(1, wanted[:, None], -torch.inf)
        lead = own[:, 0] - others.max(1).values
        (slope,) = torch.autograd.grad(lead.sum(), x)
    return lead.detach(), slope


@torch.no_grad()
def _final_stream(model: Model, rows: Rows) -> tuple[Tensor, Tensor]:
    """Return the stream behind the last block and the next token, at the positions read."""
    parts: dict[int, tuple[Tensor, Tensor]] = {}
    seen: list[Tensor] = []
    norm = model.hf.get_submodule(model.structure.final_norm)
    handle = norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        for batch in batches(model, rows.sequences):
            model.hf(**batch.inputs, use_cache=False)
            hidden = seen.pop()
            for r, i in enumerate(batch.rows):
                at = torch.tensor(rows.picks[i], device=hidden.device)
                parts[i] = hidden[r, at], batch.input_ids[r, at + 1]
    finally:
        handle.remove()
    streams, tokens = zip(*(parts[i] for i in sorted(parts)), strict=True)
    return torch.cat(streams), torch.cat(tokens)
