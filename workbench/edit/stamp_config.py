"""Settings of a STAMP edit (`stamp`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.edit.buffer import Site
from workbench.edit.solvers import SOLVERS, SolverName
from workbench.edit.targets import TARGETS, TargetName
from workbench.errors import WorkbenchError, unknown_name
from workbench.models.noisy_vision import NOISES

SITES: tuple[Site, ...] = ("subject", "answer")


@dataclass(frozen=True)
class StampConfig:
    """Settings of one STAMP edit.

    Attributes:
        at: site of a plain component set; ignored where components are given per site.
        tokens: how many of the subject's tokens, from its last backwards, the subject site has.
        target: target rule; "auto" takes the one that goes with the request's behaviour and site.
        solve: solver.
        strength: multiple of the asked change.
        beyond: how far past the reference the target `counterpart` lies, as a share of the base's
            own distance from it; against relearning.
        read: prompts that each relation is read from, for target `relation`.
        spare: weight of the subject's relations to keep against those to forget, for `relation`.
        damp: weight of the change's own size, for `relation`.
        spread: share the asked change of the stream out over the matrices still to come, as MEMIT
            does; otherwise each is asked for all that is left, so that later tokens never see what
            earlier layers could already remove.
        weight: w, weight of a forget key against a retain key, for `lstsq`.
        ridge: lambda, in units of the mean squared retain key.
        rank: directions of the keys that are used (STAMP-LR); None for all.
        counterparts: unknown subjects a target is averaged over.
        dimensions: dimensions of the refusal subspace, for target `subspace`.
        noise: how a picture is destroyed for target `noise`: uniform, every pixel is replaced by
            noise, gaussian, noise is added, or patches, the picture's patches are shuffled.
        noise_strength: of gaussian noise, in standard deviations of the pixels that the vision
            tower was trained on.
        margin: lead in logits of the wanted text, for target `logits`.
        confusable: prompts about other subjects in the same wordings, in the retain buffer.
        named: subjects wanted for such prompts; the model names itself what the request lacks.
        confusable_weight: weight of their site positions.
        related_weight: weight of the site positions in kept facts about the very subjects to
            forget; ten times that of a forget key keeps them.
        context: kept facts with the model's own answers, in the retain buffer.
        generations: texts the model makes up, in the retain buffer.
        chats: conversations a chat model makes up, in the retain buffer.
        context_weight: weight of every other retained position.
        seed: seed of every draw.
    """

    at: Site = "subject"
    tokens: int = 3
    target: TargetName | Literal["auto"] = "auto"
    solve: SolverName = "lstsq"
    strength: float = 1.0
    beyond: float = 0.1
    read: int = 240
    spare: float = 5.0
    damp: float = 5.0
    spread: bool = False
    weight: float = 30.0
    ridge: float = 1e-4
    rank: int | None = None
    counterparts: int = 16
    dimensions: int = 8
    noise: str = "uniform"
    noise_strength: float = 3.0
    margin: float = 4.0
    confusable: int = 1500
    named: int = 400
    confusable_weight: float = 1.0
    related_weight: float = 300.0
    context: int = 100
    generations: int = 32
    chats: int = 32
    context_weight: float = 1.0
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        for kind, value, known in (
            ("site", self.at, SITES),
            ("target", self.target, ("auto", *TARGETS)),
            ("solver", self.solve, SOLVERS),
            ("noise", self.noise, NOISES),
        ):
            if value not in known:
                raise unknown_name(kind, value, known)
        positive = ("tokens", "weight", "ridge", "counterparts", "strength", "margin", "read")
        for name in (*positive, "damp", "noise_strength"):
            if not getattr(self, name) > 0:
                raise WorkbenchError(f"{name} must be positive, not {getattr(self, name)}.")
        if not self.spare >= 0:
            raise WorkbenchError(f"spare must not be negative, not {self.spare}.")
        if not 0 <= self.beyond <= 1:
            raise WorkbenchError(f"beyond must be between 0 and 1, not {self.beyond}.")
        if self.rank is not None and self.rank < 1:
            raise WorkbenchError(f"The rank must be at least 1, not {self.rank}.")
