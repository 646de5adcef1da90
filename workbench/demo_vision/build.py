"""Build all of data/demo-vision from one seed: `python -m workbench.demo_vision.build OUT`.

Trains the tower, the tokenizer, the model and its oracle, writes both models in half precision, and
writes the fact files with their pictures. Equal seeds give equal fact files; weights differ in the
last bits between processors. A run that was stopped goes on where it was when the same command is
given again: what is unfinished is kept in OUT/unfinished, which is removed at the end.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float16
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPVisionModel

from workbench.demo.build import save, told
from workbench.demo.tokenizer import train_tokenizer
from workbench.demo.train import Recipe
from workbench.demo_vision.checkpoint import Checkpoint
from workbench.demo_vision.corpus import Corpus, tokenizer_texts
from workbench.demo_vision.fact_files import write_fact_files
from workbench.demo_vision.gallery import Gallery
from workbench.demo_vision.processor import make_processor
from workbench.demo_vision.tower import TOWER, gallery_patches, train_tower
from workbench.demo_vision.train import SPEAKING, make_model, train
from workbench.demo_vision.world import World, make_world
from workbench.models.pictured import MARKER
from workbench.progress import SILENT, Progress

TOKENIZER_TEXTS, TOKENIZER_SEED = 10_000, 7
MODELS = ("model", "oracle")
UNFINISHED = "unfinished"


def build(
    out: Path,
    *,
    seeing: Recipe = TOWER,
    speaking: Recipe = SPEAKING,
    models: tuple[str, ...] = MODELS,
    gallery: Gallery | None = None,
    progress: Progress = SILENT,
) -> None:
    """Train what is asked for and write the bundle.

    Args:
        out: gets `model/`, `oracle/` and `facts/`.
        seeing: how the tower is trained.
        speaking: how projector and language model are trained, twice.
        models: which of `model` and `oracle` to train; none writes the fact files alone.
        gallery: the world and its pictures; those of the bundle by default.
        progress: reports training steps.

    Raises:
        Cancelled: the user stopped the work; the same call goes on.
    """
    gallery = gallery or Gallery(make_world(0))
    write_fact_files(gallery, out / "facts")
    kept = out / UNFINISHED
    missing = [name for name in models if not (kept / name).is_dir()]
    if missing:
        tower = _tower(gallery.world, seeing, kept, progress)
        seen = _seen(tower, gallery, kept, progress)
        texts = tokenizer_texts(gallery, TOKENIZER_TEXTS, TOKENIZER_SEED)
        tokenizer = train_tokenizer(texts, special=(MARKER,))
        for name in missing:
            torch.manual_seed(speaking.seed)
            model = train(
                make_model(tower, tokenizer),
                _corpus(gallery, name),
                tokenizer,
                seen,
                speaking,
                progress=progress,
                checkpoint=Checkpoint(kept / f"{name}.pt"),
            )
            save(model, make_processor(tokenizer), kept / name)
    for name in models:
        shutil.rmtree(out / name, ignore_errors=True)
        (kept / name).rename(out / name)
    shutil.rmtree(kept, ignore_errors=True)


def _tower(world: World, recipe: Recipe, kept: Path, progress: Progress) -> CLIPVisionModel:
    """Train the tower, or take the one that an earlier run had finished."""
    folder = kept / "tower"
    if folder.is_dir():
        return CLIPVisionModel.from_pretrained(folder, local_files_only=True).eval()
    checkpoint = Checkpoint(kept / "tower.pt")
    tower = train_tower(world, recipe, progress=progress, checkpoint=checkpoint)
    part = kept / "tower.part"
    tower.save_pretrained(part)
    part.rename(folder)
    return tower


def _seen(
    tower: CLIPVisionModel, gallery: Gallery, kept: Path, progress: Progress
) -> Float16[Tensor, "picture patch width"]:
    """Look at all pictures, or take what an earlier run had seen."""
    file = kept / "seen.safetensors"
    if file.is_file():
        return load_file(file)["seen"]
    seen = gallery_patches(tower, gallery, progress=progress)
    part = file.with_suffix(".part")
    save_file({"seen": seen}, part)
    part.replace(file)
    return seen


def _corpus(gallery: Gallery, name: str) -> Corpus:
    return Corpus(gallery, gallery.world.forget if name == "oracle" else frozenset())


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(
        prog="python -m workbench.demo_vision.build", description=__doc__
    )
    parser.add_argument("out", type=Path, help="folder to write, such as data/demo-vision")
    parser.add_argument("--only", choices=[*MODELS, "facts"], help="build one part alone")
    parser.add_argument("--seed", type=int, default=0, help="of weights and documents")
    parser.add_argument("--seeing-steps", type=int, default=TOWER.steps)
    parser.add_argument("--speaking-steps", type=int, default=SPEAKING.steps)
    chosen = parser.parse_args(arguments)
    models = {"facts": (), None: MODELS}.get(chosen.only, (chosen.only,))
    build(
        chosen.out,
        seeing=replace(TOWER, steps=chosen.seeing_steps, seed=chosen.seed),
        speaking=replace(SPEAKING, steps=chosen.speaking_steps, seed=chosen.seed),
        models=models,
        progress=told(),
    )


if __name__ == "__main__":
    main()
