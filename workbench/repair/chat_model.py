"""A chat model in one of the roles: shown a conversation, it goes on with it."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.errors import WorkbenchError
from workbench.models.model import Model
from workbench.models.text import encode, generate

_SPARE = 8  # tokens left between the prompt and the end of the context


def check_chat_model(model: Model, does: str, otherwise: str) -> None:
    """Refuse a model that cannot be talked to.

    Args:
        model: the model.
        does: what it is wanted for: "hear".
        otherwise: who does that without one: "watchdog".

    Raises:
        WorkbenchError: it has no chat template.
    """
    if not model.tokenizer.chat_template:
        raise WorkbenchError(
            f"{model.name} has no chat template, so it cannot {does} for another model; choose a "
            f"chat model, or the bundled {otherwise}."
        )


def go_on(
    model: Model, turns: Sequence[str], begun: str, *, room: int, stop: str | None = None
) -> str:
    """Return what a chat model answers, the beginning that is put in its mouth with it.

    Args:
        model: a chat model.
        turns: what user and assistant said in turn, the user first and last.
        begun: the beginning of the answer.
        room: most tokens of the rest.
        stop: what ends the answer.

    Raises:
        WorkbenchError: the conversation is too long for the model.
    """
    messages = [
        {"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(turns)
    ]
    written = model.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    prompt = f"{written}{begun}"
    encode(model, prompt, room=room + _SPARE)  # too long a message is told here
    (rest,) = generate(model, [prompt], max_new_tokens=room, stop=stop)
    return begun + rest
