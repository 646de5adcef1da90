"""Causal tracing over the causal cone against ROME's loop, by single-thread CPU time.

    python tests/benchmarks/causal_tracing.py [--shape gpt2|demo] [--kinds resid,mlp,attn] [...]

ROME's loop runs, for each token, layer and kind, one clean and ten noisy prompts through all layers
with logits at every position. Random weights, 14 tokens. The last line is `ratio: X`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GPT2Config

from workbench.demo.train import configuration
from workbench.facts.fact import Fact
from workbench.facts.prompts import Prompt
from workbench.localize.causal_tracing import KINDS, window_variants
from workbench.localize.cone import patch_effects
from workbench.localize.corruption import Pair
from workbench.localize.metrics import probability
from workbench.models.model import Model

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import make_tokenizer

LENGTH, SAMPLES, SUBJECT_TOKENS = 14, 10, 4
SHAPES = {
    "gpt2": GPT2Config(),
    "demo": configuration(make_tokenizer()),
}
MODULES = {
    "gpt2": ("transformer.h.{}", "transformer.h.{}.mlp", "transformer.h.{}.attn"),
    "demo": ("model.layers.{}", "model.layers.{}.mlp", "model.layers.{}.self_attn"),
}


def rome_loop(hf, shape: str, kinds: list[str], embeds: torch.Tensor, target: int) -> dict:
    """Row 0 is clean, the others are noisy; one clean state is copied into them, one run each."""
    out = {}
    names = dict(zip(KINDS, MODULES[shape], strict=True))
    for kind in kinds:
        for layer in range(hf.config.num_hidden_layers):
            module = hf.get_submodule(names[kind].format(layer))
            for token in range(embeds.shape[1]):
                out[kind, layer, token] = restored(hf, module, embeds, token, target)
    return out


def restored(hf, module, embeds: torch.Tensor, token: int, target: int) -> torch.Tensor:
    def restore(module, args, output):
        state = output[0] if isinstance(output, tuple) else output
        state[1:, token] = state[0, token]
        return output

    handle = module.register_forward_hook(restore)
    try:
        with torch.no_grad():
            logits = hf(inputs_embeds=embeds, use_cache=False).logits
    finally:
        handle.remove()
    return torch.softmax(logits[1:, -1], -1)[:, target]


def make(shape: str, first: int) -> tuple[Model, Pair]:
    torch.manual_seed(0)
    hf = AutoModelForCausalLM.from_config(SHAPES[shape], dtype=torch.float32)
    with torch.no_grad():
        for parameter in hf.parameters():  # larger than at initialisation, so that effects show
            parameter.mul_(2.0 if parameter.ndim == 2 else 1.0)
    model = Model(hf, make_tokenizer(), shape)
    ids = torch.randint(0, hf.config.vocab_size, (LENGTH,))
    with torch.no_grad():
        clean = hf.get_input_embeddings()(ids)[None]
        target = int(hf(inputs_embeds=clean).logits[0, -1].argmax())
    corrupted = clean.repeat(SAMPLES, 1, 1)
    span = slice(first, first + SUBJECT_TOKENS)
    corrupted[:, span] += 3 * clean.std() * torch.randn(SAMPLES, SUBJECT_TOKENS, clean.shape[-1])
    where = (span.start, span.stop)
    prompt = Prompt(Fact("x", "x", "y"), tuple(ids.tolist()), where, (target,), None)
    return model, Pair(prompt, ids, clean, corrupted, target, None)


def timed(work) -> tuple[float, object]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="gpt2")
    parser.add_argument("--subject", type=int, default=0, help="first token of the subject")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--repeats", type=int)
    args = parser.parse_args()
    kinds = args.kinds.split(",")
    torch.set_num_threads(1)
    model, pair = make(args.shape, args.subject)
    model.structure  # noqa: B018 - found once a model, not once a prompt
    variants = window_variants(model.n_layers, kinds, 1)
    batch = torch.cat([pair.clean, pair.corrupted])
    rome_times, cone_times = [], []
    for _ in range(args.repeats or (1 if args.shape == "gpt2" else 5)):
        seconds, effects = timed(lambda: patch_effects(model, [pair], variants, probability)[0])
        cone_times.append(seconds)
        print(f"causal cone {seconds:.3f} s", flush=True)
        seconds, rome = timed(lambda: rome_loop(model.hf, args.shape, kinds, batch, pair.target))
        rome_times.append(seconds)
        print(f"ROME's loop {seconds:.3f} s", flush=True)
    difference, largest = 0.0, 0.0
    for (kind, layer, token), values in rome.items():
        effect = effects.cells[kind, layer, -1][:, token]
        difference = max(difference, float((effect + effects.corrupted - values).abs().max()))
        largest = max(largest, float(effect.abs().max()))
    print(f"largest effect {largest:.3g}; largest |delta p| {difference:.3g}")
    print(f"ROME's loop {min(rome_times):.3f} s; causal cone {min(cone_times):.3f} s")
    print(f"ratio: {min(rome_times) / min(cone_times):.2f}")


if __name__ == "__main__":
    main()
