"""The whole retain buffer of a site, and its keys' moments; the last few buffers are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.edit.buffer import (
    Site,
    chat_rows,
    confusable_rows,
    context_rows,
    heavier_rows,
    related_rows,
)
from workbench.edit.rows import Rows
from workbench.errors import WorkbenchError
from workbench.facts.fact import Request
from workbench.models.model import Model
from workbench.recent import remember

KEPT: dict[tuple[Any, ...], Buffer] = {}  # the last buffers, by everything they are made of
_MOST_KEPT = 4


@dataclass(frozen=True)
class Buffer:
    """What an edit must leave alone at one site.

    Attributes:
        others: what is not about the subjects to forget. An update that leaves what their keys give
            leaves the layers above their keys too, so they are read once, from the base.
        related: what is to be kept about the very subjects. The edit moves it, so its keys are read
            behind every edited layer.
    """

    others: Rows
    related: Rows

    def __len__(self) -> int:
        """Count the positions read."""
        return len(self.others) + len(self.related)


def retain_rows(
    model: Model,
    request: Request,
    site: Site,
    *,
    confusable: int,
    named: int,
    confusable_weight: float,
    related_weight: float,
    context: int,
    generations: int,
    chats: int,
    context_weight: float,
    tokens: int,
    seed: int,
) -> Buffer:
    """Return the whole retain buffer of a site; the last ones are kept.

    An edit that is tried again with another strength or weight needs the same buffer, and to make
    it the model has to talk for as long as the rest of the edit takes.

    Args:
        model: the model.
        request: what to keep.
        site: where the edit acts.
        confusable: prompts about other subjects in the forget set's wordings.
        named: subjects wanted for them.
        confusable_weight: weight of their site positions.
        related_weight: weight of the site in kept facts about the subjects to forget.
        context: kept facts with the model's own answers.
        generations: texts the model makes up.
        chats: conversations it makes up.
        context_weight: weight of every other position.
        tokens: tokens of the subject that are the site.
        seed: seed of every draw.

    Raises:
        WorkbenchError: there is nothing in it.
    """
    sizes = (confusable, named, context, generations, chats)
    loads = (confusable_weight, related_weight, context_weight)
    key = (*model.identity, request.fingerprint, site, *sizes, *loads, tokens, seed)
    weights = {"context_weight": context_weight, "seed": seed}

    def make() -> Buffer:
        rows = confusable_rows(
            model,
            request,
            site,
            count=confusable,
            named=named,
            weight=confusable_weight,
            tokens=tokens,
            **weights,
        )
        own = {"context_weight": context_weight, "tokens": tokens}
        rows += heavier_rows(model, request, site, weight=confusable_weight, **own)
        rows += context_rows(
            model, request, count=context, generations=generations, weight=context_weight, seed=seed
        )
        rows += chat_rows(model, request, site, count=chats, weight=confusable_weight, **weights)
        related = related_rows(model, request, site, weight=related_weight, **own)
        buffer = Buffer(rows, related)
        if not len(buffer):
            raise WorkbenchError(
                "The retain buffer is empty; give the request facts to retain, or let the model "
                "make up texts (generations > 0)."
            )
        return buffer

    return remember(KEPT, key, make, most=_MOST_KEPT)
