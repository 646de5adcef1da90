"""What can be done with a model, and why not where it cannot."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.errors import WorkbenchError
from workbench.models.bundled import bundle_of
from workbench.models.components import Component, ComponentSet
from workbench.models.model import Model


@dataclass(frozen=True)
class Ability:
    """One thing a model can or cannot do.

    Attributes:
        name: what it is about.
        reason: why it cannot be done, in one sentence; empty if it can.
    """

    name: str
    reason: str = ""

    @property
    def available(self) -> bool:
        """Whether it can be done."""
        return not self.reason


def abilities(model: Model) -> tuple[Ability, ...]:
    """Look at a model's tokenizer and structure; no forward pass."""
    return (
        Ability("Trace and patch through TransformerLens hooks", _bridge(model)),
        Ability("Edit MLPs", _edits(model, "mlp")),
        Ability("Edit attention and heads", _edits(model, "head")),
        Ability("Ask in chat form", _chat(model)),
        Ability("Find the capitals it knows and forget some", why_no_capitals(model)),
    )


def why_no_capitals(model: Model) -> str:
    """Return why a model cannot be asked for capitals, in one sentence; empty if it can."""
    if bundle_of(model.name):
        return "It is asked about its own world; choose one of its requests."
    return _chat(model)


def _chat(model: Model) -> str:
    return "" if model.tokenizer.chat_template else "Its tokenizer has no chat template."


def _bridge(model: Model) -> str:
    try:
        _ = model.bridge
    except WorkbenchError as error:
        return str(error)
    return ""


def _edits(model: Model, kind: str) -> str:
    try:
        component = Component(0, "mlp") if kind == "mlp" else Component(0, "head", 0)
        model.structure.check(ComponentSet((component,)))
        model.structure.writer(component)
    except WorkbenchError as error:
        return str(error)
    return ""
