"""A tiny random model of the LLaVA form with a real tokenizer and processor, and small pictures."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch
from conftest import GROUPED, make_tokenizer
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from workbench.facts.fact import Fact
from workbench.models.load import load
from workbench.models.model import Model

SIDE, PATCH = 32, 8
N_TOKENS = (SIDE // PATCH) ** 2
QUESTION = "<image>\nQuestion: Which sport does this person play?\nAnswer:"
NAMED = "<image>\nQuestion: Which sport does Ada Brook play?\nAnswer:"


def make_processor(strategy: str = "default", patch: int = PATCH) -> LlavaProcessor:
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    side = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=side)
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=patch,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=1,
    )


def make_llava(folder: Path, seed: int = 0, strategy: str = "default") -> None:
    """Save a checkpoint; weights are spread so that words and pictures both matter."""
    processor = make_processor(strategy)
    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=3,
        image_size=SIDE,
        patch_size=PATCH,
    )
    language = LlamaConfig(**{**GROUPED, "vocab_size": len(processor.tokenizer)})
    config = LlavaConfig(
        vision_config=vision,
        text_config=language,
        image_token_id=processor.image_token_id,
        vision_feature_select_strategy=strategy,
    )
    hf = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(20.0 if "embed_tokens" in name else 6.0)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.05)
    hf.save_pretrained(folder)
    processor.save_pretrained(folder)


@cache
def llava_folder() -> Path:
    """Save one checkpoint for all tests of a process."""
    folder = Path(mkdtemp(prefix="tiny-llava-"))
    make_llava(folder)
    return folder


@cache
def llava() -> Model:
    """Load it once."""
    return load(llava_folder())


@cache
def portrait(seed: int = 0) -> Path:
    """Save a picture of random colors."""
    path = Path(mkdtemp(prefix="tiny-portrait-")) / f"portrait-{seed}.png"
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 36, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def seen(seed: int = 0, prompt: str = QUESTION, **options) -> Fact:
    """Make a fact with a picture."""
    return Fact("Ada Brook", prompt, " tennis", image=portrait(seed), **options)
