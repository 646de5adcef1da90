"""Facts, sets of facts, and requests ("forget these, keep those")."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from workbench.errors import WorkbenchError
from workbench.models.pictured import MARKER, Pictured, pictures_of, shown
from workbench.models.pictures import Picture, read_picture


@dataclass(frozen=True)
class Probe:
    """A prompt and the continuation that is right.

    Attributes:
        prompt: text the model continues.
        target: the continuation, leading space included.
    """

    prompt: str
    target: str


@dataclass(frozen=True)
class Fact:
    """One thing a model may know.

    Attributes:
        subject: who or what it is about.
        prompt: text that holds the subject once; the model continues it with the target.
        target: the right continuation, leading space included.
        foil: a wrong continuation of the same kind (the counterfactual), if there is one.
        relation: name of the relation, such as "sport".
        paraphrases: other prompts with the same answer, trained forms.
        statements: prompts in statement form, continued rather than answered.
        held_out: prompts in wordings the model never saw for this subject.
        neighbors: prompts near this one whose answers must not change.
        choices: candidate answers without leading space, the target among them.
        mcq: multiple-choice prompts, answered by a letter.
        tags: free words.
        image: a picture to show; it stands where the prompts say <image>, which the main prompt
            must, and for the subject where the prompt does not name it.
        views: other pictures of the same, held back for measuring; no edit looks at them.
        extra: fields of the source file that have no meaning here.
    """

    subject: str
    prompt: str
    target: str
    foil: str | None = None
    relation: str = ""
    paraphrases: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    neighbors: tuple[Probe, ...] = ()
    choices: tuple[str, ...] = ()
    mcq: tuple[Probe, ...] = ()
    tags: tuple[str, ...] = ()
    image: Path | None = field(default=None, compare=False)  # the prompts carry its content
    views: tuple[Path, ...] = field(default=(), compare=False)
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)

    def __post_init__(self) -> None:
        """Check that the prompt holds the subject and that there is something to recall."""
        object.__setattr__(self, "extra", MappingProxyType(dict(self.extra)))
        if not self.subject.strip():
            raise WorkbenchError("A fact has an empty subject; name whom or what it is about.")
        carried = pictures_of(self.prompt)
        if self.image is None and carried:
            object.__setattr__(self, "image", carried[-1].path)
        if self.image is not None:
            self._show(read_picture(self.image))
        elif self.views:
            raise WorkbenchError(
                f"The fact about {self.subject!r} has other views but no image; give the one that "
                "it is asked with."
            )
        pictures = tuple(read_picture(view) for view in self.views)
        object.__setattr__(self, "views", tuple(picture.path for picture in pictures))
        count = self.prompt.count(self.subject)
        if count > 1 or (count == 0 and self.image is None):
            found = "not in" if count == 0 else f"{count} times in"
            raise WorkbenchError(
                f"The subject {self.subject!r} is {found} the prompt {self.prompt!r}; the prompt "
                "must hold it exactly once."
            )
        if not self.target.strip():
            raise WorkbenchError(
                f"The target of {self.prompt!r} is empty; give the continuation the model knows."
            )

    def _show(self, picture: Picture) -> None:
        """Let every prompt that has a place for it carry the picture."""
        changed: dict[str, Any] = {"image": picture.path, "prompt": shown(self.prompt, picture)}
        if not pictures_of(changed["prompt"]):
            raise WorkbenchError(
                f"The fact about {self.subject!r} has an image, but its prompt does not say where "
                f"it stands; write {MARKER} there."
            )
        for name in ("paraphrases", "statements", "held_out"):
            changed[name] = tuple(shown(text, picture) for text in getattr(self, name))
        for name in ("neighbors", "mcq"):
            probes = getattr(self, name)
            changed[name] = tuple(Probe(shown(p.prompt, picture), p.target) for p in probes)
        for name, value in changed.items():
            object.__setattr__(self, name, value)

    def in_views(self, prompt: str) -> tuple[str, ...]:
        """Return one of its prompts with each of the other views in the picture's place.

        Pictures of a text before the prompt stay.
        """
        if not pictures_of(prompt):
            return ()
        before = pictures_of(prompt)[:-1]
        return tuple(Pictured(str(prompt), (*before, read_picture(v))) for v in self.views)

    @property
    def key(self) -> tuple[str, str]:
        """What makes two facts the same: prompt and target."""
        return (self.prompt, self.target)

    def to_json(self, folder: Path | None = None) -> dict[str, Any]:
        """Return the fact as one JSON Lines record; empty fields are left out.

        Args:
            folder: where to write the record, so that its images are found from there.
        """
        out: dict[str, Any] = {"subject": self.subject, "prompt": self.prompt}
        out["target"] = self.target
        if self.foil is not None:
            out["foil"] = self.foil
        if self.relation:
            out["relation"] = self.relation
        for name in ("paraphrases", "statements", "held_out", "choices", "tags"):
            if getattr(self, name):
                out[name] = list(getattr(self, name))
        for name in ("neighbors", "mcq"):
            if getattr(self, name):
                out[name] = [{"prompt": p.prompt, "target": p.target} for p in getattr(self, name)]

        def place(path: Path) -> str:
            seen = os.path.relpath(path, folder) if folder is not None else path
            return Path(seen).as_posix()

        if self.image is not None:
            out["image"] = place(self.image)
        if self.views:
            out["views"] = [place(view) for view in self.views]
        return {**out, **self.extra}

    def content(self) -> dict[str, Any]:
        """Return the record with what the image files hold in the place of where they are."""
        record = self.to_json()
        if self.image:
            record["image"] = pictures_of(self.prompt)[0].digest
        if self.views:
            record["views"] = [read_picture(view).digest for view in self.views]
        return record


@dataclass(frozen=True)
class FactSet:
    """An ordered set of facts."""

    facts: tuple[Fact, ...] = ()

    def __iter__(self) -> Iterator[Fact]:
        """Iterate in order."""
        return iter(self.facts)

    def __len__(self) -> int:
        """Count the facts."""
        return len(self.facts)

    def __getitem__(self, index: int) -> Fact:
        """Take one fact."""
        return self.facts[index]

    def __add__(self, other: FactSet) -> FactSet:
        """Put another set behind this one."""
        return FactSet(self.facts + other.facts)

    def where(self, test: Callable[[Fact], bool]) -> FactSet:
        """Keep the facts that pass a test."""
        return FactSet(tuple(f for f in self.facts if test(f)))

    def about(self, subjects: Iterable[str]) -> FactSet:
        """Keep the facts about some subjects."""
        wanted = set(subjects)
        return self.where(lambda fact: fact.subject in wanted)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects, each once, in order."""
        return tuple(dict.fromkeys(f.subject for f in self.facts))

    @property
    def relations(self) -> tuple[str, ...]:
        """The relations, each once, in order."""
        return tuple(dict.fromkeys(f.relation for f in self.facts))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the records and their images, independent of their order."""
        lines = sorted(json.dumps(f.content(), sort_keys=True) for f in self.facts)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Refuse:
    """Answer forgotten facts with a refusal.

    Attributes:
        text: the refusal as a continuation, leading space included.
    """

    text: str = " I do not know."


@dataclass(frozen=True)
class Replace:
    """Answer forgotten facts with their foils."""


Behaviour = Refuse | Replace


@dataclass(frozen=True)
class Request:
    """Forget these facts, keep those.

    Attributes:
        forget: what the model must no longer say.
        retain: what must stay, used by the edit and never for its evaluation.
        evaluate: what must stay, held back for measuring; empty means `retain` is measured.
        unknown: prompts of the same forms about subjects the model does not know.
        behaviour: what the model says instead.
        name: where the request came from.
        heavier: how many times as much as the others some retained facts count, by their keys.
    """

    forget: FactSet
    retain: FactSet = FactSet()
    evaluate: FactSet = FactSet()
    unknown: FactSet = FactSet()
    behaviour: Behaviour = Refuse()
    name: str = ""
    heavier: Mapping[tuple[str, str], float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Refuse requests that contradict themselves."""
        if not self.forget:
            raise WorkbenchError("The forget set is empty; choose at least one fact to forget.")
        keep = {f.key for f in (*self.retain, *self.evaluate)}
        for fact in self.forget:
            if fact.key in keep:
                raise WorkbenchError(
                    f"{fact.prompt!r} stands in both forget and retain; take it out of one of them."
                )
            if isinstance(self.behaviour, Replace) and not fact.foil:
                raise WorkbenchError(
                    f"{fact.prompt!r} has no foil to replace its answer with; add one, or refuse "
                    "instead."
                )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything in the request."""
        parts = [s.fingerprint for s in (self.forget, self.retain, self.evaluate, self.unknown)]
        if self.heavier:
            parts.append(json.dumps(sorted([*key, times] for key, times in self.heavier.items())))
        return hashlib.sha256(json.dumps([*parts, repr(self.behaviour)]).encode()).hexdigest()
