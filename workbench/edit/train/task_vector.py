"""Task-vector negation: learn the forget set by heart, then go the other way.

W' = W - alpha (W_learned - W)

The forget answers are learned further with nothing held against it, and the change is subtracted.
There is no retain loss; alpha alone trades forgetting for damage.

Source: Ilharco et al. 2023 (arXiv 2212.04089, sec. 3, forgetting by negation), as an unlearning
baseline in Shi et al. 2024 (MUSE, arXiv 2407.06460).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from workbench.edit.edit import Edit, finish_by
from workbench.edit.stamp import Sites
from workbench.edit.train.config import TrainingConfig
from workbench.edit.train.examples import answers
from workbench.edit.train.lessons import to_forget
from workbench.edit.train.loop import Objective, Student, descend, union
from workbench.edit.train.losses import nll
from workbench.facts.fact import Request
from workbench.models.components import ComponentSet
from workbench.models.model import Model
from workbench.progress import SILENT, Progress


@dataclass(frozen=True)
class TaskVectorConfig(TrainingConfig):
    """Settings of task-vector negation; those of the retain side have no part in it.

    Attributes:
        alpha: how many times the learned change is subtracted.
    """

    steps: int = 10
    lr: float = 1e-4
    alpha: float = 4.0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        super().check()
        self.check_signs(positive=("alpha",))


def task_vector(
    model: Model,
    request: Request,
    components: ComponentSet | Sites,
    config: TaskVectorConfig | None = None,
    *,
    progress: Progress = SILENT,
) -> Edit:
    """Make an edit by subtracting what learning the forget set adds.

    See `train_edit` for arguments and errors; nothing needs to be retained.
    """
    started = time.perf_counter()
    config = config or TaskVectorConfig()
    config.check()
    chosen = union(components)
    student = Student.of(model, chosen)
    forget, _ = to_forget(model, request)
    learn = Objective(lambda rows: nll(answers(student.model, forget.take(rows))), None)
    steps = descend(student, learn, (len(forget), 0), config, progress)
    updates = {name: u.scaled(-config.alpha) for name, u in student.updates().items()}
    return finish_by(
        "task-vector", model, request, chosen, updates, config, steps=steps, started=started
    )
