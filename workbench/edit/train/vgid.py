"""VGID: learn to answer at a picture what the base answers where the picture is destroyed.

    teacher  the base, shown noise in the place of the picture, behind a text that asks to refuse
    student  reads the bare prompt and sees the picture
    L = alpha KL(teacher || student on the forget set) + beta KL(base || student on the retain set)

No refusal is written and no other model is asked: what the base says where it cannot know who is
shown is what the student learns to say. A forget picture is destroyed wherever the teacher meets
it, in the examples of the text too. Facts and wordings that show none are left to the text.

Source: Visual-Noise Guided In-Context Distillation (Chen et al. 2026, arXiv 2606.00105). The
authors' code has the noise alone, in the form `kind=uniform`, `text=false`, `along=all`; it draws
the noise anew at every step and takes steps of both losses in turn. Here the noise is drawn once
for each picture, so that the teacher is run once, and the losses are added. The text alone,
`noise=false`, is context distillation.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.edit.edit import Edit
from workbench.edit.stamp import Sites
from workbench.edit.train.context_distillation import (
    ContextDistillationConfig,
    Teacher,
    distilled,
    told,
)
from workbench.edit.train.examples import Examples, reference_logits
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet, Request
from workbench.models.components import ComponentSet
from workbench.models.model import Model
from workbench.models.noisy_vision import NOISES, PictureNoise, blinded
from workbench.models.pictured import pictures_of, short
from workbench.progress import SILENT, Progress


@dataclass(frozen=True)
class VgidConfig(ContextDistillationConfig):
    """Settings of VGID; `forget_weight` is alpha, `retain_weight` is beta.

    Attributes:
        noise: whether the teacher sees the pictures of the forget set destroyed.
        kind: how: uniform, every pixel is replaced by noise, gaussian, noise is added, or patches,
            the picture's patches are shuffled.
        strength: of gaussian noise, in standard deviations of the pixels that the vision tower
            was trained on.
        text: whether the teacher is shown the text.
    """

    along: str = "answer"
    noise: bool = True
    kind: str = "uniform"
    strength: float = 3.0
    text: bool = True

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        super().check()
        self.check_choice("kind", NOISES)
        self.check_signs(positive=("strength",))
        if not (self.noise or self.text):
            raise WorkbenchError(
                "Without noise and without text the teacher is the model itself; switch one on."
            )


def vgid(
    model: Model,
    request: Request,
    components: ComponentSet | Sites,
    config: VgidConfig | None = None,
    *,
    progress: Progress = SILENT,
) -> Edit:
    """Make an edit by VGID; see `train_edit` for arguments and errors.

    Raises:
        WorkbenchError: there is no picture to destroy, or with the noise alone a fact without one;
            or the request does not allow the context, or it does not fit.
    """
    chosen = config or VgidConfig()
    chosen.check()
    if chosen.noise:
        check_pictures(model, request.forget, told=chosen.text)

    def teach(base: Model, own: Examples) -> Teacher:
        noise = PictureNoise(chosen.kind, chosen.strength, chosen.seed)
        seeing = blinded(base, own.sequences, noise) if chosen.noise else base
        shown = told(seeing, request, own, chosen) if chosen.text else own
        return reference_logits(seeing, shown)

    return distilled("vgid", model, request, components, chosen, teach, progress)


def check_pictures(model: Model, facts: FactSet, *, told: bool) -> None:
    """Check that there is a picture to destroy; in every fact, where no text teaches the rest.

    Raises:
        WorkbenchError: the model reads text only, or facts have no image.
    """
    if model.vision is None:
        raise WorkbenchError(
            "VGID destroys pictures, and this model reads text only; use a model of the LLaVA "
            "form, noise=false, or another method."
        )
    blank = [fact for fact in facts if not pictures_of(fact.prompt)]
    if blank and (not told or len(blank) == len(facts)):
        raise WorkbenchError(
            f"VGID destroys pictures, and {short(blank[0].prompt)} shows none; give the fact an "
            "image, or use noise=false."
        )
