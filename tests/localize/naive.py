"""The reference for patching: one whole forward pass of the TransformerLens bridge a cell."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.facts.fact import Fact, FactSet
from workbench.localize.cone import Variant
from workbench.localize.corruption import Noise, Pair
from workbench.localize.metrics import logit_difference
from workbench.models.model import Model
from workbench.models.text import encode

HOOKS = {
    "resid": "blocks.{}.hook_resid_post",
    "mlp": "blocks.{}.hook_mlp_out",
    "attn": "blocks.{}.hook_attn_out",
    "head": "blocks.{}.attn.hook_z",
}


def put_embeddings(embeds: Tensor):
    def hook(value, hook):
        return embeds.clone()

    return ("hook_embed", hook)


def logits(model: Model, ids: Tensor, embeds: Tensor, hooks: Sequence = ()) -> Tensor:
    tokens = ids.repeat(len(embeds), 1)
    with torch.no_grad():
        out = model.bridge.run_with_hooks(
            tokens, return_type="logits", fwd_hooks=[put_embeddings(embeds), *hooks]
        )
    return out[:, -1]


def states(model: Model, ids: Tensor, embeds: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    kept: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(value, hook):
            kept[name] = value.clone()

        return (name, hook)

    logits(model, ids, embeds, [keep(name) for name in names])
    return kept


def patched_logits(
    model: Model, ids: Tensor, base: Tensor, donor: Tensor, variant: Variant, position: int
) -> Tensor:
    """Logits at the last position with one variant patched at one position."""
    n_rows = max(len(base), len(donor))
    kind, _, head = variant.cell
    names = [HOOKS[kind].format(layer) for layer in range(variant.first, variant.last + 1)]
    given = states(model, ids, donor, names)

    def put(name: str):
        def hook(value, hook):
            value = value.clone()
            if kind == "head":
                value[:, position, head] = given[name][:, position, head]
            else:
                value[:, position] = given[name][:, position]
            return value

        return (name, hook)

    rows = base.expand(n_rows, *base.shape[1:])
    return logits(model, ids, rows, [put(name) for name in names])


PROMPT = "Question: Which sport does Ada Brook play?"


def known_fact(model: Model, subject: str = "Ada Brook", prompt: str = PROMPT) -> Fact:
    """A fact this random model knows: its own most likely next token that can be written."""
    ids = encode(model, prompt)
    with torch.no_grad():
        order = model.hf(torch.tensor([ids])).logits[0, -1].argsort(descending=True)
    text = model.tokenizer.decode([int(order[0])])
    return Fact(subject, prompt, text, foil=" golf")


def one_pair(model: Model, samples: int = 2) -> Pair:
    """A pair that does not depend on what the model's next token looks like as text."""
    fact = Fact("Ada Brook", PROMPT, " tennis", foil=" golf")
    return Noise(samples=samples, multiple=2.0).pairs(model, FactSet((fact,)))[0]


def read(pair: Pair, logits: torch.Tensor) -> torch.Tensor:
    target = torch.full((len(logits),), pair.target)
    return logit_difference(logits, target, torch.full_like(target, pair.foil))


def naive_cells(model: Model, pair: Pair, variants: list[Variant], denoise: bool) -> dict:
    base, donor = (pair.corrupted, pair.clean) if denoise else (pair.clean, pair.corrupted)
    rows = max(len(base), len(donor))
    before = read(pair, logits(model, pair.ids, base)).expand(rows)
    out = {}
    for variant in variants:
        columns = [
            read(pair, patched_logits(model, pair.ids, base, donor, variant, t)) - before
            for t in range(len(pair.ids))
        ]
        out[variant.cell] = torch.stack(columns, 1) * (1 if denoise else -1)
    return out
