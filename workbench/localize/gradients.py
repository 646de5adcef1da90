"""States and gradients at the nodes of a batch of runs, read through TransformerLens hooks.

Facts of one length go together, every corrupted sample a row of its own, so that one forward and
one backward pass serve all of them. Runs begin at the token embeddings, where corruption happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.facts.prompts import group_by_length
from workbench.localize.corruption import Pair
from workbench.localize.localization import CellKind
from workbench.localize.metrics import Metric
from workbench.models.model import Model

HOOKS: Mapping[CellKind, str] = {
    "mlp": "blocks.{}.hook_mlp_out",
    "attn": "blocks.{}.hook_attn_out",
    "head": "blocks.{}.attn.o.hook_in",
    "resid": "blocks.{}.hook_resid_post",
}
EMBEDDING = "blocks.0.hook_resid_pre"
States = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Group:
    """Facts whose prompts have the same number of tokens.

    Attributes:
        indices: which of the given pairs they are.
        clean: clean embeddings, one row per fact.
        corrupted: corrupted embeddings, the samples of one fact behind those of the one before.
        fact: for each corrupted row, which clean row it belongs to.
        target: right token of each fact.
        foil: wrong token of each fact, if all have one.
    """

    indices: tuple[int, ...]
    clean: Float[Tensor, "fact pos d_model"]
    corrupted: Float[Tensor, "row pos d_model"]
    fact: Int[Tensor, " row"]
    target: Int[Tensor, " fact"]
    foil: Int[Tensor, " fact"] | None

    def measure(
        self, metric: Metric, logits: Float[Tensor, "batch vocab"], rows: Int[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Apply a metric to logits whose rows belong to the facts `rows`."""
        foil = None if self.foil is None else self.foil[rows]
        return metric(logits, self.target[rows], foil)

    @property
    def each(self) -> Int[Tensor, " fact"]:
        """Each fact once."""
        return torch.arange(len(self.clean), device=self.clean.device)

    def split(self, rows: Tensor) -> list[Tensor]:
        """Split a tensor over corrupted rows into one per fact."""
        return list(rows.split(torch.bincount(self.fact, minlength=len(self.clean)).tolist()))


def groups(pairs: Sequence[Pair], *, max_tokens: int = 4096) -> Iterator[Group]:
    """Group pairs by length into batches of at most `max_tokens` corrupted tokens."""
    for same in group_by_length([p.prompt for p in pairs]):
        chunk: list[int] = []
        tokens = 0
        for i in same:
            size = pairs[i].corrupted.shape[0] * pairs[i].corrupted.shape[1]
            if chunk and tokens + size > max_tokens:
                yield _group(pairs, chunk)
                chunk, tokens = [], 0
            chunk.append(i)
            tokens += size
        yield _group(pairs, chunk)


def _group(pairs: Sequence[Pair], indices: Sequence[int]) -> Group:
    chosen = [pairs[i] for i in indices]
    device = chosen[0].clean.device
    foils = [p.foil for p in chosen if p.foil is not None]
    return Group(
        tuple(indices),
        torch.cat([p.clean for p in chosen]),
        torch.cat([p.corrupted for p in chosen]),
        torch.tensor([n for n, p in enumerate(chosen) for _ in p.corrupted], device=device),
        torch.tensor([p.target for p in chosen], device=device),
        torch.tensor(foils, device=device) if len(foils) == len(chosen) else None,
    )


def run(
    model: Model,
    embeddings: Float[Tensor, "batch pos d_model"],
    names: Sequence[str],
    *,
    replace: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
) -> tuple[Float[Tensor, "batch vocab"], States]:
    """Run from token embeddings; return the last position's logits and the states at `names`.

    Args:
        model: the model.
        embeddings: token embeddings, not yet scaled or given positions.
        names: hook points to read, after replacement.
        replace: for some hook points, a function from its value to the one to go on with.
    """
    states: States = {}
    changes = dict(replace or {})

    def at(name: str) -> Callable[..., Tensor]:
        def visit(value: Tensor, hook: Any) -> Tensor:
            value = changes[name](value) if name in changes else value
            if name in wanted:
                states[name] = value
            return value

        return visit

    wanted = set(names)
    points = [(name, at(name)) for name in dict.fromkeys([*changes, *names])]
    bridge: Any = model.bridge
    with bridge.hooks(fwd_hooks=points):
        logits = bridge.original_model(
            inputs_embeds=embeddings, use_cache=False, logits_to_keep=1
        ).logits[:, -1]
    return logits, states


def node_names(model: Model, kinds: Sequence[CellKind]) -> list[str]:
    """Return the hook points of every layer of some kinds."""
    return [HOOKS[kind].format(layer) for kind in kinds for layer in range(model.n_layers)]


def run_with_gradients(
    model: Model,
    group: Group,
    embeddings: Float[Tensor, "row pos d_model"],
    names: Sequence[str],
    metric: Metric,
) -> tuple[Float[Tensor, " row"], States, States]:
    """Run rows that belong to the group's corrupted ones.

    Returns:
        The metric of each row, the states at `names`, and d metric / d state. The name "embed"
        stands for the embeddings themselves.
    """
    with torch.enable_grad():
        leaf = embeddings.detach().requires_grad_()
        logits, states = run(model, leaf, [n for n in names if n != "embed"])
        values = group.measure(metric, logits, group.fact)
        nodes = {name: leaf if name == "embed" else states[name] for name in names}
        found = torch.autograd.grad(values.sum(), list(nodes.values()))
    gradients = dict(zip(nodes, found, strict=True))
    return values.detach(), {n: s.detach() for n, s in states.items()}, gradients


def path_gradients(
    model: Model, group: Group, names: Sequence[str], metric: Metric, steps: int
) -> States:
    """Average the gradients over the midpoints of the straight path from corrupted to clean.

        mean_k d metric / d state  at  corrupted + (k - 1/2) / steps (clean - corrupted)

    The path is that of the input embeddings (Hanna et al. 2024, arXiv 2403.17806, eq. 4); midpoints
    instead of their left ends make the error second order in 1 / steps.
    """
    step = group.clean[group.fact] - group.corrupted
    total: States = {}
    for k in range(steps):
        point = group.corrupted + (k + 0.5) / steps * step
        _, _, gradients = run_with_gradients(model, group, point, names, metric)
        for name, gradient in gradients.items():
            total[name] = total[name] + gradient if name in total else gradient
    return {name: gradient / steps for name, gradient in total.items()}
