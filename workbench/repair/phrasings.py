"""The templates of made-up messages, and which of them are held out for testing.

Of every list one entry in three may be held out, chosen by its content: a test message has a frame,
forms and subjects that no training message has. Each of its templates' words is in some template
of training, and verbs and wrappers are the same: what a word means cannot be learned from words
that are not it.

The templates are written in data/watchdog; their notation stands at the top of phrasings.toml.
"""

from __future__ import annotations

import itertools
import re
import tomllib
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from workbench.facts.readers import read_text
from workbench.models.paths import data_dir

Split = Literal["train", "test"]

SLOT = re.compile(r"\{(\w+)\}|(\[)|(\])")  # a slot; an end of words about a subject
_WORD = re.compile(r"[^\W_]+")
_ONE_IN = 3  # one entry in so many may be held out
_SHARED = frozenset(("forget.verbs", "forget.tails", "wrappers.before", "wrappers.after"))


@dataclass(frozen=True)
class Phrasings:
    """The templates of one split.

    Attributes:
        split: "train" or "test".
        lists: every list of templates, its held-out entries or the others.
        relations: what people ask about.
    """

    split: Split
    lists: Mapping[str, Sequence[str]]
    relations: Sequence[Mapping[str, Any]]
    pools: Mapping[str, Sequence[str]]
    subjects: Mapping[str, Sequence[str]]

    @staticmethod
    @cache
    def of(split: Split) -> Phrasings:
        """Read one split of the bundled templates."""
        folder = data_dir() / "watchdog"
        phrasings, relations = (
            tomllib.loads(read_text(folder / name)) for name in ("phrasings.toml", "relations.toml")
        )
        lists = {
            f"{part}.{name}": [variant for entry in entries for variant in _variants(entry)]
            for part, of_part in phrasings.items()
            for name, entries in of_part.items()
        }
        forms = ("clauses", "nouns", "facts")
        for relation, form in itertools.product(relations["relation"], forms):
            relation[form] = [v for entry in relation[form] for v in _variants(entry)]
        templates = [*lists.values(), *(r[form] for r in relations["relation"] for form in forms)]
        held_out = _held_out([entry for entries in templates for entry in entries])

        def of_split(entries: Sequence[str]) -> list[str]:
            kept = [e for e in entries if (e in held_out) == (split == "test")]
            return kept or list(entries)

        def drawn(entries: Sequence[str]) -> Sequence[str]:
            out = [e for e in entries if _chosen(e)][: len(entries) - 1] or entries[-1:]
            return out if split == "test" else [e for e in entries if e not in out]

        return Phrasings(
            split,
            {name: e if name in _SHARED else of_split(e) for name, e in lists.items()},
            [{**r, **{form: of_split(r[form]) for form in forms}} for r in relations["relation"]],
            {name: drawn(pool) for name, pool in relations["pools"].items()},
            {name: drawn(pool) for name, pool in relations["subjects"].items()},
        )


def _variants(entry: str) -> list[str]:
    """Write out a template's alternatives, "(a|b)"."""
    if "(" not in entry:
        return [entry]
    parts = re.split(r"\(([^()]*)\)", entry)
    choices = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
    written = ("".join(chosen) for chosen in itertools.product(*choices))
    return [re.sub("  +", " ", text).strip(" ") for text in written]


def _held_out(templates: Sequence[str]) -> frozenset[str]:
    """Choose which templates are held out: no word of theirs may be missing in the others."""
    of = {t: set(_WORD.findall(SLOT.sub(" ", t).lower())) for t in templates}
    left = Counter(word for found in of.values() for word in found)
    out = set()
    for template in sorted(of, key=lambda t: zlib.crc32(t.encode())):
        if _chosen(template) and of[template] and all(left[w] > 1 for w in of[template]):
            left.subtract(of[template])
            out.add(template)
    return frozenset(out)


def _chosen(entry: str) -> bool:
    return zlib.crc32(entry.encode()) % _ONE_IN == 0
