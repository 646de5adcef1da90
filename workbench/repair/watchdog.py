"""The watchdog: reads a dialogue and says what its user asks to forget or to correct.

Small convolutional networks label every token of the last message: whom a request is about, what
about it, what shall be right instead, or none of these. Only users are heard; what they quote or
paste is marked as such, and so are questions, reports and hypotheses, whose spans are mentions.

Source of the role: RePAIR (arXiv 2604.12820), where a 7B language model plays it. Cost: some
milliseconds a message.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from workbench.errors import WorkbenchError
from workbench.models.paths import data_dir
from workbench.repair.intent import Intent, Turn
from workbench.repair.labelling import LABELS, Committee, Known, Net, NetConfig, encoded
from workbench.repair.message import GAP
from workbench.repair.words import Word, words

_ASKS = torch.tensor([label.startswith(("forget", "correct")) for label in LABELS])
_SAME = torch.tensor([[float(a.split(" ")[0] == b.split(" ")[0]) for a in LABELS] for b in LABELS])
SURE = 0.75  # least probability of a request that is heard
LONGEST = 400  # tokens read at a time; of a longer message, pieces one after the other
_PRONOUNS = frozenset(
    ["he", "she", "they", "her", "him", "them", "it", "this", "that", "his", "their", "its", "one"]
) | {"this person", "that person", "this one", "that one", "this fact", "that fact"}


class Span(NamedTuple):
    """Neighbouring tokens with one label, and the mean probability of its request."""

    label: str
    first: int
    last: int
    probability: float


@dataclass(frozen=True, eq=False)
class Watchdog:
    """Trained networks and the words they know.

    Attributes:
        net: the networks, heard together.
        known: the words they know.
    """

    net: Committee
    known: Known

    @staticmethod
    def load(path: Path | None = None) -> Watchdog:
        """Read a watchdog, the bundled one by default.

        Raises:
            WorkbenchError: the file is missing or broken.
        """
        return _load(path or bundled())

    def save(self, path: Path) -> None:
        """Write it as safetensors in half precision, its words in the header."""
        path.parent.mkdir(parents=True, exist_ok=True)
        weights = {n: t.to(torch.float16).contiguous() for n, t in self.net.state_dict().items()}
        nets = [cast(Net, net) for net in self.net.nets]
        header = {
            "words": list(self.known.words),
            "meanings": list(self.known.meanings),
            "config": nets[0].config.__dict__,
            "members": len(nets),
        }
        save_file(weights, path, {"watchdog": json.dumps(header, ensure_ascii=False)})

    def read(self, dialogue: Sequence[Turn]) -> tuple[Intent, ...]:
        """Return what the last message asks for, one intent a subject; empty if nothing.

        Args:
            dialogue: what was said so far. Only a user's message can ask for anything; earlier
                ones tell whom "she" or "that" means.
        """
        if not dialogue or dialogue[-1].role != "user":
            return ()
        said = self.mentions(dialogue[-1].text)
        found = [i for i in said if i.action != "none" and i.confidence >= SURE]
        if any(_pronoun(i) for i in found):
            found = _one_a_subject([_named(i, said) for i in found])
            before = [t.text for t in dialogue[:-1] if t.role == "user"]
            found = [self._resolved(i, before) for i in found]
        return tuple(found)

    def _resolved(self, intent: Intent, before: Sequence[str]) -> Intent:
        """Put whom an earlier message was about in the place of a pronoun."""
        if not _pronoun(intent):
            return intent
        for text in reversed(before):
            for earlier in self.mentions(text):
                if earlier.subject and not _pronoun(earlier):
                    about = intent.about or earlier.about
                    return replace(intent, subject=earlier.subject, about=about)
        return intent

    def mentions(self, text: str) -> list[Intent]:
        """Return every subject of a message, with "none" of those nobody asks to change."""
        tokens = words(text)
        out = []
        for start in range(0, len(tokens), LONGEST):
            part = tokens[start : start + LONGEST]
            out += intents(text, part, self.labels(part))
        return out

    @torch.no_grad()
    def labels(self, tokens: Sequence[Word]) -> list[tuple[str, float]]:
        """Return each token's likeliest label, and how probable what is asked in it is.

        That is the probability of all labels of the same request, "forget" for instance: where a
        subject ends may be doubtful and that it is to be forgotten certain.
        """
        if not tokens:
            return []
        logits = self.net(torch.tensor([encoded(tokens, self.known)]))[0]
        pasted = torch.tensor([w.voice == "pasted" for w in tokens])
        logits[pasted[:, None] & _ASKS] = -math.inf  # what is pasted asks for nothing
        probabilities = logits.softmax(-1)
        label = probabilities.argmax(-1)
        asked = (probabilities @ _SAME)[torch.arange(len(tokens)), label]
        asked = asked.clamp(max=1)  # a sum of shares may be a hair above
        return [(LABELS[i], p) for i, p in zip(label.tolist(), asked.tolist(), strict=True)]


def bundled() -> Path:
    """Return where the bundled watchdog is."""
    return data_dir() / "watchdog" / "watchdog.safetensors"


@cache
def _load(path: Path) -> Watchdog:
    try:
        with safe_open(path, "pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})["watchdog"])
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        learned, given = ({w: i for i, w in enumerate(header[k])} for k in ("words", "meanings"))
        known = Known(learned, given)
        net = Committee.of(header["members"], known, NetConfig(**header["config"]))
        net.load_state_dict(weights)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WorkbenchError(
            f"{path} holds no watchdog; train one with `workbench watchdog train`."
        ) from error
    return Watchdog(net.eval(), known)


def _pronoun(intent: Intent) -> bool:
    return intent.subject.lower() in _PRONOUNS


def _named(intent: Intent, said: Sequence[Intent]) -> Intent:
    """Put whom the message named before in the place of a pronoun.

    "Forget Ada and him" is about two people: a bare pronoun does not mean one that is asked about.
    """
    if _pronoun(intent):
        for earlier in reversed(said[: said.index(intent)]):
            if not _pronoun(earlier) and (intent.about or earlier.action == "none"):
                return replace(intent, subject=earlier.subject)
    return intent


def _one_a_subject(found: Sequence[Intent]) -> list[Intent]:
    """Join what is asked about one subject in several places."""
    of: dict[tuple[str, str], list[Intent]] = {}
    for intent in found:
        of.setdefault((intent.action, intent.subject), []).append(intent)
    return [
        replace(
            own[0],
            about=GAP.join(dict.fromkeys(i.about for i in own if i.about)),
            replacement=GAP.join(dict.fromkeys(i.replacement for i in own if i.replacement)),
            words=GAP.join(dict.fromkeys(i.words for i in own)),
            confidence=min(i.confidence for i in own),
        )
        for own in of.values()
    ]


def spans(labels: Sequence[tuple[str, float]]) -> list[Span]:
    """Join neighbouring tokens of one label."""
    out: list[Span] = []
    start = 0
    for i in range(1, len(labels) + 1):
        if i == len(labels) or labels[i][0] != labels[start][0]:
            if labels[start][0]:
                mean = math.fsum(p for _, p in labels[start:i]) / (i - start)
                out.append(Span(labels[start][0], start, i - 1, mean))
            start = i
    return out


def intents(text: str, tokens: Sequence[Word], labels: Sequence[tuple[str, float]]) -> list[Intent]:
    """Put labelled tokens together: each subject with what touches it.

    Words that say what about a subject stand beside it; a replacement belongs to the subject before
    it, or to the first one behind.
    """
    found = spans(labels)
    subjects = [s for s in found if s.label.endswith("subject")]
    own: dict[tuple[str, str], list[Span]] = {}
    for span in found:
        action, _, _ = span.label.partition(" ")
        near = [s for s in subjects if s.label.startswith(action)]
        if span in near:
            owner = span
        elif not near:
            continue
        elif span.label.endswith("about"):
            owner = min(near, key=lambda s: _gap(span, s))
        else:
            owner = max((s for s in near if s.last < span.first), default=near[0])
        own.setdefault((action, _said(text, tokens, owner).lower()), []).append(span)
    return [_intent(text, tokens, action, parts) for (action, _), parts in own.items()]


def _gap(a: Span, b: Span) -> int:
    return max(b.first - a.last, a.first - b.last)


def _intent(text: str, tokens: Sequence[Word], action: str, parts: Sequence[Span]) -> Intent:
    said = {
        kind: list(dict.fromkeys(_said(text, tokens, s) for s in parts if s.label.endswith(kind)))
        for kind in ("subject", "about", "replacement")
    }
    first, last = min(s.first for s in parts), max(s.last for s in parts)
    return Intent(
        "none" if action == "mention" else action,  # type: ignore[arg-type]
        said["subject"][0],
        GAP.join(said["about"]),
        GAP.join(said["replacement"]),
        text[tokens[first].start : tokens[last].end],
        min(s.probability for s in parts if s.label.endswith("subject")),
    )


def _said(text: str, tokens: Sequence[Word], span: Span) -> str:
    return " ".join(text[tokens[span.first].start : tokens[span.last].end].split())
