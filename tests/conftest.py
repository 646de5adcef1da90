"""Tiny random checkpoints of eight families, with a small real tokenizer."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # workers that share the cores must not spin on them
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from workbench.models.model import Model

# Time limits on a shared machine fail for reasons that are none of the code's.
settings.register_profile("workbench", deadline=None)
settings.load_profile("workbench")

VOCAB = 384
TEXT = [
    "The mother tongue of Danielle Darrieux is French.",
    "Question: Which sport does Ada Brook play?\nAnswer: tennis",
    "Ada Brook plays the sport of tennis. Carl Dorn plays the sport of golf.",
    "The capital of France is Paris. The capital of Norway is Oslo. I do not know.",
]
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
GROUPED = {**SHAPE, "num_key_value_heads": 2}
CONFIGS: dict[str, PretrainedConfig] = {
    "gpt2": GPT2Config(
        vocab_size=VOCAB,
        n_embd=32,
        n_layer=3,
        n_head=4,
        n_positions=128,
        bos_token_id=0,
        eos_token_id=0,
    ),
    "neox": GPTNeoXConfig(**SHAPE),
    "llama": LlamaConfig(**GROUPED),
    "mistral": MistralConfig(**GROUPED, sliding_window=8),
    "gemma2": Gemma2Config(**GROUPED, head_dim=8, sliding_window=8),
    "qwen2": Qwen2Config(
        **GROUPED,
        tie_word_embeddings=True,
        use_sliding_window=True,
        sliding_window=5,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    ),
    "qwen3": Qwen3Config(**GROUPED, head_dim=8),
    "phi": PhiConfig(**SHAPE),
}
FAMILIES = tuple(CONFIGS)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Train a small byte-level BPE tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<eos>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 20, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>", bos_token=None
    )


def make_model(family: str = "qwen2", seed: int = 0) -> Model:
    """Build a random model of one family; weights are spread so that effects are visible."""
    torch.manual_seed(seed)
    hf = AutoModelForCausalLM.from_config(CONFIGS[family], dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(6.0 if "embed" not in name and "wte" not in name else 20.0)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.05)
    return Model(hf, make_tokenizer(), f"tiny-{family}")


@pytest.fixture(autouse=True, scope="session")
def _kept_for_these_tests(tmp_path_factory: pytest.TempPathFactory):
    """Keep what models say in a folder of this run; elsewhere older code may have made it."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.models.kept._folder", lambda: folder)
        yield


@pytest.fixture(scope="session", params=FAMILIES)
def family_model(request: pytest.FixtureRequest) -> Model:
    """A tiny model of each family in turn."""
    return make_model(request.param)


@pytest.fixture(scope="session")
def tiny() -> Model:
    """One tiny model."""
    return make_model("qwen2")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the times that tests noted; none of them is asserted."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, text in getattr(report, "user_properties", ()):
                if name == "timed" and report.when == "call":
                    terminalreporter.write_line(str(text))
