"""Train the vision tower: a small CLIP tower that learns to describe what is seen.

It sees strangers and scenes, never the people of the world, and every patch of its last layer must
tell all traits of a face, or color, shape and count. So it knows nobody: who somebody is, the
language model has to learn, and a model and its oracle may look through the same tower.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float16, Int, UInt8
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from workbench.demo.train import Recipe, optimizers, update
from workbench.demo_vision.checkpoint import Checkpoint
from workbench.demo_vision.faces import TRAITS
from workbench.demo_vision.gallery import Gallery
from workbench.demo_vision.pen import SIDE
from workbench.demo_vision.portraits import CLOTHES, draw_view, portrait
from workbench.demo_vision.scenes import SCENES, draw_scene, scene_picture
from workbench.demo_vision.world import World
from workbench.progress import SILENT, Progress

TOWER = Recipe(steps=4000, documents=64, matrix_rate=1e-2, other_rate=4e-3, warmup=30)
HEADS: dict[str, int] = {
    **{name: len(options) for name, options in {**TRAITS, **SCENES}.items()},
    "clothes": len(CLOTHES),
}
NO_LABEL = -100
FACES = 0.65  # share of the pictures
PATCH, WIDTH = 16, 128


def configuration() -> CLIPVisionConfig:
    """Return the architecture: 4 layers, width 128, 16 patches."""
    return CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
    )


class Describer(nn.Module):
    """A tower and a linear reading of every patch, used in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = CLIPVisionModel(configuration())
        self.heads = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, sum(HEADS.values())))

    def forward(
        self, pixels: Float[Tensor, "image 3 height width"]
    ) -> list[Float[Tensor, "image patch option"]]:
        """Return what each patch says of each trait, as logits in the order of `HEADS`."""
        said = self.heads(patches(self.tower, pixels))
        return list(said.split(list(HEADS.values()), -1))


def patches(
    tower: CLIPVisionModel, pixels: Float[Tensor, "image 3 height width"]
) -> Float[Tensor, "image patch width"]:
    """Return what the projector reads: the last layer, without the class token."""
    seen: Any = tower(pixel_values=pixels, output_hidden_states=True)
    return seen.hidden_states[-1][:, 1:]


def scaled(pixels: UInt8[np.ndarray, "image height width 3"]) -> Float[Tensor, "image 3 height w"]:
    """Return pixel values as the image processor makes them: from -1 to 1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def draw_labelled(world: World, rng: random.Random) -> tuple[np.ndarray, list[int]]:
    """Draw a picture of a stranger or of shapes, and the right answer of each head."""
    if rng.random() < FACES:
        face, view = world.stranger_face(rng), draw_view(rng)
        image, labels = portrait(face, view), face.labels()
        labels = {k: v for k, v in labels.items() if k not in face.hidden()}
        labels["clothes"] = view.clothes
    else:
        scene = draw_scene(rng)
        image, labels = scene_picture(scene, rng), scene.labels()
    return np.asarray(image), [labels.get(head, NO_LABEL) for head in HEADS]


def draw_batch(
    world: World, rng: random.Random, count: int
) -> tuple[Float[Tensor, "image 3 height width"], Int[Tensor, "image head"]]:
    """Draw pictures with their labels; `NO_LABEL` where a head has nothing to say."""
    drawn = [draw_labelled(world, rng) for _ in range(count)]
    return scaled(np.stack([p for p, _ in drawn])), torch.tensor([y for _, y in drawn])


def description_loss(
    said: list[Float[Tensor, "image patch option"]], labels: Int[Tensor, "image head"]
) -> Float[Tensor, ""]:
    """Return the mean over patches of the summed losses of all heads, for one picture."""
    losses = [
        nn.functional.cross_entropy(
            logits.flatten(0, 1),
            labels[:, i].repeat_interleave(logits.shape[1]),
            ignore_index=NO_LABEL,
            reduction="sum",
        )
        for i, logits in enumerate(said)
    ]
    return torch.stack(losses).sum() / (len(labels) * said[0].shape[1])


def train_tower(
    world: World,
    recipe: Recipe = TOWER,
    *,
    progress: Progress = SILENT,
    checkpoint: Checkpoint | None = None,
) -> CLIPVisionModel:
    """Train a tower from scratch, or go on from a checkpoint, and return it."""
    torch.manual_seed(recipe.seed)
    model, rng = Describer().train(), random.Random(f"tower {recipe.seed}")
    made = optimizers(model, recipe)
    first = checkpoint.restore(model, made, rng) if checkpoint else 0
    for step in range(first, recipe.steps):
        pixels, labels = draw_batch(world, rng, recipe.documents)
        loss = description_loss(model(pixels), labels)
        loss.backward()
        update(made, step, recipe)
        if checkpoint:
            checkpoint.keep(step + 1, model, made, rng)
        progress.step(step + 1, recipe.steps, f"seeing, loss {float(loss.detach()):.3f}")
    return model.tower.eval()


@torch.no_grad()
def right_descriptions(
    model: Describer, world: World, rng: random.Random, count: int
) -> dict[str, float]:
    """Return the share of fresh pictures that each head describes rightly, patches averaged."""
    pixels, labels = draw_batch(world, rng, count)
    out = {}
    for i, (name, said) in enumerate(zip(HEADS, model(pixels), strict=True)):
        told = labels[:, i] != NO_LABEL
        out[name] = float((said.mean(1).argmax(-1) == labels[:, i])[told].float().mean())
    return out


@torch.no_grad()
def gallery_patches(
    tower: CLIPVisionModel, gallery: Gallery, *, progress: Progress = SILENT, batch: int = 100
) -> Float16[Tensor, "picture patch width"]:
    """Look at all pictures once; training reads from here."""
    out = []
    starts = range(0, len(gallery), batch)
    for start in progress.track(starts, "looking at the pictures"):
        pixels = gallery.pixels(range(start, min(start + batch, len(gallery))))
        out.append(patches(tower, scaled(pixels)).to(torch.float16))
    return torch.cat(out)
