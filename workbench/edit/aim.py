"""Where STAMP sends the forget activations, matrix by matrix: a target rule at work.

A target of the residual stream is asked of each matrix as far as the ones before it have not met
it. `counterpart` and `noise` may lie a little past the reference: R - beyond (B - R), where B is
what the base has. `relation` goes as far, but only by what the relations to forget read there.

Why past it: training on other facts moves the keys a little, an update then cancels what it was
solved for no longer quite, and a share of the old output shows again, for facts that were not
trained on too. An update that went as far past the reference ends on it. Too far, and the right
answer becomes the one that the model likes least, which tells it just as well. (This project's.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from workbench.edit.matrix import before_norm
from workbench.edit.readout import readout_change
from workbench.edit.relation_reading import Reading
from workbench.edit.stream import Stream
from workbench.edit.targets import TargetName, Task, output_change
from workbench.models.components import Writer
from workbench.models.model import Model
from workbench.models.noisy_vision import PictureNoise, blinded
from workbench.progress import SILENT, Progress


@dataclass(frozen=True, eq=False)
class Aim:
    """Where the forget activations are to go, read from the model before the edit.

    Attributes:
        base: a private copy of that model.
        task: what to move.
        target: by which rule.
        reference: the activations that say where to.
        own: what the base has at the forget positions; None where the aim is the reference itself.
        beyond: how far past the reference, as a share of the base's distance from it.
        margin: lead in logits of the wanted text, for target `logits`.
        dimensions: dimensions of the refusal subspace, for target `subspace`.
        reading: what of a change the relations to forget read, for target `relation`.
    """

    base: Any
    task: Task
    target: TargetName
    reference: Stream
    own: Stream | None
    beyond: float
    margin: float
    dimensions: int
    reading: Reading | None = None

    @staticmethod
    def of(
        model: Model,
        task: Task,
        target: TargetName,
        layers: list[int],
        *,
        beyond: float,
        margin: float,
        dimensions: int,
        noise: PictureNoise,
        reading: Reading | None = None,
        progress: Progress = SILENT,
    ) -> Aim:
        """Begin at the first of `layers`; `noise` destroys the pictures of the target `noise`."""
        label = "target activations"
        sequences = task.reference.sequences
        seeing = blinded(model, sequences, noise) if target == "noise" else model
        reference = Stream(seeing, task.reference, layers, label=label, progress=progress)
        own = None
        if reading is not None or (target in ("counterpart", "noise") and beyond > 0):
            own = Stream(model, task.forget, layers, label=label, progress=progress)
        base = model.fork().hf
        return Aim(base, task, target, reference, own, beyond, margin, dimensions, reading)

    def advance(self, layer: int) -> None:
        """Go on to a layer."""
        for stream in (self.reference, self.own):
            if stream is not None:
                stream.advance(self.base, layer)

    def asked(
        self, current: Model, forget: Stream, writer: Writer, left: int
    ) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n d_out"]]:
        """Return the forget keys of a matrix and the change its outputs are asked for.

        Args:
            current: the model as far as it is edited.
            forget: its activations, at the matrix's layer.
            writer: the matrix.
            left: how many matrices share what is asked of the stream, this one with them.
        """
        task = self.task
        x, y, after = forget.observe(current.hf, writer)
        if self.target in ("mean", "subspace"):
            _, y_ref, _ = self.reference.observe(self.base, writer)
            groups = (task.group, y_ref, task.reference_group)
            return x, output_change(self.target, y, *groups, dimensions=self.dimensions)
        if self.target == "logits":
            change = readout_change(current, task.forget, margin=self.margin) / left
        else:
            wanted = task.reference_means(self.reference.after(self.base))
            if self.own is not None:
                own = self.own.after(self.base)
                wanted = wanted - self.beyond * (own - wanted)
                if self.reading is not None:
                    read = self.reading.noticed(wanted - own, task.whose, forget.layer)
                    wanted = own + read
            change = (wanted - after) / left
        if writer.post_norm:
            change = before_norm(current.hf.get_submodule(writer.post_norm), y, change)
        return x, change
