"""Who's Harry Potter: learn what a model would say that never read about the subject.

Each prompt with its answer is a text x. A translation x' puts another subject in the place of the
one to forget, and that one's answer in the place of the answer (the anchored terms). Labels are

    argmax of  v_generic = v_base(x') - alpha ReLU(v_reinforced(x) - v_base(x'))

where the reinforced model learned the forget set further, and the model is trained on (x, labels).
Rules that keep the labels consistent:

- A term and its translation may differ in length: positions correspond where as much of both texts
  was read. Inside a term nothing corresponds, so nothing is learned there.
- A term's second occurrence is not learned: a text that holds "Harry" is no place to learn that he
  is called "Jon".
- Translations of terms that occurred before are held down, for the same reason.

The model learns no refusal: it answers as if asked about someone else.

Source: Eldan & Russinovich 2023 (arXiv 2310.02238, eq. 1 and sec. 2). There a language model wrote
a dictionary of terms for a book; here terms and translations come from the request. A retain loss
is added, which they have not: `retain_weight=0` is the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from workbench.edit.edit import Edit
from workbench.edit.stamp import Sites
from workbench.edit.train.examples import Examples, answers
from workbench.edit.train.keeping import UnlearningConfig, retain_loss
from workbench.edit.train.lessons import Lessons
from workbench.edit.train.loop import Objective, Rows, Student, descend, train_edit
from workbench.edit.train.losses import nll
from workbench.edit.train.translation import Block, request_blocks
from workbench.facts.fact import Request
from workbench.models.components import ComponentSet
from workbench.models.model import Model
from workbench.models.text import batches
from workbench.progress import SILENT, Progress

IGNORED = -100  # label of a token that is not learned


@dataclass(frozen=True)
class HarryPotterConfig(UnlearningConfig):
    """Settings of Who's Harry Potter.

    Attributes:
        alpha: weight of what the reinforced model raised.
        reinforce_steps: steps in which the reinforced model learns the forget set.
        reinforce_lr: its largest learning rate.
        penalty: by how much the logits of translations of earlier terms are lowered.
    """

    steps: int = 40
    alpha: float = 5.0
    reinforce_steps: int = 10
    reinforce_lr: float = 3e-4
    penalty: float = 5.0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        super().check()
        self.check_signs(
            positive=("reinforce_steps", "reinforce_lr"), not_negative=("alpha", "penalty")
        )


def harry_potter(
    model: Model,
    request: Request,
    components: ComponentSet | Sites,
    config: HarryPotterConfig | None = None,
    *,
    progress: Progress = SILENT,
) -> Edit:
    """Make an edit by learning generic answers; see `train_edit` for arguments and errors.

    Raises:
        WorkbenchError: the request retains nothing with another answer in a relation to forget.
    """
    chosen = config or HarryPotterConfig()

    def build(student: Student, base: Model, taught: Lessons) -> Objective:
        blocks = request_blocks(base, request, chosen.seed)
        forget = originals(blocks)
        expert = reinforced(base, forget, chosen, progress)
        labels = generic_labels(base, expert, blocks, chosen.alpha, chosen.penalty)

        def generic(rows: Rows) -> Float[Tensor, ""]:
            said = answers(student.model, forget.take(rows))
            own = labels[forget.tokens_of(rows)].to(said.logits.device)
            lost = F.cross_entropy(said.logits, own, ignore_index=IGNORED, reduction="sum")
            return lost / (own != IGNORED).sum().clamp_min(1)

        keep = retain_loss(student, base, taught, chosen.retain)
        return Objective(generic, keep, chosen.sharpness)

    return train_edit("harry-potter", model, request, components, chosen, build, progress)


def reinforced(
    model: Model, forget: Examples, config: HarryPotterConfig, progress: Progress
) -> Model:
    """Return the model after it learned the forget set further, every component of it."""
    student = Student.of(model, model.structure.everything)
    learn = Objective(lambda rows: nll(answers(student.model, forget.take(rows))), None)
    more = replace(config, steps=config.reinforce_steps, lr=config.reinforce_lr, forget_weight=1.0)
    descend(student, learn, (len(forget), 0), more, progress)
    return student.model


def originals(blocks: Sequence[Block]) -> Examples:
    """Return the texts of blocks as examples."""
    return Examples(tuple(b.ids for b in blocks), tuple(b.start for b in blocks))


def generic_logits(
    base: Float[Tensor, "token vocab"], raised: Float[Tensor, "token vocab"], alpha: float
) -> Float[Tensor, "token vocab"]:
    """Return v_base - alpha ReLU(v_reinforced - v_base): eq. 1."""
    return base - alpha * (raised - base).relu()


@torch.no_grad()
def generic_labels(
    base: Model, expert: Model, blocks: Sequence[Block], alpha: float, penalty: float
) -> Int[Tensor, " token"]:
    """Return what to learn at each answer token of the blocks, `IGNORED` where nothing is.

    Args:
        base: reads the translations.
        expert: the reinforced model; it reads the texts themselves.
        blocks: texts with their translations.
        alpha: of eq. 1.
        penalty: taken off the logits of translations of earlier terms.
    """
    own = originals(blocks)
    firsts = tuple(
        min((t for t in b.twins if t is not None), default=len(b.translated) - 2) + 1
        for b in blocks
    )
    other = Examples(tuple(b.translated for b in blocks), firsts)
    labels = torch.full((own.n_tokens,), IGNORED)
    for batch in batches(base, own.sequences):
        mine, theirs = own.take(batch.rows), other.take(batch.rows)
        found = [
            (own.offsets[i] + k, mine.offsets[r] + k, theirs.offsets[r] + t + 1 - firsts[i], held)
            for r, i in enumerate(batch.rows)
            for k, (t, held) in enumerate(zip(blocks[i].twins, blocks[i].earlier, strict=True))
            if t is not None
        ]
        if not found:
            continue
        token, here, there, earlier = (list(column) for column in zip(*found, strict=True))
        v = generic_logits(
            answers(base, theirs).logits[there],
            answers(expert, mine).logits[here],
            alpha,
        )
        for k, held in enumerate(earlier):
            v[k, list(held)] -= penalty
        labels[token] = v.argmax(-1).cpu()
    return labels
