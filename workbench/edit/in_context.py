"""Unlearning in context: nothing is edited; a text before each prompt asks for it.

An inference-time baseline. The weights stay as they are, so whoever leaves the text away has the
base model back: it shows how far asking gets, not what unlearning does.

    instruction  a sentence that names the subjects and asks for the refusal
    flipped      forget facts with the refusal or foil as their answers, then kept facts with theirs
    unknown      refusals about subjects the model does not know, then kept facts with theirs

Source: Pawelczyk, Neel & Lakkaraju 2024 (arXiv 2310.07579): inputs to forget with flipped labels,
other inputs with their own, then the query. Instructions: Thaker et al. 2024 (arXiv 2403.03329).
`with_context` puts the text before the prompts of a request, which is then measured like any other.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

from jinja2.exceptions import TemplateError

from workbench.edit.forms import prompts_of
from workbench.edit.targets import turn_end
from workbench.edit.train.lessons import answer_instead
from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.fact import Fact, FactSet, Probe, Refuse, Request
from workbench.facts.multiple_choice import letter_probe
from workbench.models.model import Model
from workbench.models.pictured import joined
from workbench.models.text import generate, token_spans
from workbench.progress import SILENT, Progress

ContextName = Literal["instruction", "flipped", "unknown"]
CONTEXTS: tuple[ContextName, ...] = get_args(ContextName)
_ROOM = 32  # tokens left for an answer


@dataclass(frozen=True)
class InContextConfig:
    """Settings of unlearning in context.

    Attributes:
        context: instruction, flipped or unknown; auto tries them and takes the one that forgets
            and keeps most.
        refusals: facts shown with the refusal or foil, as far as they fit.
        kept: facts shown with their own answers, as far as they fit.
        tried: forget prompts, and kept ones, that auto tries each text on.
        seed: of every draw.
    """

    context: str = "auto"
    refusals: int = 4
    kept: int = 8
    tried: int = 16
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        check_context(self.context)
        for name in ("refusals", "tried"):
            if getattr(self, name) < 1:
                raise WorkbenchError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.kept < 0:
            raise WorkbenchError(f"kept must not be negative, not {self.kept}.")


@dataclass(frozen=True)
class InContext:
    """A text to put before prompts. No weight changes.

    Attributes:
        text: the text.
        context: which kind it is.
        n_tokens: its length.
    """

    text: str
    context: ContextName
    n_tokens: int


def in_context(
    model: Model,
    request: Request,
    config: InContextConfig | None = None,
    *,
    progress: Progress = SILENT,
) -> InContext:
    """Make the text that asks a model to forget.

    Args:
        model: the model, which stays as it is.
        request: what to forget and keep; nothing held back for measuring is shown.
        config: settings.
        progress: where to report.

    Raises:
        WorkbenchError: settings that make no sense, or the request lacks what the text needs.
    """
    config = config or InContextConfig()
    config.check()
    longest = max(len(token_spans(model, prompt)) for prompt in _measured(model, request))
    room = longest + _ROOM
    sizes = config.refusals, config.kept
    if config.context != "auto":
        return context_text(model, request, config.context, *sizes, room, config.seed)
    drawn = random.Random(config.seed)
    gone = drawn.sample(list(request.forget), min(config.tried, len(request.forget)))
    stay = drawn.sample(list(request.retain), min(config.tried, len(request.retain)))
    before = generate(model, [f.prompt for f in stay], max_new_tokens=12)
    best: tuple[float, InContext] | None = None
    for kind in progress.track(possible(request), "contexts"):
        made = context_text(model, request, kind, *sizes, room, config.seed)
        said = answers_behind(model, made.text, [f.prompt for f in gone + stay])
        leaked = [a.strip().startswith(f.target.strip()) for a, f in zip(said, gone, strict=False)]
        same = [a == b for a, b in zip(said[len(gone) :], before, strict=True)]
        score = _share(same) - _share(leaked)
        if best is None or score > best[0]:
            best = score, made
    assert best is not None  # flipped is always possible
    return best[1]


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / max(len(hits), 1)


def check_context(name: str) -> None:
    """Refuse the name of a context that there is not.

    Raises:
        WorkbenchError: there is none of this name.
    """
    if name not in ("auto", *CONTEXTS):
        raise unknown_name("context", name, ("auto", *CONTEXTS))


def possible(request: Request) -> tuple[ContextName, ...]:
    """Return the contexts a request allows."""
    refuses = isinstance(request.behaviour, Refuse)
    asked = ("instruction",) if refuses else ()
    return (*asked, "flipped", *(("unknown",) if refuses and request.unknown else ()))


def answers_behind(model: Model, text: str, prompts: Sequence[str]) -> list[str]:
    """Return the model's greedy answers to prompts with a text before each."""
    return generate(model, [behind(model, text, p) for p in prompts], max_new_tokens=12)


def context_text(
    model: Model,
    request: Request,
    kind: str,
    refusals: int,
    kept: int,
    room: int,
    seed: int,
) -> InContext:
    """Write one context.

    Args:
        model: whose chat form and context length to use.
        request: what to forget and keep.
        kind: instruction, flipped or unknown.
        refusals: facts shown with the refusal or foil; as many of them as fit.
        kept: facts shown with their own answers; as many of them as fit.
        room: tokens to leave for what follows.
        seed: of the draw of kept facts.

    Raises:
        WorkbenchError: the request does not allow this kind, or nothing fits.
    """
    if kind not in possible(request):
        raise WorkbenchError(
            f"The context {kind!r} needs a request that refuses"
            f"{' and has an `unknown` set' if kind == 'unknown' else ''}; use 'flipped'."
        )
    asked: list[tuple[str, str]] = []
    if kind == "flipped":
        asked = [(f.prompt, answer_instead(request, f)) for f in _in_turn(request.forget)]
    elif kind == "unknown":
        asked = [(f.prompt, answer_instead(request, f)) for f in request.unknown]
    shown = random.Random(seed).sample(list(request.retain), min(kept, len(request.retain)))
    first, then = asked[:refusals], [(f.prompt, f.target) for f in shown]
    while True:
        text = _instruction(model, request) if kind == "instruction" else solved(model, first)
        text += solved(model, then)
        length = len(token_spans(model, text))
        if length + room <= model.n_ctx:
            return InContext(text, kind, length)
        if not then and len(first) <= 1:
            raise WorkbenchError(
                f"A context of {length} tokens and the {room} of a prompt with its answer are more "
                f"than the {model.n_ctx} of this model's context; shorten the prompts."
            )
        if len(then) >= len(first):
            then = then[:-1]
        else:
            first = first[:-1]


def _in_turn(facts: FactSet) -> list[Fact]:
    """Order facts so that every subject comes up before any does again, each with another one."""
    ordered = []
    for number, subject in enumerate(facts.subjects):
        own = list(facts.about([subject]))
        for turn in range(len(own)):
            ordered.append((turn, number, own[(turn + number) % len(own)]))
    return [fact for _, _, fact in sorted(ordered, key=lambda item: item[:2])]


def _instruction(model: Model, request: Request) -> str:
    """Return the sentence that asks to refuse, as a system turn where the model has such."""
    names = request.forget.subjects
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    refusal = request.behaviour.text.strip()  # type: ignore[union-attr]
    sentence = f'You know nothing about {listed}. If you are asked about them, answer "{refusal}"'
    if model.tokenizer.chat_template:
        turn = [{"role": "system", "content": sentence}]
        try:
            return str(model.tokenizer.apply_chat_template(turn, tokenize=False))
        except TemplateError:  # a template without system turns
            pass
    return f"{sentence}\n"


def solved(model: Model, pairs: Sequence[tuple[str, str]]) -> str:
    """Write prompts with answers one behind the other."""
    end = turn_end(model)
    return joined(
        part for prompt, answer in pairs for part in (_bare(model, prompt), f"{answer}{end}")
    )


def _bare(model: Model, prompt: str) -> str:
    return prompt.removeprefix(model.tokenizer.bos_token or "")


def behind(model: Model, text: str, prompt: str) -> str:
    """Put a text before a prompt; what begins a rendered prompt then begins the text."""
    bare = _bare(model, prompt)
    return prompt[: len(prompt) - len(bare)] + _bare(model, text) + bare


@dataclass(frozen=True)
class Asked(Fact):
    """A fact whose prompts stand behind a text, which may name its subject too."""

    def __post_init__(self) -> None:
        """Freeze what is given; the fact was checked when it was made."""
        object.__setattr__(self, "extra", MappingProxyType(dict(self.extra)))


def with_context(request: Request, model: Model, text: str) -> Request:
    """Return a request whose prompts to measure stand behind a text.

    Those of the forget set and of the evaluation set, or of the retain set where nothing is held
    back, multiple choice and neighbors included.
    """

    def ahead(fact: Fact) -> Fact:
        def probes(given: Sequence[Probe]) -> tuple[Probe, ...]:
            return tuple(Probe(behind(model, text, p.prompt), p.target) for p in given)

        def prompts(given: Sequence[str]) -> tuple[str, ...]:
            return tuple(behind(model, text, p) for p in given)

        values: dict[str, Any] = {f.name: getattr(fact, f.name) for f in fields(Fact)}
        values |= {name: prompts(getattr(fact, name)) for name in _WORDINGS}
        values["prompt"] = behind(model, text, fact.prompt)
        values["neighbors"] = probes(fact.neighbors)
        values["mcq"] = probes(fact.mcq or letter_probe(model, fact))
        return Asked(**values)

    def every(facts: FactSet) -> FactSet:
        return FactSet(tuple(ahead(fact) for fact in facts))

    measured = "evaluate" if request.evaluate else "retain"
    return replace(
        request, forget=every(request.forget), **{measured: every(getattr(request, measured))}
    )


_WORDINGS = ("paraphrases", "statements", "held_out")


def _measured(model: Model, request: Request) -> list[str]:
    """Return every prompt that may be measured."""
    facts = (*request.forget, *(request.evaluate or request.retain))
    asked = [p for f in facts for p in (*prompts_of(f), *f.held_out)]
    probes = (p for f in facts for p in (*f.neighbors, *(f.mcq or letter_probe(model, f))))
    return list(dict.fromkeys((*asked, *(p.prompt for p in probes))))
