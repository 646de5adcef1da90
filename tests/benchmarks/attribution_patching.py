"""CPU time of scoring every component at every position, in forward passes of the plain model.

Run it: python tests/benchmarks/attribution_patching.py

Random weights in the demo model's shape (Qwen2, 6 layers, d_model 256, 2,048 tokens), 8 facts of 16
tokens with one corrupted sample each. Both sides see the same 8 rows, unembed the last position
only, run interleaved on one thread; the least CPU time of each counts.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from conftest import make_tokenizer
from transformers import AutoModelForCausalLM

from workbench.demo.train import configuration
from workbench.facts.fact import Fact
from workbench.facts.prompts import Prompt
from workbench.localize.attribution_patching import attribute
from workbench.localize.corruption import Pair
from workbench.localize.metrics import logit_difference
from workbench.models.model import Model

FACTS, TOKENS, REPEATS = 8, 16, 15


def demo_shape() -> Model:
    """Build a random model of the demo's shape."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    hf = AutoModelForCausalLM.from_config(configuration(tokenizer), dtype=torch.float32)
    return Model(hf, tokenizer, "demo-shape")


def random_pairs(model: Model) -> list[Pair]:
    """Pair random prompts with others that differ in the subject's two tokens."""
    out = []
    embed = model.hf.get_input_embeddings()
    for _ in range(FACTS):
        ids = torch.randint(1, 2048, (TOKENS,))
        other = ids.clone()
        other[3:5] = torch.randint(1, 2048, (2,))
        prompt = Prompt(Fact("a", "a", "b"), tuple(ids.tolist()), (3, 5), (5,), (6,))
        with torch.no_grad():
            out.append(Pair(prompt, ids, embed(ids)[None], embed(other)[None], 5, 6))
    return out


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    model = demo_shape()
    pairs = random_pairs(model)
    rows = torch.cat([p.corrupted for p in pairs])

    def forward() -> None:
        with torch.no_grad():
            model.hf(inputs_embeds=rows, use_cache=False, logits_to_keep=1)

    def score(variant: str) -> Callable[[], object]:
        return lambda: attribute(model, pairs, metric=logit_difference, variant=variant)  # type: ignore[arg-type]

    work = {"forward": forward, **{v: score(v) for v in ("atp", "ig", "atp*")}}
    times: dict[str, list[float]] = {name: [] for name in work}
    for name in work:
        work[name]()
    for _ in range(REPEATS):
        for name, call in work.items():
            times[name].append(seconds(call))
    least = {name: min(t) for name, t in times.items()}
    cells = sum(
        v.shape[-1] for v in attribute(model, pairs, metric=logit_difference)[0].cells.values()
    )
    print(f"{FACTS} facts, {TOKENS} tokens, {cells} cells each")
    for name, t in least.items():
        middle = statistics.median(times[name])
        print(
            f"{name:8} {1e3 * t:8.2f} ms (median {1e3 * middle:.2f}), {t / least['forward']:.2f} x"
        )
    print(f"ratio: {least['atp'] / least['forward']:.2f}")


if __name__ == "__main__":
    main()
