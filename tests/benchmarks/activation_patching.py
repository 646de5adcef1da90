"""Patching the residual stream at every layer and position, against TransformerLens' own grid.

    python tests/benchmarks/activation_patching.py [--repeats N]

6 layers, d_model 256, 5,000 tokens of vocabulary, a prompt of 14 tokens whose first four differ,
random weights, single-thread CPU time. TransformerLens patches the stream before a layer, which is
the stream behind the layer before it; so it is given the 70 cells before layers 1 to 5, those that
both grids have, and the cone pays for the row behind the last layer on top. The last line is
`ratio: X`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from transformer_lens import patching
from transformers import AutoModelForCausalLM, Qwen2Config

from workbench.facts.fact import Fact
from workbench.facts.prompts import Prompt
from workbench.localize.activation_patching import cell_variants
from workbench.localize.cone import patch_effects
from workbench.localize.corruption import Pair
from workbench.localize.metrics import logit_difference
from workbench.models.model import Model

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import make_tokenizer

LENGTH, SUBJECT = 14, (0, 4)
CONFIG = Qwen2Config(
    vocab_size=5000,
    hidden_size=256,
    intermediate_size=1024,
    num_hidden_layers=6,
    num_attention_heads=4,
    num_key_value_heads=4,
    tie_word_embeddings=True,
)


def make() -> tuple[Model, Pair, torch.Tensor]:
    """A random model, a pair that differs in the subject's tokens, and the corrupted ids."""
    torch.manual_seed(0)
    hf = AutoModelForCausalLM.from_config(CONFIG, dtype=torch.float32)
    model = Model(hf, make_tokenizer(), "random")
    ids = torch.randint(0, 5000, (LENGTH,))
    other = ids.clone()
    other[slice(*SUBJECT)] = torch.randint(0, 5000, (SUBJECT[1] - SUBJECT[0],))
    embed = hf.get_input_embeddings()
    with torch.no_grad():
        clean, corrupted = embed(ids)[None], embed(other)[None]
    prompt = Prompt(Fact("x", "x", "y", "z"), tuple(ids.tolist()), SUBJECT, (7,), (8,))
    return model, Pair(prompt, ids, clean, corrupted, 7, 8), other


def transformer_lens_grid(model: Model, pair: Pair, other: torch.Tensor) -> torch.Tensor:
    """Run the clean prompt with its cache, then TransformerLens' loop over layers and positions."""
    layers, positions = range(1, model.n_layers), range(LENGTH)
    cells = pd.DataFrame([(i, t) for i in layers for t in positions], columns=["layer", "pos"])
    bridge = model.bridge
    target, foil = pair.target, pair.foil
    with torch.no_grad():
        _, cache = bridge.run_with_cache(
            pair.ids[None], names_filter=lambda name: name.endswith("hook_resid_pre")
        )
        flat = patching.get_act_patch_resid_pre(
            bridge,
            other[None],
            cache,
            lambda logits: logits[0, -1, target] - logits[0, -1, foil],
            index_axis_names=None,
            index_df=cells,
        )
    return flat.view(len(layers), LENGTH)


def timed(work) -> tuple[float, object]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    model, pair, other = make()
    variants = cell_variants(model, ("resid",))
    patching.tqdm = lambda items, **_: items  # its progress bars are not what is compared
    peer_times, cone_times = [], []
    for _ in range(repeats):
        seconds, effects = timed(
            lambda: patch_effects(model, [pair], variants, logit_difference)[0]
        )
        cone_times.append(seconds)
        seconds, grid = timed(lambda: transformer_lens_grid(model, pair, other))
        peer_times.append(seconds)
    difference = max(
        float((effects.cells["resid", i, -1][0] + effects.corrupted - grid[i]).abs().max())
        for i in range(model.n_layers - 1)
    )
    largest = max(float(v.abs().max()) for v in effects.cells.values())
    print(f"largest effect {largest:.3g}; largest difference {difference:.3g}")
    print(f"TransformerLens {min(peer_times):.3f} s; causal cone {min(cone_times):.3f} s")
    print(f"ratio: {min(peer_times) / min(cone_times):.2f}")


if __name__ == "__main__":
    main()
