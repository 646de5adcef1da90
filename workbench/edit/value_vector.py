"""What to write at the subject's last token so that the model gives the new answer: v* and z.

A vector is added where a fact is looked up and found by gradient descent, everything else frozen:

    L(d) = mean over contexts of -log p(new answer | context, d)
         + kl  KL( p(. | "{subject} is a", d)  ||  p(. | "{subject} is a") )
         + decay  |d| / |h|^2                              |d| <= clamp |h|

h is what the vector is added to: the output of the MLP's down projection for ROME's v* (Meng et al.
2022, arXiv 2202.05262, eq. 4), the residual stream behind the block for MEMIT's and AlphaEdit's z
(Meng et al. 2023, arXiv 2210.07229, eq. 16). Decay and clamp are those of the authors' code.

Contexts are the fact's own prompts and its first prompt behind texts the model makes up. All facts
are searched at once, one vector each; the blocks below the vector are run once, not once a step.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from workbench.edit.contexts import Contexts
from workbench.edit.stream import Stream
from workbench.errors import WorkbenchError
from workbench.models.model import Model
from workbench.models.text import final_norm, unembed
from workbench.progress import SILENT, Progress


@dataclass(frozen=True)
class ValueConfig:
    """Settings of the search for value vectors, shared by the methods that insert them.

    Attributes:
        wordings: most prompts of each fact that are contexts.
        prefixes: texts the model makes up that its first prompt is put behind.
        steps: most gradient steps.
        lr: step size of Adam.
        stop: a fact's -log p(new answer), in nats, below which its vector is good enough.
        kl: weight of the essence prompt's divergence.
        decay: weight of the vector's size.
        clamp: largest size of the vector, in sizes of what it is added to.
        samples: keys for each input of a matrix.
        kept: kept facts among them.
        ridge: of the keys' covariance.
        seed: seed of every draw.
    """

    wordings: int = 6
    prefixes: int = 4
    steps: int = 20
    lr: float = 0.5
    stop: float = 0.05
    kl: float = 0.0625
    decay: float = 0.5
    clamp: float = 1.0
    samples: int = 10
    kept: int = 400
    ridge: float = 1e-4
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        for name in ("wordings", "steps", "lr", "clamp", "ridge"):
            if not getattr(self, name) > 0:
                raise WorkbenchError(f"{name} must be positive, not {getattr(self, name)}.")
        for name in ("prefixes", "kl", "decay", "kept"):
            if getattr(self, name) < 0:
                raise WorkbenchError(f"{name} must not be negative, not {getattr(self, name)}.")


class Onward(Stream):
    """A stream that can be run on from its block, with something added, without moving it."""

    @property
    def parts(self) -> list[tuple[Int[Tensor, " pick"], Int[Tensor, " pick"]]]:
        """For each batch of sequences: which picks it has, and the row of each."""
        return [(chunk.order, chunk.row) for chunk in self._chunks]

    def onward(
        self,
        hf: nn.Module,
        part: int,
        last: int,
        add: Callable[[Tensor], Tensor] | None = None,
        module: str | None = None,
    ) -> Float[Tensor, "pick d_model"]:
        """Return the stream behind block `last` at the picks of one batch; gradients pass.

        Args:
            hf: whose weights to use.
            part: number of the batch.
            last: the last block to run.
            add: changes the output of `module`, or the stream behind the present block.
            module: path of a module of the present block; None for the block itself.
        """
        chunk = self._chunks[part]
        hidden = chunk.hidden
        for layer in range(self.layer, last + 1):
            name = self.structure.layers[layer].block
            args, kwargs = chunk.calls[name]
            with ExitStack() as hooks:
                if layer == self.layer and add is not None:
                    where = hf.get_submodule(module or name)
                    handle = where.register_forward_hook(_through(add))
                    hooks.callback(handle.remove)
                out = hf.get_submodule(name)(hidden, *args, **kwargs)
            hidden = _first(out)
        return hidden[chunk.row, chunk.position]

    @torch.no_grad()
    def peek(self, hf: nn.Module, last: int) -> Float[Tensor, "pick d_model"]:
        """Return the stream behind block `last` at the picked positions, in row order."""
        states = torch.cat([self.onward(hf, i, last) for i in range(len(self.parts))])
        return states[torch.cat([order for order, _ in self.parts]).argsort()]


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _through(add: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        new = add(_first(output))
        return (new, *output[1:]) if isinstance(output, tuple) else new

    return hook


@dataclass(frozen=True, eq=False)
class Vectors:
    """What to add for each fact, and how good it is.

    Attributes:
        change: the vectors.
        loss: their loss, in nats.
        probability: of the new answer's tokens, geometric mean over contexts.
    """

    change: Float[Tensor, "fact d"]
    loss: Float[Tensor, " fact"]
    probability: Float[Tensor, " fact"]


@dataclass(frozen=True, eq=False)
class Part:
    """One batch of contexts: what to add where, and what to read.

    Attributes:
        subject: position of each row's subject's last token.
        prompt: tokens of each row's prompt.
        row_fact: fact of each row.
        fact: fact of each position read.
        wanted: token of the new answer behind it.
        weight: its share of the fact's mean -log p; 0 in an essence prompt.
        essence: whether it stands in an essence prompt.
    """

    subject: Int[Tensor, " row"]
    prompt: Int[Tensor, " row"]
    row_fact: Int[Tensor, " row"]
    fact: Int[Tensor, " pick"]
    wanted: Int[Tensor, " pick"]
    weight: Float[Tensor, " pick"]
    essence: Bool[Tensor, " pick"]


def find_vectors(
    model: Model,
    hf: nn.Module,
    contexts: Contexts,
    layer: int,
    module: str | None,
    *,
    first: int,
    size: Float[Tensor, " fact"],
    config: ValueConfig,
    progress: Progress = SILENT,
) -> Vectors:
    """Search one vector a fact.

    Args:
        model: the model, whose weights below block `first` are used.
        hf: the weights to use from there on; a copy of its own, for hooks.
        contexts: where the facts are looked up.
        layer: block of the vector.
        module: path of the module it is added behind; None for the whole block.
        first: lowest block that may be edited already.
        size: norm of what it is added to.
        config: settings.
        progress: where to report.
    """
    layers = range(first, model.n_layers)
    stream = Onward(model, contexts.readings, layers, label="reading contexts", progress=progress)
    stream.advance(hf, layer)
    parts = parts_of(contexts, stream)
    before: list[Tensor] = []
    vectors = torch.zeros(len(size), model.d_model, device=size.device, requires_grad=True)
    optimizer = torch.optim.Adam([vectors], lr=config.lr)
    loss = misses = torch.full_like(size, torch.inf)
    for step in progress.track(range(config.steps + 1), "searching value vectors"):
        optimizer.zero_grad()
        with torch.enable_grad():
            decay = config.decay * vectors.norm(dim=1) / size.square()
            decay.sum().backward()
            loss, misses = decay.detach(), torch.zeros_like(size)
            for i, part in enumerate(parts):
                states = stream.onward(hf, i, layers[-1], _adding(part, vectors), module)
                found = log_probabilities(model, states)
                if step == 0:
                    before.append(found.detach()[part.essence])
                own, far = answer_losses(part, found, before[i], len(size))
                (own + config.kl * far).sum().backward()
                misses += own.detach()
                loss += config.kl * far.detach()
        done = misses < config.stop
        if step == config.steps or bool(done.all()):
            break
        kept = vectors.detach().clone()
        optimizer.step()
        with torch.no_grad():
            vectors[done] = kept[done]
            most = config.clamp * size / vectors.norm(dim=1).clamp_min(1e-12)
            vectors *= most.clamp_max(1.0)[:, None]
    return Vectors(vectors.detach(), loss + misses, (-misses).exp())


def _adding(part: Part, vectors: Tensor) -> Callable[[Tensor], Tensor]:
    def add(out: Tensor) -> Tensor:
        new = vectors[part.row_fact].to(out.dtype)
        rows = torch.arange(len(new), device=new.device)
        return out.index_put((rows, part.subject), new, accumulate=True)

    return add


def log_probabilities(
    model: Model, states: Float[Tensor, "pick d_model"]
) -> Float[Tensor, "pick vocab"]:
    """Return what the model says where the stream behind its last block is `states`."""
    return unembed(model, final_norm(model, states)).float().log_softmax(-1)


def answer_losses(
    part: Part, found: Float[Tensor, "pick vocab"], before: Float[Tensor, "essence vocab"], n: int
) -> tuple[Float[Tensor, " fact"], Float[Tensor, " fact"]]:
    """Return each of n facts' share of -log p(new answer) and of the essence's divergence."""
    misses = -found.gather(1, part.wanted[:, None])[:, 0] * part.weight
    essence = found[part.essence]
    moved = (essence.exp() * (essence - before)).sum(-1)
    zero = torch.zeros(n, device=found.device)
    return zero.index_add(0, part.fact, misses), zero.index_add(0, part.fact[part.essence], moved)


def parts_of(contexts: Contexts, stream: Onward) -> list[Part]:
    """Describe the batches of a stream over the contexts' readings."""
    sequence_of = [i for i, own in enumerate(contexts.readings.picks) for _ in own]
    wanted = [
        contexts.sequences[i][p + 1] if contexts.answer[i] else 0
        for i, own in enumerate(contexts.readings.picks)
        for p in own
    ]
    fact, answer = torch.tensor(contexts.fact), torch.tensor(contexts.answer)
    lengths = torch.tensor([len(s) for s in contexts.sequences])
    each = torch.bincount(fact[answer > 0])[fact]  # contexts of a fact
    out = []
    for picks, rows in stream.parts:
        device, at = rows.device, torch.tensor(sequence_of)[picks.cpu()]
        own = at.new_zeros(int(rows.max()) + 1)
        own[rows.cpu()] = at
        essence = answer[at] == 0
        weight = torch.where(essence, 0.0, 1 / (answer * each)[at])  # no answer: 1 / 0
        columns = (
            torch.tensor(contexts.subject)[own],
            (lengths - answer)[own],
            fact[own],
            fact[at],
            torch.tensor(wanted)[picks.cpu()],
            weight,
            essence,
        )
        out.append(Part(*(column.to(device) for column in columns)))
    return out
