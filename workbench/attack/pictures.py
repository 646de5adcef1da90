"""Pictures: the forget facts asked through other pictures of the same, and through altered ones.

    another view   pictures that the facts keep aside (`Fact.views`), which no edit has seen
    the others     the facts' own pictures as they are when taken or sent: mirrored, turned, cut,
                   darker, brighter, without colors, out of focus, compressed

An edit that learned one picture instead of who is in it gives the answer back here. What the
alteration hides from the base too shows in `base_attacked`.

Source: this project's; the test pictures of MLLMU-Bench (Liu et al. 2024, arXiv 2410.22108) are
other views of the same people. Cost: one generation pass a setting.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.attack.asking import ask_freely
from workbench.attack.attack import Cell
from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.fact import Request
from workbench.models.altered_vision import ALTERATIONS, altered
from workbench.models.model import Model
from workbench.models.pictured import pictures_of
from workbench.progress import SILENT, Progress

VIEW = "another view"
CHANGES = (VIEW, *ALTERATIONS)


@dataclass(frozen=True)
class PicturesConfig:
    """Settings of the attack by pictures.

    Attributes:
        changes: what is shown instead: another view, mirrored, turned, closer, darker, brighter,
            gray, blurred or compressed.
        seed: not used, for nothing is drawn.
    """

    changes: tuple[str, ...] = CHANGES
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: no change, or one that does not exist.
        """
        if not self.changes:
            raise WorkbenchError(f"Choose at least one change: {', '.join(CHANGES)}.")
        for change in self.changes:
            if change not in CHANGES:
                raise unknown_name("change of a picture", change, CHANGES)


def pictures(
    model: Model,
    request: Request,
    config: PicturesConfig,
    *,
    base: Model,
    progress: Progress = SILENT,
) -> tuple[Cell, ...]:
    """Ask the forget facts that show a picture through others.

    Raises:
        WorkbenchError: no fact to forget shows a picture.
    """
    config.check()
    shown = [fact for fact in request.forget if pictures_of(fact.prompt)]
    if model.vision is None or not shown:
        raise WorkbenchError(
            "No fact to forget shows a picture, so there is none to change; use the other attacks."
        )
    cells = []
    for change in progress.track(config.changes, "pictures"):
        if change == VIEW:
            seeing = model
            asked = [(fact, prompt) for fact in shown for prompt in fact.in_views(fact.prompt)]
        else:
            seeing = altered(model, change)
            asked = [(fact, fact.prompt) for fact in shown]
        note = "" if asked else "The facts to forget have no other views."
        outcomes = ask_freely(seeing, asked, request.behaviour, progress=progress) if asked else ()
        cells.append(Cell({"picture": change}, outcomes, note=note))
    return tuple(cells)
