"""Where things stand in a prompt: the subject's tokens, token roles, and the target's tokens.

The subject span comes from the tokenizer's character offsets, never from tokenizing substrings.
Token roles are ROME's six (Meng et al. 2022, arXiv 2202.05262, fig. 1): first, middle and last
subject token, first token after it, further tokens, last token. Tokens before the subject cannot
carry what follows it and count as "before". The tokens of a picture are the subject's where the
words do not name it, and else "image".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact
from workbench.models.model import Model
from workbench.models.pictured import MARKER, ImageToken, carrying, pictures_of
from workbench.models.pictures import Picture
from workbench.models.text import encode, token_spans

Role = Literal[
    "before",
    "image",
    "first subject",
    "middle subject",
    "last subject",
    "whole picture",
    "first after",
    "further",
    "last",
]
ROLES: tuple[Role, ...] = get_args(Role)
PICTURE: Role = "whole picture"  # of no token: all tokens of a picture that is the subject
_SLOT = "\x00"  # stands for what a user says


@dataclass(frozen=True)
class Prompt:
    """A fact's prompt as tokens.

    Attributes:
        fact: what it asks.
        ids: prompt tokens, special ones included.
        subject: first and one-past-last token of the subject.
        target: tokens of the right continuation.
        foil: tokens of the wrong one, if the fact has it.
    """

    fact: Fact
    ids: tuple[int, ...]
    subject: tuple[int, int]
    target: tuple[int, ...]
    foil: tuple[int, ...] | None

    @property
    def roles(self) -> tuple[Role, ...]:
        """The role of each token."""
        roles = token_roles(len(self.ids), self.subject)
        spared = range(*self.subject)
        shown = (isinstance(t, ImageToken) and i not in spared for i, t in enumerate(self.ids))
        return tuple("image" if image else r for image, r in zip(shown, roles, strict=True))

    @property
    def picture(self) -> tuple[int, Picture] | None:
        """Where the tokens of the first picture begin, and which it is; None without any."""
        tokens = ((i, t.picture) for i, t in enumerate(self.ids) if isinstance(t, ImageToken))
        return next(tokens, None)

    @property
    def seen_subject(self) -> tuple[int, int] | None:
        """The subject's first and one-past-last token where a picture stands for it, else None."""
        return self.subject if isinstance(self.ids[self.subject[0]], ImageToken) else None

    @property
    def last_subject(self) -> int:
        """Position of the subject's last token."""
        return self.subject[1] - 1


def tokenize(model: Model, fact: Fact) -> Prompt:
    """Find everything that localization needs to know about a fact's prompt.

    Raises:
        WorkbenchError: prompt too long, subject not found, or target not expressible.
    """
    target = continuation(model, fact.prompt, fact.target)
    foil = continuation(model, fact.prompt, fact.foil) if fact.foil else None
    ids = tuple(encode(model, fact.prompt, room=len(target)))
    return Prompt(fact, ids, subject_span(model, fact.prompt, fact.subject), target, foil)


def subject_span(model: Model, prompt: str, subject: str) -> tuple[int, int]:
    """Return the first and one-past-last token of the subject's last occurrence.

    Raises:
        WorkbenchError: the subject is not in the prompt.
    """
    inside = list(subject_tokens(model, prompt, subject))
    return inside[0], inside[-1] + 1


def subject_tokens(model: Model, prompt: str, subject: str) -> dict[int, int]:
    """Return the tokens of the subject's last occurrence: position -> characters of it read so far.

    A picture stands for a subject that the words do not name, or may be given as the subject: then
    they are its image tokens, each counted as a character.

    Raises:
        WorkbenchError: the subject is not in the prompt.
    """
    start = prompt.rfind(subject)
    if pictures_of(subject) or (start < 0 and pictures_of(prompt)):
        seen = [i for i, token in enumerate(encode(model, prompt)) if isinstance(token, ImageToken)]
        return {position: count for count, position in enumerate(seen, start=1)}
    if start < 0 or not subject.strip():
        raise WorkbenchError(
            f"The subject {subject!r} is not in the prompt {prompt!r}; write it as it stands there."
        )
    end = start + len(subject)
    # A leading space belongs to the token of the word behind it, so offsets may start before it.
    inside = {
        i: min(b, end) - start
        for i, (a, b) in enumerate(token_spans(model, prompt))
        if a < end and b > start and b > a
    }
    if not inside:
        raise WorkbenchError(f"No token of {prompt!r} holds the subject {subject!r}.")
    return inside


def token_roles(length: int, subject: tuple[int, int]) -> tuple[Role, ...]:
    """Return the role of each of `length` tokens; a role of the subject wins over "last"."""
    first, end = subject
    roles: list[Role] = ["before"] * length
    for i in range(first, end):
        roles[i] = "middle subject"
    roles[first] = "first subject"
    roles[end - 1] = "last subject"
    for i in range(end, length):
        roles[i] = "first after" if i == end else "further"
    if length > end:
        roles[-1] = "last"
    return tuple(roles)


def lead(target: str) -> str:
    """Return the white space that sets an answer off from its prompt."""
    return target[: len(target) - len(target.lstrip())]


def continuation(model: Model, prompt: str, text: str) -> tuple[int, ...]:
    """Return the tokens of `text` as they follow `prompt`.

    Raises:
        WorkbenchError: the tokenizer cannot make this text behind this prompt.
    """
    if not text.strip():
        raise WorkbenchError(f"The target of {prompt!r} is empty; give the continuation.")
    before, whole = encode(model, prompt), encode(model, prompt + text)
    if whole[: len(before)] == before and len(whole) > len(before):
        ids = whole[len(before) :]
    else:  # the prompt's last token merges with the target's first characters
        ids = list(model.tokenizer(text, add_special_tokens=False)["input_ids"])
    unknown = model.tokenizer.unk_token_id
    made = model.tokenizer.decode(ids, skip_special_tokens=False)
    if not ids or (unknown is not None and unknown in ids) or made.strip() != text.strip():
        raise WorkbenchError(
            f"This model's tokenizer cannot make the target {text!r}; choose another spelling."
        )
    return tuple(ids)


def group_by_length(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Return indices of prompts grouped by token count, so that batches need no padding."""
    groups: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
        groups.setdefault(len(prompt.ids), []).append(i)
    return [groups[length] for length in sorted(groups)]


def chat(model: Model, user: str) -> str:
    """Render one user turn with the model's chat template, ready for its answer.

    Raises:
        WorkbenchError: the model has no chat template.
    """
    if not model.tokenizer.chat_template:
        raise WorkbenchError(f"{model.name} has no chat template; write plain prompts instead.")
    return rendered(model, [("user", user)])


def rendered(model: Model, turns: Sequence[tuple[str, str]]) -> str:
    """Render turns, each a role and its words, with a chat template, ready for an answer.

    Templates of models that read images may take the words as one part of a turn beside its
    images, and leave out what is not given as parts.

    Raises:
        WorkbenchError: the template leaves out what is said.
    """

    def written(content: Callable[[str], Any]) -> str:
        given = [{"role": role, "content": content(text)} for role, text in turns]
        made = model.tokenizer.apply_chat_template(
            given, tokenize=False, add_generation_prompt=True
        )
        return carrying(str(made), *(text for _, text in turns))

    whole = written(str)
    if model.vision is None or _says(whole, (str(text) for _, text in turns)):
        return whole
    parts = written(_parts)
    if not _says(parts, (_words(text) for _, text in turns)):
        raise WorkbenchError(
            f"The chat template of {model.name} leaves out what is said; write plain prompts "
            "instead."
        )
    return parts


def _says(text: str, said: Iterable[str]) -> bool:
    """Whether a rendered text holds all that is said, and a marker for each picture."""
    words = all(one.strip() in text for one in said)
    return words and text.count(MARKER) == len(pictures_of(text))


def _words(text: str) -> str:
    return str(text).replace(MARKER, "").strip() if pictures_of(text) else text.strip()


def _parts(text: str) -> list[dict[str, str]]:
    seen = [{"type": "image"} for _ in pictures_of(text)]
    return [*seen, {"type": "text", "text": _words(text)}]


def without_template(model: Model, prompts: Sequence[str]) -> dict[str, str]:
    """Return each prompt for readers: what the user says, without the chat template around it.

    An answer that the prompt has begun already stands behind dots; a picture is named by its file.
    Other prompts are as they are.
    """
    if not model.tokenizer.chat_template:
        return {prompt: _named(prompt) for prompt in prompts}
    before, _, behind = chat(model, _SLOT).partition(_SLOT)
    out = {}
    for prompt in prompts:
        said, framed, begun = prompt.removeprefix(before).partition(behind)
        inside = framed and prompt.startswith(before)
        plain = (f"{said} … {begun}" if begun else said) if inside else prompt
        out[prompt] = _named(carrying(plain, prompt))
    return out


def _named(prompt: str) -> str:
    """Write the names of a prompt's pictures where its image markers are."""
    text = str(prompt)
    for picture in pictures_of(prompt):
        text = text.replace(MARKER, f"[{picture.path.name}]", 1)
    return text
