"""The bundled worlds: each a model of invented people, its oracle, and the facts both are asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workbench.models.paths import data_dir


@dataclass(frozen=True)
class Bundle:
    """A model, the same model trained without the facts to forget, and the world they speak of.

    Attributes:
        model: the model's name; its folder of data has it too.
        request: the request that the model is shown with.
        sees: whether it is asked through pictures.
    """

    model: str
    request: str
    sees: bool = False

    @property
    def oracle(self) -> str:
        """The name of the model that never saw the facts to forget."""
        return f"{self.model}-oracle"

    @property
    def folder(self) -> Path:
        """Where everything of it is."""
        return data_dir() / self.model

    @property
    def facts(self) -> Path:
        """The folder of fact files, with the requests' names in `requests.json`."""
        return self.folder / "facts"

    @property
    def weights(self) -> dict[str, Path]:
        """The folder of each model by its name."""
        return {self.model: self.folder / "model", self.oracle: self.folder / "oracle"}


BUNDLES = (Bundle("demo", "athletes"), Bundle("demo-vision", "people-8", sees=True))


def bundle_of(model: str) -> Bundle | None:
    """Return the bundle of a model or an oracle, by its name; None for any other model."""
    return next((b for b in BUNDLES if model in b.weights), None)
