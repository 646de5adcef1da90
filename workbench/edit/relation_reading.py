"""What of a subject's tokens a relation reads, and the part of a change that it would notice.

At a subject's tokens nothing is asked yet: what is taken away there is missing to every question
about the subject. But each relation reads only some directions of the stream there. They are the
gradients of what is said about subjects of the same kind, so with

    g    gradient, by the stream at the subject's token, of the answer's lead over the refusal
    G_r  mean of g g^T over facts of the relation r, scaled to a mean of 1 on its diagonal

the smallest change that does to r what the change c would, and little to the other relations, is

    c_r = argmin_x  (x - c)^T G_r (x - c) + spare x^T G_other x + damp |x|^2
        = (G_r + spare G_other + damp I)^-1 G_r c

The gradients come from facts to keep as much as from those to forget; no label of either is
trained on. This rule is the project's own (derived); that the moments of such gradients tell what
a model reads there is as in attribution patching (Nanda 2023), at first order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.edit.forms import prompts_of
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Refuse, Request
from workbench.facts.prompts import subject_tokens
from workbench.localize.corruption import Noise
from workbench.localize.gradients import HOOKS, groups, run_with_gradients
from workbench.localize.metrics import logit_difference
from workbench.models.model import Model
from workbench.progress import SILENT, Progress
from workbench.recent import remember

Moment = Float[Tensor, "d_model d_model"]
_KEPT: dict[tuple[Any, ...], dict[tuple[int, int], Moment]] = {}  # of the last relations
_MOST_KEPT = 16
_AS_IT_IS = Noise(multiple=0.0, samples=1)


@dataclass(frozen=True, eq=False)
class Reading:
    """Which part of a change the forgotten relations of each subject would notice.

    Attributes:
        moments: G of each relation, by layer and by the subject's token, counted from its last.
        forgotten: relations to forget, by subject.
        kept: relations to keep, by subject.
        spare: weight of the relations to keep.
        damp: weight of the change's size.
    """

    moments: dict[str, dict[tuple[int, int], Moment]]
    forgotten: dict[str, tuple[str, ...]]
    kept: dict[str, tuple[str, ...]]
    spare: float
    damp: float

    @staticmethod
    def of(
        model: Model,
        request: Request,
        layers: Sequence[int],
        *,
        tokens: int,
        prompts: int,
        spare: float,
        damp: float,
        seed: int = 0,
        progress: Progress = SILENT,
    ) -> Reading:
        """Read the gradients of every relation that the subjects to forget have.

        Args:
            model: the model before the edit.
            request: what to forget and, about the same subjects, what to spare.
            layers: layers whose output is changed.
            tokens: how many of a subject's tokens, from its last backwards.
            prompts: how many prompts a relation is read from.
            spare: weight of the relations to keep.
            damp: weight of the change's size.
            seed: seed of the choice of prompts.
            progress: where to report.

        Raises:
            WorkbenchError: the request's facts are not to be refused but replaced.
        """
        if not isinstance(request.behaviour, Refuse):
            raise WorkbenchError(
                "At the subject's token there is no answer to write yet; use the answer site."
            )
        forget, refusal = request.forget, request.behaviour.text
        own = request.retain.about(forget.subjects)
        pool = forget + request.retain
        moments = {}
        for relation in progress.track((forget + own).relations, "what relations read"):
            asked = _prompts(pool, relation, refusal, prompts, seed)
            key = (*model.identity, asked.fingerprint, tuple(layers), tokens)
            moments[relation] = remember(
                _KEPT,
                key,
                lambda facts=asked: relation_moments(model, facts, layers, tokens),
                most=_MOST_KEPT,
            )
        return Reading(moments, _by_subject(forget), _by_subject(own), spare, damp)

    def noticed(
        self,
        change: Float[Tensor, "n d_model"],
        whose: Sequence[tuple[str, int]],
        layer: int,
    ) -> Float[Tensor, "n d_model"]:
        """Return the part of a change that the relations to forget would notice.

        Args:
            change: at the output of `layer`, one row a position.
            whose: the subject of each position, and which of its tokens it is.
            layer: the layer.
        """
        alike: dict[tuple[Any, ...], list[int]] = {}  # subjects with equal relations share a part
        for row, (subject, token) in enumerate(whose):
            alike.setdefault((*self._relations(subject), token), []).append(row)
        out = torch.empty_like(change)
        for (*_, token), rows in alike.items():
            part = self.part(whose[rows[0]][0], layer, token).to(change)
            out[rows] = change[rows] @ part.T
        return out

    def part(self, subject: str, layer: int, token: int) -> Moment:
        """Return (G_r + spare G_other + damp I)^-1 G_r of a subject's token."""
        forgotten, kept = self._relations(subject)
        read = self._moment(forgotten, layer, token)
        others = self._moment(kept, layer, token) if kept else torch.zeros_like(read)
        return noticed_part(read, others, spare=self.spare, damp=self.damp)

    def _relations(self, subject: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return a subject's relations to forget and those to keep."""
        forgotten = self.forgotten[subject]
        return forgotten, tuple(r for r in self.kept.get(subject, ()) if r not in forgotten)

    def _moment(self, relations: Iterable[str], layer: int, token: int) -> Moment:
        return torch.stack([self.moments[r][layer, token] for r in relations]).sum(0)


def noticed_part(read: Moment, others: Moment, *, spare: float, damp: float) -> Moment:
    """Return (G_r + spare G_other + damp I)^-1 G_r, both moments scaled to a mean diagonal of 1."""
    read, others = _scaled(read), _scaled(others)
    eye = torch.eye(len(read), dtype=read.dtype, device=read.device)
    return torch.linalg.solve(read + spare * others + damp * eye, read)


def _scaled(moment: Moment) -> Moment:
    mean = moment.diagonal().mean()
    return moment / mean if mean > 0 else moment


def relation_moments(
    model: Model, facts: FactSet, layers: Sequence[int], tokens: int
) -> dict[tuple[int, int], Moment]:
    """Return the mean of g g^T, by layer and by the subject's token, counted from its last.

    Args:
        model: the model.
        facts: prompts of one relation, the refusal as foil.
        layers: layers whose output is meant.
        tokens: how many of the subject's tokens; a prompt whose subject has fewer counts as 0.
    """
    names = {layer: HOOKS["resid"].format(layer) for layer in layers}
    size = model.hf.get_input_embeddings().weight.shape[1]
    total = torch.zeros(len(names), tokens, size, size, dtype=torch.float64, device=model.device)
    pairs = _AS_IT_IS.pairs(model, facts)
    for group in groups(pairs):
        _, _, gradients = run_with_gradients(
            model, group, group.corrupted, list(names.values()), logit_difference
        )
        for i, name in enumerate(names.values()):
            for row, index in enumerate(group.indices):
                fact = pairs[index].prompt.fact
                ends = list(subject_tokens(model, fact.prompt, fact.subject))[::-1][:tokens]
                g = gradients[name][row, ends].double()
                total[i, : len(ends)] += g[:, :, None] * g[:, None, :]
    total /= len(pairs)
    return {(layer, k): total[i, k] for i, layer in enumerate(names) for k in range(tokens)}


def whole_subjects(request: Request) -> Request:
    """Return the request that asks every question about the subjects to forget.

    What a relation reads is taken from its subject's tokens however the question begins, so what is
    to be kept about the same subjects is no longer kept word by word.
    """
    own = request.retain.about(request.forget.subjects)
    mine = frozenset(f.key for f in own)
    rest = request.retain.where(lambda f: f.key not in mine)
    return replace(request, forget=request.forget + own, retain=rest)


def _prompts(pool: FactSet, relation: str, refusal: str, count: int, seed: int) -> FactSet:
    """Return some prompts of a relation; which, hardly changes where a fact comes or goes."""
    asked = [
        _asked(fact, prompt, refusal)
        for fact in pool
        if fact.relation == relation
        for prompt in prompts_of(fact)
    ]
    if not asked:
        raise WorkbenchError(f"There is no fact of the relation {relation!r} to read it from.")

    def drawn(fact: Fact) -> bytes:
        return hashlib.sha256(f"{seed}\n{fact.prompt}".encode()).digest()

    return FactSet(tuple(sorted(asked, key=drawn)[:count]))


def _asked(fact: Fact, prompt: str, refusal: str) -> Fact:
    return Fact(
        fact.subject, relation=fact.relation, prompt=prompt, target=fact.target, foil=refusal
    )


def _by_subject(facts: FactSet) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for fact in facts:
        found.setdefault(fact.subject, {})[fact.relation] = None
    return {subject: tuple(relations) for subject, relations in found.items()}
