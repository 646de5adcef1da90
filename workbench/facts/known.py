"""Which facts the model knows: those it completes greedily with the whole target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet
from workbench.facts.prompts import continuation
from workbench.models.model import Model
from workbench.models.text import batches, encode
from workbench.progress import SILENT, Progress


@dataclass(frozen=True)
class Known:
    """Facts split by whether the model knows them."""

    known: FactSet
    unknown: FactSet

    def require(self) -> FactSet:
        """Return the known facts.

        Raises:
            WorkbenchError: there are none.
        """
        if not self.known:
            n = len(self.unknown)
            which = "does not know this fact" if n == 1 else f"knows none of the {n} facts"
            raise WorkbenchError(
                f"The model {which}, so there is nothing to find or remove; check the prompts' "
                "form, or choose facts that it answers."
            )
        return self.known


@torch.no_grad()
def split_known(model: Model, facts: FactSet, *, progress: Progress = SILENT) -> Known:
    """Run each prompt with its target once and check that every target token is the argmax.

    This equals greedy generation beginning with the target, at the cost of one forward pass.
    """
    prompts = [encode(model, f.prompt) for f in facts]
    targets = [continuation(model, f.prompt, f.target) for f in facts]
    sequences = [[*p, *t] for p, t in zip(prompts, targets, strict=True)]
    right = [False] * len(facts)
    for batch in progress.track(list(batches(model, sequences)), "finding known facts"):
        logits = model.hf(**batch.inputs, use_cache=False).logits
        guesses = logits.argmax(-1)
        for i, row in enumerate(batch.rows):
            start, n = len(prompts[row]) - 1, len(targets[row])
            right[row] = tuple(guesses[i, start : start + n].tolist()) == targets[row]
    pairs: list[tuple[Fact, bool]] = list(zip(facts, right, strict=True))
    return Known(
        FactSet(tuple(f for f, ok in pairs if ok)), FactSet(tuple(f for f, ok in pairs if not ok))
    )


def known_wordings(
    model: Model, wordings: Sequence[FactSet], *, progress: Progress = SILENT
) -> FactSet:
    """Return each subject's first fact that the model knows; its first one if it knows none.

    Args:
        model: the model that is asked.
        wordings: the same facts in other words, the preferred wording first.
        progress: where to report.
    """
    every = FactSet(tuple({f.key: f for wording in wordings for f in wording}.values()))
    known = {f.key for f in split_known(model, every, progress=progress).known}
    of: dict[str, list[Fact]] = {}
    for fact in every:
        of.setdefault(fact.subject, []).append(fact)
    return FactSet(
        tuple(next((f for f in facts if f.key in known), facts[0]) for facts in of.values())
    )
