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
from workbench.edit.read_once import LABEL, ReadOnce
from workbench.edit.readout import readout_change
from workbench.edit.relation_reading import Reading
from workbench.edit.stream import Stream
from workbench.edit.targets import TargetName, Task, output_change
from workbench.models.components import Writer
from workbench.models.model import Model
from workbench.models.noisy_vision import PictureNoise, blinded
from workbench.progress import SILENT, Progress

_OF_OUTPUTS = ("mean", "subspace")


@dataclass(frozen=True, eq=False)
class Aim:
    """Where the forget activations are to go, read from the model before the edit.

    Attributes:
        task: what to move.
        target: by which rule.
        reference: the stream at the positions that say where to.
        outputs: the same positions for the targets `mean` and `subspace`, which go by what the
            matrices write; None for the others.
        base: a private copy of the model to read these through.
        own: what the base has at the forget positions; None where the aim is the reference itself.
        beyond: how far past the reference, as a share of the base's distance from it.
        margin: lead in logits of the wanted text, for target `logits`.
        dimensions: dimensions of the refusal subspace, for target `subspace`.
        reading: what of a change the relations to forget read, for target `relation`.
    """

    task: Task
    target: TargetName
    reference: ReadOnce
    outputs: Stream | None
    base: Any
    own: ReadOnce | None
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
        sequences = task.reference.sequences
        seeing = blinded(model, sequences, noise) if target == "noise" else model
        reference = ReadOnce(seeing, task.reference, layers, progress=progress)
        own = outputs = None
        if reading is not None or (target in ("counterpart", "noise") and beyond > 0):
            own = ReadOnce(model, task.forget, layers, progress=progress)
        if target in _OF_OUTPUTS:
            outputs = Stream(model, task.reference, layers, label=LABEL, progress=progress)
        how = (beyond, margin, dimensions, reading)
        return Aim(task, target, reference, outputs, model.fork().hf, own, *how)

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
        task, layer = self.task, forget.layer
        x, y, after = forget.observe(current.hf, writer)
        if self.outputs is not None:
            self.outputs.advance(self.base, layer)
            _, y_ref, _ = self.outputs.observe(self.base, writer)
            groups = (task.group, y_ref, task.reference_group)
            return x, output_change(self.target, y, *groups, dimensions=self.dimensions)
        if self.target == "logits":
            change = readout_change(current, task.forget, margin=self.margin) / left
        else:
            wanted = task.reference_means(self.reference.after(layer))
            if self.own is not None:
                own = self.own.after(layer)
                wanted = wanted - self.beyond * (own - wanted)
                if self.reading is not None:
                    read = self.reading.noticed(wanted - own, task.whose, layer)
                    wanted = own + read
            change = (wanted - after) / left
        if writer.post_norm:
            change = before_norm(current.hf.get_submodule(writer.post_norm), y, change)
        return x, change
