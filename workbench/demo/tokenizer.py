"""The demo model's tokenizer: 2,048 byte-level BPE tokens, digits one by one.

It is trained on text whose names are drawn afresh, so that no name of the world becomes a token of
its own: what the model knows about somebody cannot hang on a single token.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 2048
END = "<|end|>"
PAD = "<|pad|>"
CHAT = (
    "{% for m in messages %}{% if m['role'] == 'user' %}Q: {{ m['content'] }}\n{% else %}A: "
    "{{ m['content'] }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
)


def train_tokenizer(texts: Iterable[str], special: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """Train the tokenizer on texts; each of `special` is a token of its own."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[END, PAD, *special],
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    # Byte-level tokens leave nothing unknown; without a name for it, loading the files as a Qwen2
    # tokenizer would add one that the model has no embedding for.
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token=PAD,
        unk_token=END,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT
    return tokenizer
