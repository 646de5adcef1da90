"""What an edit must leave alone: the retain buffer, made from the request and the model itself.

No outside corpus is needed. Confusable positions are the very positions the edit acts on, in the
same wordings, about subjects to keep (any names; no answer needs to be known). Context is every
token of kept facts followed by the model's own answers, and of texts the model makes up itself.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from workbench.edit.stream import Rows
from workbench.facts.fact import Fact, FactSet, Request
from workbench.facts.prompts import subject_span
from workbench.models.model import Model
from workbench.models.text import Batch, encode, end_tokens, generate, pad, pad_id

Site = Literal["subject", "answer"]
SLOT = "\x00"


@dataclass(frozen=True)
class Form:
    """A wording of a relation: a prompt with a slot for the subject."""

    relation: str
    text: str

    def about(self, subject: str) -> str:
        """Fill the slot."""
        return self.text.replace(SLOT, subject)


def prompts_of(fact: Fact) -> tuple[str, ...]:
    """Return the prompts an edit may use: all but the held-out wordings and multiple choice."""
    return tuple(dict.fromkeys((fact.prompt, *fact.paraphrases, *fact.statements)))


def form_of(fact: Fact, prompt: str) -> Form:
    """Return the wording of a fact's prompt."""
    return Form(fact.relation, prompt.replace(fact.subject, SLOT))


def forms_of(facts: FactSet) -> tuple[Form, ...]:
    """Return every wording of a set of facts, each once, in order."""
    return tuple(dict.fromkeys(form_of(f, p) for f in facts for p in prompts_of(f)))


def subjects_by_relation(facts: FactSet) -> dict[str, tuple[str, ...]]:
    """Return the subjects of each relation, each once, in order."""
    out: dict[str, dict[str, None]] = {}
    for fact in facts:
        out.setdefault(fact.relation, {})[fact.subject] = None
    return {relation: tuple(names) for relation, names in out.items()}


def site_rows(
    model: Model, prompt: str, subject: str, site: Site, answer: str, tokens: int = 1
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the tokens to run and the positions of a site.

    Subject site: the prompt up to the subject's last token, and its last `tokens` tokens, the last
    one first. Answer site: the prompt with an answer, and every position from the prompt's last
    token on.
    """
    if site == "subject":
        first, end = subject_span(model, prompt, subject)
        return tuple(encode(model, prompt)[:end]), tuple(range(end - 1, first - 1, -1)[:tokens])
    ids = encode(model, prompt)
    tail = model.tokenizer(answer, add_special_tokens=False)["input_ids"] if answer else []
    return (*ids, *tail), tuple(range(len(ids) - 1, len(ids) + len(tail)))


def confusable_rows(
    model: Model,
    request: Request,
    site: Site,
    *,
    count: int,
    weight: float,
    context_weight: float,
    tokens: int,
    seed: int,
) -> Rows:
    """Return the site's positions in the forget set's wordings about subjects to keep.

    Args:
        model: whose tokens and own answers to use.
        request: its retain and unknown facts give the subjects.
        site: where the edit acts.
        count: number of prompts, drawn evenly over wordings.
        weight: weight of a site position.
        context_weight: weight of the prompt's other positions.
        tokens: tokens of the subject that are the site.
        seed: seed of the draw.
    """
    names = subjects_by_relation(request.retain + request.unknown)
    forgotten = set(request.forget.subjects)
    pairs = [
        (form, name)
        for form in forms_of(request.forget)
        for name in names.get(form.relation, ())
        if name not in forgotten
    ]
    random.Random(seed).shuffle(pairs)
    pairs = pairs[:count]
    prompts = [form.about(name) for form, name in pairs]
    answers = [""] * len(prompts)
    if site == "answer" and prompts:
        answers = generate(model, prompts, max_new_tokens=12, stop=None)
    sequences, picks, weights = [], [], []
    for (_, name), prompt, answer in zip(pairs, prompts, answers, strict=True):
        ids, at = site_rows(model, prompt, name, site, answer, tokens)
        sequences.append(ids)
        picks.append(tuple(range(len(ids))))
        weights.append(tuple(weight if i in at else context_weight for i in range(len(ids))))
    return Rows(tuple(sequences), tuple(picks), tuple(weights))


def context_rows(
    model: Model, request: Request, *, count: int, generations: int, weight: float, seed: int
) -> Rows:
    """Return every token of kept facts with the model's own answers, and of its own texts."""
    kept = list(request.retain)
    random.Random(seed).shuffle(kept)
    pick = random.Random(seed + 1)
    prompts = [pick.choice(prompts_of(f)) for f in kept[:count]]
    prompts += [p.prompt for f in kept[:count] for p in f.mcq[:1]][: count // 4]
    answers = generate(model, prompts, max_new_tokens=12, stop=None) if prompts else []
    texts = [encode(model, p + a) for p, a in zip(prompts, answers, strict=True)]
    texts += sample_texts(model, generations, seed=seed)
    picks = tuple(tuple(range(len(t))) for t in texts)
    weights = tuple((weight,) * len(t) for t in texts)
    return Rows(tuple(tuple(t) for t in texts), picks, weights)


@torch.no_grad()
def sample_texts(model: Model, count: int, *, length: int = 24, seed: int = 0) -> list[list[int]]:
    """Let the model make up texts, at temperature 1, from one random common first token each."""
    if count < 1:
        return []
    generator = torch.Generator().manual_seed(seed)
    start = _start_tokens(model, count, generator)
    ids, mask = pad([[*s] for s in start], pad_id(model), side="left")
    batch = Batch(ids.to(model.device), mask.to(model.device), tuple(range(count)))
    tokens, cache, current = [batch.input_ids], None, batch.input_ids
    for _ in range(length):
        out = model.hf(input_ids=current, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        probabilities = out.logits[:, -1].float().softmax(-1).cpu()
        current = torch.multinomial(probabilities, 1, generator=generator).to(model.device)
        tokens.append(current)
    ends = end_tokens(model)
    return [_until_end(row, ends) for row in torch.cat(tokens, 1).tolist()]


def _start_tokens(model: Model, count: int, generator: torch.Generator) -> Sequence[Sequence[int]]:
    """Draw beginnings: sentences' usual first words, behind what the tokenizer puts first."""
    words = ("The", "A", "It", "My", "In", "When", "What", "I", "We", "Our", "How", "This")
    heads = [encode(model, w) for w in words]
    shortest = min(len(h) for h in heads)
    heads = [h[:shortest] for h in heads]
    drawn = torch.randint(len(heads), (count,), generator=generator)
    return [heads[int(i)] for i in drawn]


def _until_end(row: list[int], ends: set[int]) -> list[int]:
    for i, token in enumerate(row[1:], start=1):
        if token in ends:
            return row[: i + 1]
    return row
