"""Facts put together from common words: in the form of templates, and from these words only."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from workbench.repair.lexicon import Lexicon
from workbench.repair.message import GAP
from workbench.repair.messages import messages
from workbench.repair.phrasings import Phrasings

FORMS = ("clauses", "facts")


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon.bundled()


def drawn(lexicon: Lexicon, count: int, seed: int = 0) -> list[dict]:
    rng = random.Random(seed)
    return [lexicon.relation(rng) for _ in range(count)]


def test_the_same_seed_puts_the_same_together(lexicon: Lexicon):
    assert drawn(lexicon, 20) == drawn(lexicon, 20) != drawn(lexicon, 20, seed=1)


def test_they_have_the_form_of_templates(lexicon: Lexicon):
    train = Phrasings.of("train")
    for relation in drawn(lexicon, 500):
        assert relation["of"] in {r["of"] for r in train.relations}
        assert relation["to"] in train.pools
        for form, slots in (("clauses", ["S"]), ("facts", ["O", "S"])):
            for (template,) in relation[form]:
                assert sorted(re.findall(r"\{(\w+)\}", template)) == slots
                assert re.fullmatch(
                    r"(\[[^][{}]+\]|\{[SO]\}|is|was|are|were|has been| )+", template
                ), template
                assert "  " not in template
        for (noun,) in relation["nouns"]:
            assert re.fullmatch(r"[^][{}]+", noun) and noun == noun.strip()


def test_every_list_is_drawn_from(lexicon: Lexicon):
    said = Counter(
        word
        for relation in drawn(lexicon, 4000)
        for form in (*FORMS, "nouns")
        for (template,) in relation[form]
        for word in re.findall(r"[^\W_]+", template)
    )
    for name in ("nouns", "adjectives", "behind", "people"):
        ends = {entry.split()[-1] for entry in getattr(lexicon, name) if entry.isascii()}
        ends = {e for e in ends if e.isalpha()}
        assert len(ends & set(said)) > 0.8 * len(ends), name
    for name in ("verbs", "intransitive"):
        heads = {form.split()[0] for verb in getattr(lexicon, name) for form in verb}
        assert len(heads & set(said)) > 0.7 * len(heads), name


def test_no_word_stands_twice_in_a_list_and_all_are_written_small(lexicon: Lexicon):
    for name in ("nouns", "adjectives", "behind", "people", "verbs", "intransitive"):
        entries = list(getattr(lexicon, name))
        assert len(entries) == len(set(entries)), name
        assert all(e == (e.lower() if isinstance(e, str) else e) for e in entries), name


def test_training_has_such_facts_and_the_test_has_none(lexicon: Lexicon):
    """The test asks about what the templates hold, so that it stays the measure it was."""
    test = Phrasings.of("test")
    templates = [*test.lists.values(), *(r[f] for r in test.relations for f in (*FORMS, "nouns"))]
    variants = [v for entries in templates for entry in entries for v in entry]
    variants += [name for pool in (*test.pools.values(), *test.subjects.values()) for name in pool]
    words = {w for v in variants for w in re.findall(r"[^\W_]+", v.lower())}
    rare = {n for n in lexicon.nouns if " " not in n} - words
    shares = []
    for split in ("train", "test"):
        abouts = [a.about.replace(GAP, " ") for m in messages(split, 1500) for a in m.asked]
        shares.append(sum(bool(rare & set(a.split())) for a in abouts) / len(abouts))
    assert shares[0] > 0.05 and shares[1] < 0.005
