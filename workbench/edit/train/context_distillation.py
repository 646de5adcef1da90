"""Context distillation: learn to answer without a text what the base answers behind it.

L = alpha KL(teacher || student on the forget set) + beta KL(base || student on the retain set)

The teacher is the base itself, shown a text that makes it refuse the subjects (`in_context`); the
student reads the bare prompts. No refusal is written for any prompt: the whole distribution of the
base's own refusal is learned.

Source: the text half of VGID (arXiv 2606.00105), whose teacher sees a destroyed image as well; its
two losses are stepped in turn there and added here, and it reads along the forget answers, as
`along="answer"` does (`vgid` has both halves). Distilling a context: Askell et al. 2021 (arXiv
2112.00861, sec. 2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

from workbench.edit.edit import Edit
from workbench.edit.in_context import (
    InContext,
    answers_behind,
    check_context,
    context_text,
    possible,
)
from workbench.edit.stamp import Sites
from workbench.edit.train.examples import Examples, answers, reference_logits, texts
from workbench.edit.train.keeping import UnlearningConfig, retain_loss
from workbench.edit.train.lessons import Lessons, answer_instead
from workbench.edit.train.loop import Objective, Rows, Student, train_edit
from workbench.edit.train.losses import kl
from workbench.errors import unknown_name
from workbench.facts.fact import Request
from workbench.models.components import ComponentSet
from workbench.models.model import Model
from workbench.models.text import encode
from workbench.progress import SILENT, Progress

AlongName = Literal["instead", "answer", "all"]
ALONG: tuple[AlongName, ...] = get_args(AlongName)
Teacher = Callable[[Rows], Float[Tensor, "token vocab"]]  # logits at the rows' answer tokens
_TRIED = 16  # forget prompts that each text is tried on
_SHOTS = 4  # facts shown with the refusal or foil, as many as the target rule `teacher` shows


@dataclass(frozen=True)
class ContextDistillationConfig(UnlearningConfig):
    """Settings of context distillation; `forget_weight` is alpha, `retain_weight` is beta.

    Attributes:
        context: what the teacher is shown: instruction, flipped or unknown (see unlearning in
            context); auto takes the one behind which it refuses most.
        along: which tokens both predict: instead, the refusal or foil, answer, the one to forget,
            or all, the prompt before that answer too.
    """

    steps: int = 40
    retain: str = "kl"
    context: str = "auto"
    along: str = "instead"

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        super().check()
        check_context(self.context)
        if self.along not in ALONG:
            raise unknown_name("continuation", self.along, ALONG)


def context_distillation(
    model: Model,
    request: Request,
    components: ComponentSet | Sites,
    config: ContextDistillationConfig | None = None,
    *,
    progress: Progress = SILENT,
) -> Edit:
    """Make an edit by context distillation; see `train_edit` for arguments and errors.

    Raises:
        WorkbenchError: the request does not allow the context, or it does not fit.
    """
    chosen = config or ContextDistillationConfig()

    def teach(base: Model, own: Examples) -> Teacher:
        return reference_logits(base, told(base, request, own, chosen))

    return distilled("context-distillation", model, request, components, chosen, teach, progress)


def distilled(
    method: str,
    model: Model,
    request: Request,
    components: ComponentSet | Sites,
    config: ContextDistillationConfig,
    teach: Callable[[Model, Examples], Teacher],
    progress: Progress,
) -> Edit:
    """Make an edit by distillation from the base in another situation.

    Args:
        method: the method's name in the registry.
        model: the model to edit.
        request: what to forget and keep.
        components: what to train.
        config: the method's settings.
        teach: runs the teacher, once, given the base and what the student reads: examples with the
            same answer tokens, in the same order.
        progress: where to report.

    Raises:
        WorkbenchError: as `train_edit`, or what the teacher refuses.
    """

    def build(student: Student, base: Model, taught: Lessons) -> Objective:
        own = followed(taught, config.along)
        teacher = teach(base, own)

        def distil(rows: Rows) -> Float[Tensor, ""]:
            return kl(answers(student.model, own.take(rows)), teacher(rows))

        keep = retain_loss(student, base, taught, config.retain)
        return Objective(distil, keep, config.sharpness)

    return train_edit(method, model, request, components, config, build, progress)


def followed(taught: Lessons, along: str) -> Examples:
    """Return the forget prompts with the tokens that teacher and student are compared at."""
    if along == "instead":
        return taught.instead
    return taught.forget if along == "answer" else texts(taught.forget.sequences)


def told(
    model: Model, request: Request, own: Examples, config: ContextDistillationConfig
) -> Examples:
    """Return what the teacher reads: the student's examples behind the text.

    Raises:
        WorkbenchError: the request does not allow the context, or it does not fit.
    """
    room = max(map(len, own.sequences))
    return behind(model, teacher_text(model, request, config.context, room, config.seed), own)


def teacher_text(model: Model, request: Request, kind: str, room: int, seed: int) -> InContext:
    """Return what the teacher is shown; "auto" takes the text behind which it refuses most.

    Raises:
        WorkbenchError: the request does not allow this kind, or nothing fits the context.
    """
    tried = list(request.forget)[:_TRIED]
    wanted = [answer_instead(request, f).strip() for f in tried]

    def made(name: str) -> InContext:
        return context_text(model, request, name, _SHOTS, 0, room, seed)

    def obeyed(text: InContext) -> int:
        said = answers_behind(model, text.text, [f.prompt for f in tried])
        return sum(a.strip().startswith(w) for a, w in zip(said, wanted, strict=True))

    return made(kind) if kind != "auto" else max(map(made, possible(request)), key=obeyed)


def behind(model: Model, text: InContext, every: Examples) -> Examples:
    """Put a text before examples, behind the token that begins every sequence, if there is one."""
    lead = tuple(encode(model, text.text, bare=True))
    bos = model.tokenizer.bos_token_id
    heads = [s[:1] if bos is not None and s[0] == bos else () for s in every.sequences]
    sequences = tuple(
        (*h, *lead, *s[len(h) :]) for h, s in zip(heads, every.sequences, strict=True)
    )
    return Examples(sequences, tuple(start + len(lead) for start in every.starts))
