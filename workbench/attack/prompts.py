"""Prompts with something in front of the question: a sentence, or solved examples.

A fact that is asked in the model's chat form (its `question` rendered by the chat template) gets
them inside the conversation: the sentence in the user's turn, each example as a turn of its own.
Any other prompt gets them in front, an example a line.
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.facts.fact import Fact
from workbench.facts.multiple_choice import question_of
from workbench.facts.prompts import chat, rendered
from workbench.models.model import Model
from workbench.models.pictured import joined
from workbench.models.text import encode


def asks_in_chat(model: Model, fact: Fact) -> bool:
    """Whether the fact's prompt is its question in the model's chat form."""
    if not (model.tokenizer.chat_template and fact.extra.get("question")):
        return False
    return chat(model, question_of(fact)) == fact.prompt


def with_sentence(model: Model, fact: Fact, sentence: str) -> str:
    """Return the fact's prompt with a sentence in front of the question."""
    if asks_in_chat(model, fact):
        return chat(model, f"{sentence}\n{question_of(fact)}")
    return f"{sentence}\n" + fact.prompt


def with_examples(model: Model, fact: Fact, examples: Sequence[Fact]) -> str:
    """Return the fact's prompt behind the solved prompts of others."""
    if asks_in_chat(model, fact):
        turns = []
        for example in examples:
            turns.append(("user", question_of(example)))
            turns.append(("assistant", example.target.strip()))
        return rendered(model, [*turns, ("user", question_of(fact))])
    return joined(part for e in examples for part in (e.prompt, f"{e.target}\n")) + fact.prompt


def fits(model: Model, prompt: str, room: int) -> bool:
    """Whether a prompt leaves room for so many tokens in the context."""
    return len(encode(model, prompt, cut=True)) + room <= model.n_ctx
