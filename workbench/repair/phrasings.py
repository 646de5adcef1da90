"""The templates of made-up messages, and which of them are held out for testing.

Of every list one variant in three may be held out, chosen by its content: a test message has a
frame, forms and subjects that no training message has. Each of its templates' words is in some
template of training, and verbs and wrappers are the same: what a word means cannot be learned from
words that are not it.

The templates are written in data/watchdog; their notation stands at the top of phrasings.toml.
"""

from __future__ import annotations

import itertools
import random
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
        lists: every list of templates, its held-out variants or the others; those of one entry
            stand together, so that an entry with many is not drawn more often than one with few.
        relations: what people ask about; its forms are such lists too.
    """

    split: Split
    lists: Mapping[str, Sequence[Sequence[str]]]
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
            f"{part}.{name}": [_variants(entry) for entry in entries]
            for part, of_part in phrasings.items()
            for name, entries in of_part.items()
        }
        forms = ("clauses", "nouns", "facts")
        for relation, form in itertools.product(relations["relation"], forms):
            relation[form] = [_variants(entry) for entry in relation[form]]
        templates = [*lists.values(), *(r[form] for r in relations["relation"] for form in forms)]
        held_out = _held_out([v for entries in templates for entry in entries for v in entry])

        def of_split(entries: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
            kept = [[v for v in e if (v in held_out) == (split == "test")] for e in entries]
            return [e for e in kept if e] or entries

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

    def has(self, name: str, template: str) -> bool:
        """Whether a template is in a list."""
        return any(template in entry for entry in self.lists[name])


def draw(entries: Sequence[Sequence[str]], rng: random.Random) -> str:
    """Draw an entry of a list, then one of its variants."""
    return rng.choice(rng.choice(entries))


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
