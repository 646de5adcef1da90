"""The processor of the model that sees: how pictures and messages become what it reads."""

from __future__ import annotations

from transformers import CLIPImageProcessorPil, LlavaProcessor, PreTrainedTokenizerFast

from workbench.demo_vision.pen import SIDE
from workbench.demo_vision.tower import PATCH
from workbench.models.pictured import MARKER

# As training asks: the picture first, then the question. A message is a text, or a list of parts.
CHAT = (
    "{% for m in messages %}{% if m['content'] is not string %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>\n{% endif %}{% endfor %}{% endif %}"
    "{{ 'Q: ' if m['role'] == 'user' else 'A: ' }}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
)


def make_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Join the tokenizer with the reading of images."""
    side = {"height": SIDE, "width": SIDE}
    half = [0.5, 0.5, 0.5]
    images = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size=side, image_mean=half, image_std=half
    )
    tokenizer.chat_template = CHAT
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        image_token=MARKER,
        num_additional_image_tokens=1,  # the tower's class token, which is left out again
        chat_template=CHAT,
    )
