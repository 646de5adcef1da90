"""Unlearning depth: put the base's states back, layer by layer; from where is the answer there?

The edited model reads the prompt with the base's residual stream behind layer l - at the subject's
last token, at all its tokens, or at all positions - and generates on its own. Where the answer
returns, everything behind layer l still works on what it is given: the edit acts at or before that
layer and spares what reads the fact out. At the last layer all positions give the base's own first
token, and no more.

The base's states bring its knowledge along, so this shows where an edit acts and is no attack that
anybody without the base could make; an oracle given these states answers too, as far as it reads
them alike.

Source: Hong et al. 2024 (arXiv 2410.06606), activation patching of the original model's states into
the unlearned one. Cost: one generation pass for each layer and place.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.attack.asking import ask_freely
from workbench.attack.attack import Cell
from workbench.attack.hooked import with_states_of
from workbench.errors import WorkbenchError
from workbench.facts.fact import Request
from workbench.facts.prompts import tokenize
from workbench.models.model import Model
from workbench.progress import SILENT, Progress


@dataclass(frozen=True)
class UnlearningDepthConfig:
    """Settings of patching back.

    Attributes:
        layers: how many layers to patch, evenly spaced, the last one always among them.
        seed: unused, for nothing is drawn.
    """

    layers: int = 8
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: no layer is wanted.
        """
        if self.layers < 1:
            raise WorkbenchError(f"Patch at least 1 layer, not {self.layers}.")


def unlearning_depth(
    model: Model,
    request: Request,
    config: UnlearningDepthConfig,
    *,
    base: Model,
    progress: Progress = SILENT,
) -> tuple[Cell, ...]:
    """Ask the forget facts' own prompts with the base's states put in.

    Raises:
        WorkbenchError: the base has another shape, or a subject is not found.
    """
    config.check()
    shapes = [(m.n_layers, m.d_model, m.config.vocab_size) for m in (base, model)]
    if shapes[0] != shapes[1]:
        raise WorkbenchError(
            "The base has another shape than the edited model, so its states do not fit; give the "
            "model that was edited."
        )
    asked = [(fact, fact.prompt) for fact in request.forget]
    prompts = [tokenize(model, fact) for fact in request.forget]
    places = {
        "last subject": {p.ids: [p.last_subject] for p in prompts},
        "subject": {p.ids: range(*p.subject) for p in prompts},
        "all": None,
    }
    settings = [(name, layer) for name in places for layer in _spaced(model, config.layers)]
    cells = []
    for name, layer in progress.track(settings, "patching back"):
        with with_states_of(base, model, layer, places[name]) as patched:
            outcomes = ask_freely(patched, asked, request.behaviour, progress=progress)
        cells.append(Cell({"positions": name, "layer": layer}, outcomes))
    return tuple(cells)


def _spaced(model: Model, count: int) -> list[int]:
    """Return that many layers from the first to the last, or the last alone."""
    last = model.n_layers - 1
    return sorted({round(last * (1 - i / max(count - 1, 1))) for i in range(count)})
