"""What a patient can be asked about: facts on file, their relations, and whom a name means.

A catalogue is asked in two ways. Whom does a user mean by "mona zojum" or "Zojum"? And which
relations does "where she was born" speak of? Both are answered by words, so that a person can see
why; what the patient really knows is asked of the patient itself (`elicit`).
"""

from __future__ import annotations

import difflib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from workbench.edit.forms import Form, forms_of
from workbench.errors import WorkbenchError
from workbench.facts.capitals import capitals, invented_countries, known_capitals
from workbench.facts.fact import Fact, FactSet, Refuse, Replace, Request
from workbench.facts.readers import read_facts
from workbench.job_inputs import bundled_world, neutral_texts
from workbench.measure.answers import words
from workbench.models.bundled import Bundle
from workbench.models.model import Model
from workbench.progress import SILENT, Progress
from workbench.repair.beside import Wider
from workbench.repair.elicit import told_in_most
from workbench.repair.phrasings import Phrasings

_SMALL = frozenset(
    words(
        "a an and any are as at be by can did do does for from had has have he her his how i in is "
        "it its know known me my name of on or she so some that the their there they this to was "
        "well were what when where which who whom whose why will with you your about one"
    )
)
_ASKING = frozenset(words("where when who whom whose why how"))
_TITLES = frozenset(words("dr mr mrs ms miss prof professor sir the"))
_IDK = Refuse()
_NOTHING = FactSet()
_SHOWN = 4  # names in a question back


@dataclass(frozen=True, eq=False)
class Catalog:
    """What is on file about the world a patient speaks of.

    Attributes:
        facts: all of it; it need not be what the patient says.
        retain: what may be used to keep the rest as it is.
        evaluate: what is asked to see whether the rest is as it was, and used for nothing else.
        unknown: prompts of the same forms about subjects the patient never heard of.
        neutral: texts whose perplexity must stay.
        refusal: what the patient says where it does not know.
        wider: what else its subjects may be asked about; None where it answers nothing else.
    """

    facts: FactSet
    retain: FactSet
    evaluate: FactSet
    unknown: FactSet
    neutral: tuple[str, ...]
    refusal: Refuse
    wider: Wider | None = None

    @staticmethod
    def of(
        model: Model, file: str | Path | None = None, *, seed: int = 0, progress: Progress = SILENT
    ) -> Catalog:
        """Return what is on file for a model: its own world, capitals, or a fact file.

        Args:
            model: the patient.
            file: a fact file; subjects the model cannot know carry the tag "unknown".
            seed: of the draw of what is held back for measuring.
            progress: where to report.

        Raises:
            WorkbenchError: the file is wrong, or the model has no chat form to ask in.
        """
        if file is not None:
            given = read_facts(file)
            unknown = given.where(lambda f: "unknown" in f.tags)
            facts = given.where(lambda f: "unknown" not in f.tags)
            texts = neutral_texts(model, str(file))
            found = _halved(facts, facts, unknown, texts, _IDK, seed)
            return replace(found, wider=Wider() if model.tokenizer.chat_template else None)
        world = bundled_world(model)
        if world is not None:
            return _demo(model, world)
        facts = capitals(model, seed=seed)
        known = known_capitals(model, seed=seed, progress=progress).known
        unknown, texts = invented_countries(model, seed=seed), neutral_texts(model, "capitals")
        found = _halved(facts, known, unknown, texts, Refuse("I do not know."), seed)
        evaluate = told_in_most(model, found.evaluate, found.refusal, progress=progress)
        return replace(found, evaluate=evaluate, wider=Wider.about_countries())

    @cached_property
    def forms(self) -> Mapping[str, tuple[Form, ...]]:
        """Every wording of each relation."""
        out: dict[str, tuple[Form, ...]] = {}
        for relation in self.facts.relations:
            own = self.facts.where(lambda f, r=relation: f.relation == r)
            out[relation] = forms_of(FactSet(own.facts[:2]))
        return out

    @cached_property
    def names(self) -> Mapping[tuple[str, ...], str]:
        """Every subject by its words."""
        return {words(name): name for name in self.facts.subjects}

    @cached_property
    def _topics(self) -> Mapping[str, frozenset[str]]:
        """Return the words that speak of each relation: its wordings', and what people call it."""
        called = {r["name"]: r for r in Phrasings.of("train").relations}
        held = {r["name"]: r for r in Phrasings.of("test").relations}
        out = {}
        for relation, forms in self.forms.items():
            texts = [relation, *(form.text for form in forms)]
            for said in (called, held):
                for kind in ("nouns", "clauses"):
                    entries = said.get(relation, {}).get(kind, ())
                    texts += [variant for entry in entries for variant in entry]
            out[relation] = frozenset(w for text in texts for w in _topical(text))
        return out

    def whom(self, name: str) -> str | None:
        """Return the subject that a user means; None if nobody of that name is on file.

        Raises:
            WorkbenchError: it may be several, or it is spelt nearly like one.
        """
        said = tuple(w for w in words(name) if w not in _TITLES) or words(name)
        if said in self.names:
            return self.names[said]
        parts = [full for own, full in self.names.items() if set(said) <= set(own)]
        if len(parts) > 1:
            raise WorkbenchError(
                f"{name} may be {_either(parts)}; write the whole name of the one you mean."
            )
        if parts:
            return parts[0]
        near = difflib.get_close_matches(
            " ".join(said), [" ".join(own) for own in self.names], _SHOWN, 0.85
        )
        if near:
            known = [self.names[tuple(match.split())] for match in near]
            raise WorkbenchError(
                f"Nobody called {name} is on file, but {_either(known)} is; write the name as it "
                "is spelt there."
            )
        return None

    def speaks_of(self, what: str, relations: Sequence[str]) -> tuple[str, ...]:
        """Return which of some relations a user's words speak of; none if no word fits.

        A word counts for the more the fewer relations it fits, and one that asks (where, when)
        twice. All that fit best are returned: more than one if the words do not tell them apart.
        """
        said = _topical(what)
        scores = {}
        for relation in relations:
            own = said & self._topics[relation]
            fits = {w: sum(w in self._topics[r] for r in relations) for w in own}
            scores[relation] = sum((1 + (w in _ASKING)) / n for w, n in fits.items())
        best = max(scores.values(), default=0.0)
        return tuple(r for r, score in scores.items() if best > 0 and score > best - 1e-9)

    def asked_about(self, subject: str, relation: str) -> Fact:
        """Return the fact on file about a subject, or another one's put in its name."""
        own = self.facts.where(lambda f: f.subject == subject and f.relation == relation)
        if own:
            return own[0]
        like = self.facts.where(lambda f: f.relation == relation)[0]
        return renamed(like, subject)

    def relations_of(self, subject: str) -> tuple[str, ...]:
        """Return the relations on file about a subject; of a stranger, all."""
        return self.facts.about([subject]).relations or self.facts.relations

    def request(
        self, forget: FactSet, *, replaced: bool = False, gone: FactSet = _NOTHING
    ) -> Request:
        """Return the request that forgets some facts and keeps everything else on file.

        What else is on file about their subjects is among the retain facts, for nothing differs
        less from what is to be forgotten.

        Args:
            forget: what to forget or, where their foils are right, to correct.
            replaced: whether they are corrected.
            gone: what is to be kept no longer, because of other repairs.
        """
        named = {(f.subject, f.relation) for f in (*forget, *gone)}
        kept = self.facts.where(lambda f: (f.subject, f.relation) not in named)
        own = kept.about(forget.subjects)
        others = frozenset(f.key for f in kept) - frozenset(f.key for f in own)
        return Request(
            forget=forget,
            retain=own + self.retain.where(lambda f: f.key in others),
            evaluate=self.evaluate.where(lambda f: f.key in others),
            unknown=self.unknown,
            behaviour=Replace() if replaced else self.refusal,
            name="repair",
        )


def _demo(model: Model, world: Bundle) -> Catalog:
    """Return the world of the bundled model that reads text.

    Raises:
        WorkbenchError: it is another bundled model.
    """
    folder = world.facts
    if world.model != "demo":
        raise WorkbenchError(
            f"A sentence names whom it is about, and {model.name} is asked through pictures as "
            f"well; forget by a request such as {world.request}, or give a fact file."
        )
    facts = FactSet()
    for name in ("athletes", "people", "countries", "misinformation", "hazards"):
        facts += read_facts(folder / f"{name}.jsonl")
    tagged = {tag: facts.where(lambda f, t=tag: t in f.tags) for tag in ("retain", "evaluate")}
    unknown = read_facts(folder / "unknown.jsonl").where(lambda f: "retain" in f.tags)
    return Catalog(facts, **tagged, unknown=unknown, neutral=neutral_texts(model), refusal=_IDK)


def _halved(
    facts: FactSet,
    known: FactSet,
    unknown: FactSet,
    neutral: tuple[str, ...],
    says: Refuse,
    seed: int,
) -> Catalog:
    """Hold one known subject in three back for measuring."""
    subjects = list(known.subjects)
    random.Random(seed).shuffle(subjects)
    held_back = frozenset(subjects[: len(subjects) // 3])
    return Catalog(
        facts,
        facts.where(lambda f: f.subject not in held_back),
        known.where(lambda f: f.subject in held_back),
        unknown,
        neutral,
        says,
    )


def renamed(fact: Fact, subject: str) -> Fact:
    """Return a fact's prompts about somebody else; what is true of that one is left open."""
    old = fact.subject

    def put(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(text.replace(old, subject) for text in texts)

    return replace(
        fact,
        subject=subject,
        prompt=fact.prompt.replace(old, subject),
        foil=None,
        paraphrases=put(fact.paraphrases),
        statements=put(fact.statements),
        held_out=put(fact.held_out),
        neighbors=(),
        choices=(),
        mcq=(),
        tags=(),
        extra={},
    )


def _topical(text: str) -> frozenset[str]:
    """Return the stems of the words that say what a text is about."""
    plain = re.sub(r"\{\w+\}|[\[\]]|^Q:|\nA:$", " ", text)
    return frozenset(_stem(w) for w in words(plain) if w not in _SMALL or w in _ASKING)


def _stem(word: str) -> str:
    for ending in ("ing", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) > 2:
            return word[: -len(ending)]
    return word


def _either(names: Sequence[str]) -> str:
    shown = list(names[:_SHOWN])
    more = [f"{len(names) - _SHOWN} others"] if len(names) > _SHOWN else []
    parts = [*shown, *more]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"
