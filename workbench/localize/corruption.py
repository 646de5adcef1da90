"""How a prompt loses its subject: Gaussian noise, another subject's tokens, or a noised picture.

All give token embeddings, so every engine runs them the same way: `inputs_embeds` for the clean
run and one row per sample for the corrupted ones. Replacement stays in distribution, noise does
not (Zhang & Nanda 2023, arXiv 2309.16042, sec. 3).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.fact import FactSet
from workbench.facts.prompts import Prompt, tokenize
from workbench.models.embeddings import embed, embed_with
from workbench.models.model import Model
from workbench.models.noisy_vision import NOISES, PictureNoise
from workbench.models.vision import pixels_for

CorruptionName = Literal["noise", "replace", "image", "image-gaussian", "image-patches"]


@dataclass(frozen=True, eq=False)
class Pair:
    """A clean prompt and its corrupted versions.

    Attributes:
        prompt: tokens, roles and fact of the clean prompt; where target and foil begin alike, the
            shared tokens stand at its end, so that the next token tells them apart.
        ids: clean token ids.
        clean: clean token embeddings.
        corrupted: corrupted token embeddings, one row per sample.
        target: first token of the right answer that a wrong one would not share.
        foil: the wrong answer's token at the same place, if the fact has a foil.
    """

    prompt: Prompt
    ids: Int[Tensor, " pos"]
    clean: Float[Tensor, "1 pos d_model"]
    corrupted: Float[Tensor, "sample pos d_model"]
    target: int
    foil: int | None

    @property
    def first_corrupted(self) -> int:
        """First position whose embedding differs in any sample; nothing before it can matter."""
        differs = (self.corrupted != self.clean).any(-1).any(0)
        where = differs.nonzero()
        return int(where[0]) if len(where) else len(self.ids)


@dataclass(frozen=True)
class Noise:
    """Gaussian noise on the subject's token embeddings (Meng et al. 2022, arXiv 2202.05262).

    Attributes:
        multiple: standard deviation in units of that of all subjects' token embeddings.
        samples: noise samples per fact.
        seed: seed of the noise, the same for every fact.
    """

    multiple: float = 3.0
    samples: int = 10
    seed: int = 0
    name: CorruptionName = "noise"

    def pairs(self, model: Model, facts: FactSet) -> list[Pair]:
        """Build one pair per fact."""
        prompts = [distinguish(tokenize(model, f)) for f in facts]
        with torch.no_grad():
            clean = [embed(model, [p.ids]) for p in prompts]
        spans = [slice(*p.subject) for p in prompts]
        subjects = [c[0, s] for c, s in zip(clean, spans, strict=True)]
        sigma = self.multiple * float(torch.cat(subjects).float().std())
        out = []
        for prompt, embeddings, span in zip(prompts, clean, spans, strict=True):
            generator = torch.Generator().manual_seed(self.seed)
            shape = (self.samples, span.stop - span.start, embeddings.shape[-1])
            noise = sigma * torch.randn(shape, generator=generator)
            corrupted = embeddings.repeat(self.samples, 1, 1)
            corrupted[:, span] += noise.to(embeddings)
            out.append(_pair(model, prompt, embeddings, corrupted))
        return out


@dataclass(frozen=True)
class Replacement:
    """Symmetric token replacement: another subject of as many tokens, from the same fact set.

    Subjects whose answer is the same are passed over where the set has others.

    Attributes:
        samples: other subjects per fact, drawn without replacement; fewer if there are not as many.
        seed: seed of the draw.
    """

    samples: int = 3
    seed: int = 0
    name: CorruptionName = "replace"

    def pairs(self, model: Model, facts: FactSet) -> list[Pair]:
        """Build one pair per fact; facts whose subject's length no other has are left out.

        Raises:
            WorkbenchError: that leaves no fact at all.
        """
        prompts = [distinguish(tokenize(model, f)) for f in facts]
        pick = random.Random(self.seed)
        out = []
        for prompt in prompts:
            others = self._others(prompt, prompts)
            if not others:
                continue
            chosen = pick.sample(others, min(self.samples, len(others)))
            first, end = prompt.subject
            replaced = [(*prompt.ids[:first], *other, *prompt.ids[end:]) for other in chosen]
            with torch.no_grad():
                clean, corrupted = embed(model, [prompt.ids]), embed(model, replaced)
            out.append(_pair(model, prompt, clean, corrupted))
        if not out:
            raise WorkbenchError(
                "No subject has as many tokens as another one, so none can be replaced; add facts "
                "about more subjects, or corrupt with noise."
            )
        return out

    @staticmethod
    def _others(prompt: Prompt, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
        def span(p: Prompt) -> tuple[int, ...]:
            return p.ids[slice(*p.subject)]

        own, length = span(prompt), len(span(prompt))
        same = [p for p in prompts if len(span(p)) == length and span(p) != own]
        other_answer = [p for p in same if p.fact.target != prompt.fact.target]
        return sorted({span(p) for p in (other_answer or same)})


@dataclass(frozen=True)
class ImageNoise:
    """The picture's pixels replaced by noise, or its patches shuffled; the words are left.

    Attributes:
        samples: noise samples per fact.
        seed: seed of the noise, the same for every fact.
        kind: how, as VGID destroys pictures (`PictureNoise`): uniform, gaussian or patches.
        strength: of gaussian noise, in standard deviations.
    """

    samples: int = 3
    seed: int = 0
    kind: str = "uniform"
    strength: float = 3.0
    name: CorruptionName = field(default="image", init=False)

    def __post_init__(self) -> None:
        """Take the name that goes with the kind.

        Raises:
            WorkbenchError: no such kind.
        """
        if self.kind not in NOISES:
            raise unknown_name("noise", self.kind, NOISES)
        if self.kind != "uniform":
            object.__setattr__(self, "name", f"image-{self.kind}")

    def pairs(self, model: Model, facts: FactSet) -> list[Pair]:
        """Build one pair per fact; facts without an image are left out.

        Raises:
            WorkbenchError: that leaves no fact at all.
        """
        prompts = [distinguish(tokenize(model, f)) for f in facts if f.image is not None]
        if not prompts:
            raise WorkbenchError(
                "None of these facts has an image, so none can be noised; corrupt the subject's "
                "words with noise, or give facts with images."
            )
        assert model.vision is not None  # else its prompts could not be tokenized
        noise, grid, out = PictureNoise(self.kind, self.strength), model.vision.grid, []
        for prompt in prompts:
            generator = torch.Generator().manual_seed(self.seed)
            pixels = pixels_for(model.vision, [prompt.ids], model.device)
            seen = list(pixels["pixel_values"]) * self.samples
            noised = torch.stack([noise.over(picture, grid, generator) for picture in seen])
            with torch.no_grad():
                clean = embed_with(model, [prompt.ids], pixels)
                many = {"pixel_values": noised}
                corrupted = embed_with(model, [prompt.ids] * self.samples, many)
            out.append(_pair(model, prompt, clean, corrupted))
        return out


Corruption = Noise | Replacement | ImageNoise
CORRUPTIONS: Mapping[CorruptionName, Callable[..., Corruption]] = {
    "noise": Noise,
    "replace": Replacement,
    "image": ImageNoise,
    "image-gaussian": partial(ImageNoise, kind="gaussian"),
    "image-patches": partial(ImageNoise, kind="patches"),
}


def corruptions_for(model: Model) -> tuple[CorruptionName, ...]:
    """Return the corruptions that a model allows: pictures are lost only where they are seen."""
    words: tuple[CorruptionName, ...] = ("noise", "replace")
    return words if model.vision is None else tuple(CORRUPTIONS)


def corruption_named(name: str) -> Callable[..., Corruption]:
    """Look a corruption up; what is found makes it, given its settings.

    Raises:
        WorkbenchError: there is none of this name.
    """
    if name not in CORRUPTIONS:
        raise unknown_name("corruption", name, CORRUPTIONS)
    return CORRUPTIONS[name]  # type: ignore[index]


def left_out(facts: FactSet, pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Return the prompts of the facts that have no pair: unknown, or not to be corrupted."""
    used = {pair.prompt.fact for pair in pairs}
    return tuple(fact.prompt for fact in facts if fact not in used)


def distinguish(prompt: Prompt) -> Prompt:
    """Move tokens that target and foil share from their beginning to the end of the prompt."""
    if prompt.foil is None:
        return prompt
    shared = 0
    while (
        shared < min(len(prompt.target), len(prompt.foil)) - 1
        and prompt.target[shared] == prompt.foil[shared]
    ):
        shared += 1
    return Prompt(
        prompt.fact,
        prompt.ids + prompt.target[:shared],
        prompt.subject,
        prompt.target[shared:],
        prompt.foil[shared:],
    )


def _ids(model: Model, prompt: Prompt) -> Int[Tensor, " pos"]:
    return torch.tensor(prompt.ids, device=model.device)


def _pair(model: Model, prompt: Prompt, clean: Tensor, corrupted: Tensor) -> Pair:
    foil = prompt.foil[0] if prompt.foil else None
    return Pair(prompt, _ids(model, prompt), clean, corrupted, prompt.target[0], foil)
