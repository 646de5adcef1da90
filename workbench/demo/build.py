"""Build everything under data/demo from one seed: `python -m workbench.demo.build OUT`.

Trains the tokenizer, the model and its oracle, writes both in half precision, and writes the fact
files. Equal seeds give equal fact files; weights differ in the last bits between processors. Cost:
some 35 minutes a model on two cores.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

from workbench.demo.corpus import Corpus, tokenizer_texts
from workbench.demo.fact_files import replayed_text, write_fact_files
from workbench.demo.tokenizer import train_tokenizer
from workbench.demo.train import Recipe, train
from workbench.demo.world import World, make_world
from workbench.progress import SILENT, Progress

TOKENIZER_TEXTS, TOKENIZER_SEED = 20_000, 7
MODELS = ("model", "oracle")


def build(
    out: Path,
    *,
    recipe: Recipe | None = None,
    models: tuple[str, ...] = MODELS,
    world_seed: int = 0,
    progress: Progress = SILENT,
) -> None:
    """Train what is asked for and write the bundle.

    Args:
        out: gets `model/`, `oracle/` and `facts/`.
        recipe: of both trainings; the default is that of the bundled models.
        models: which of `model` and `oracle` to train; none writes the fact files alone.
        world_seed: of the world.
        progress: reports training steps.

    Raises:
        Cancelled: the user stopped the work; finished models stay.
    """
    recipe = recipe or Recipe()
    world = make_world(world_seed)
    write_fact_files(world, out / "facts", seen=replayed_text(world, recipe))
    if not models:
        return
    tokenizer = train_tokenizer(tokenizer_texts(world, TOKENIZER_TEXTS, TOKENIZER_SEED))
    for name in models:
        trained = train(_corpus(world, name), tokenizer, recipe, progress=progress)
        save(trained, tokenizer, out / name)


def _corpus(world: World, name: str) -> Corpus:
    return Corpus(world, world.forget if name == "oracle" else frozenset())


def save(
    model: PreTrainedModel, reader: PreTrainedTokenizerFast | ProcessorMixin, folder: Path
) -> None:
    """Write a model in half precision with its tokenizer or processor; the folder appears whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        half = Path(temporary) / folder.name
        model.to(torch.float16).save_pretrained(half)
        reader.save_pretrained(half)
        if folder.exists():
            folder.rename(Path(temporary) / "old")
        half.rename(folder)


def told() -> Progress:
    """Return a progress that writes every tenth step and the time so far to standard error."""
    start = time.monotonic()

    def report(done: int, total: int, label: str) -> None:
        if done % 10 == 0 or done == total:
            sys.stderr.write(f"{done}/{total} {label}, {time.monotonic() - start:.0f} s\n")

    return Progress(report=report)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(prog="python -m workbench.demo.build", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write, such as data/demo")
    parser.add_argument("--only", choices=[*MODELS, "facts"], help="build one part alone")
    parser.add_argument("--seed", type=int, default=0, help="of weights and documents")
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    chosen = parser.parse_args(arguments)
    models = {"facts": (), None: MODELS}.get(chosen.only, (chosen.only,))
    build(
        chosen.out,
        recipe=replace(Recipe(), steps=chosen.steps, seed=chosen.seed),
        models=models,
        progress=told(),
    )


if __name__ == "__main__":
    main()
