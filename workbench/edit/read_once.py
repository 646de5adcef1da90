"""What a model has at some positions behind each layer, read once for all edits of that model.

The subjects that it does not know, to whom forgotten ones are sent, are the same for the next edit;
an edit that is tried again with other settings needs the forget positions again as well.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from workbench.edit.rows import Rows
from workbench.edit.stream import Stream
from workbench.models.model import Model
from workbench.progress import SILENT, Progress
from workbench.recent import remember

_MOST_NUMBERS = 1 << 22  # in what is kept of one layer: 16 MB of float32
_MOST_KEPT = 64
LABEL = "target activations"
KEPT: dict[tuple[Any, ...], Tensor] = {}


class ReadOnce:
    """The residual stream of a model at the positions of some rows."""

    def __init__(
        self, model: Model, rows: Rows, layers: list[int], *, progress: Progress = SILENT
    ) -> None:
        self._model, self._rows, self._layers, self._progress = model, rows, layers, progress
        self._source = (*model.identity, str(model.device), rows)
        self._stream: Stream | None = None

    def after(self, layer: int) -> Float[Tensor, "pick d_model"]:
        """Return the stream behind a layer; layers are asked for in their order."""
        if len(self._rows) * self._model.d_model > _MOST_NUMBERS:
            return self._read(layer)
        return remember(KEPT, (*self._source, layer), lambda: self._read(layer), most=_MOST_KEPT)

    def _read(self, layer: int) -> Float[Tensor, "pick d_model"]:
        if self._stream is None:
            left = [own for own in self._layers if own >= layer]
            self._stream = Stream(
                *(self._model, self._rows, left),
                progress=self._progress,
                label=LABEL,
            )
        self._stream.advance(self._model.hf, layer)
        return self._stream.after(self._model.hf)
