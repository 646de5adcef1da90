"""What the model makes up itself: texts, conversations, and names of subjects in a given wording.

They stand in for a corpus. A model asked to go on after "Which sport does" names the subjects it
has something to say about, kept ones that no list mentions among them. What was made up once is
kept in the user's cache; see `models.kept`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from workbench.facts.prompts import chat
from workbench.models.continuing import end_tokens, new_tokens
from workbench.models.kept import kept, kept_each
from workbench.models.model import Model
from workbench.models.text import batches, encode, generate

_FIRST_WORDS = ("The", "A", "It", "My", "In", "When", "What", "I", "We", "Our", "How", "This")
SLOT = "\x00"
_LONGEST_NAME = 48  # characters; what is longer is no name


def sample_texts(model: Model, count: int, *, length: int = 24, seed: int = 0) -> list[list[int]]:
    """Let the model make up texts, at temperature 1, from one random common first word each."""
    if count < 1:
        return []

    def make() -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        heads = [encode(model, word) for word in _FIRST_WORDS]
        shortest = min(len(h) for h in heads)
        drawn = torch.randint(len(heads), (count,), generator=generator)
        starts = [heads[int(i)][:shortest] for i in drawn]
        new = sample(model, starts, length=length, generator=generator)
        return [[*start, *row] for start, row in zip(starts, new, strict=True)]

    return kept(model, "texts", [count, length, seed], make)


def sample_chats(
    model: Model, count: int, *, length: int = 32, answer: int = 32, seed: int = 0
) -> list[tuple[str, str]]:
    """Let a chat model make up users' questions, and answer them; none without a chat template.

    Nothing but the template's opening of a user's turn is given (Xu et al. 2024, Magpie, arXiv
    2406.08464).

    Returns:
        Rendered questions, and the model's greedy answers to them.
    """
    if count < 1 or not model.tokenizer.chat_template:
        return []
    made = kept(
        *(model, "chats", [count, length, answer, seed]),
        lambda: _chats(model, count, length, answer, seed),
    )
    return [(prompt, said) for prompt, said in made]


def _chats(model: Model, count: int, length: int, answer: int, seed: int) -> list[tuple[str, str]]:
    generator = torch.Generator().manual_seed(seed)
    opening = chat(model, SLOT).split(SLOT)[0]
    start = encode(model, opening, cut=True)
    starts = [start] * count if len(start) + length <= model.n_ctx else []
    rows = sample(model, starts, length=length, generator=generator)
    questions = model.tokenizer.batch_decode(rows, skip_special_tokens=True)
    prompts = [chat(model, q.strip()) for q in questions if q.strip()]
    prompts = [p for p in prompts if len(encode(model, p, cut=True)) + answer < model.n_ctx]
    answers = generate(model, prompts, max_new_tokens=answer, stop=None)
    return list(zip(prompts, answers, strict=True))


def own_answers(model: Model, prompts: Sequence[str], *, length: int = 12) -> list[str]:
    """Return what the model answers itself, greedily, ends of lines included."""
    if not prompts:
        return []
    return kept_each(
        *(model, "answers", [length], prompts),
        lambda missing: generate(model, missing, max_new_tokens=length, stop=None),
    )


def sample_names(
    model: Model,
    wordings: Sequence[tuple[str, str]],
    count: int,
    *,
    length: int = 12,
    seed: int = 0,
) -> tuple[str, ...]:
    """Let the model name subjects, at temperature 1.

    Args:
        model: the model to ask.
        wordings: what stands before and behind the subject; those that begin with it or leave no
            room in the context are left out.
        count: how often to ask, evenly over the wordings.
        length: most tokens of a name and of what ends it.
        seed: of the draws.

    Returns:
        The different names, in the order they came up.
    """
    heads = [(a.rstrip(" "), b) for a, b in wordings if a.strip() and _ending(b)]
    usable = [(encode(model, a, cut=True), b) for a, b in heads]
    usable = [(ids, b) for ids, b in usable if len(ids) + length <= model.n_ctx]
    if count < 1 or not usable:
        return ()
    chosen = [usable[i % len(usable)] for i in range(count)]
    starts = [ids for ids, _ in chosen]

    def make() -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return sample(model, starts, length=length, generator=generator)

    rows = kept(model, "names", [starts, length, seed], make)
    texts = model.tokenizer.batch_decode(rows, skip_special_tokens=True)
    names: dict[str, None] = {}
    for text, (_, behind) in zip(texts, chosen, strict=True):
        name, found, _ = text.partition(_ending(behind))
        name = name.strip()
        if found and name and len(name) <= _LONGEST_NAME and "\n" not in name:
            names[name] = None
    return tuple(names)


def _ending(behind: str) -> str:
    """Return what shows that the subject is over: the rest of its line."""
    return behind.split("\n")[0]


def sample(
    model: Model,
    starts: Sequence[Sequence[int]],
    *,
    length: int,
    generator: torch.Generator | None = None,
    max_tokens: int = 4096,
) -> list[list[int]]:
    """Continue token sequences up to and including an end token.

    Greedily, or with a generator by drawing at temperature 1.
    """
    ends = end_tokens(model)
    out: list[list[int]] = [[] for _ in starts]
    for batch in batches(model, starts, max_tokens=max_tokens, side="left"):
        ids, mask = batch.input_ids, batch.attention_mask
        new = new_tokens(*(model, ids, mask, length), pixels=batch.pixels, generator=generator)
        for row, ids in zip(batch.rows, new.tolist(), strict=True):
            stop = next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))
            out[row] = ids[:stop]
    return out
