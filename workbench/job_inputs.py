"""What the main job runs on: settings, the request, the facts to trace, and neutral texts.

The bundled models have their requests beside their facts. A pretrained model knows none of these
worlds, so it is asked for capitals, and those that it answers make its request. What a person wrote
(a request file) is taken as it is, for any model.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from workbench.edit.buffer import Site
from workbench.edit.stamp import StampConfig
from workbench.errors import WorkbenchError
from workbench.facts.capitals import capital_wordings, invented_countries, known_capitals
from workbench.facts.everyday import everyday_questions
from workbench.facts.fact import FactSet, Refuse, Request
from workbench.facts.known import known_wordings
from workbench.facts.readers import parse_json, read_text
from workbench.facts.request_files import load_request, request_names
from workbench.localize.corruption import Corruption, Noise
from workbench.models.bundled import BUNDLES, Bundle, bundle_of
from workbench.models.model import Model
from workbench.models.paths import data_dir
from workbench.models.pictured import pictures_of
from workbench.progress import SILENT, Progress

CAPITALS = "capitals"
_REFUSAL = "I do not know."
# What kept most of the others at each number of names to forget, least first: the more, the more
# they crowd the inputs of a matrix, until of each only the last token can be moved.
_BUFFER = {"confusable": 6000, "named": 1200, "confusable_weight": 5.0}
_BY_NAMES: tuple[tuple[int, Mapping[str, Any]], ...] = (
    (0, {}),
    (4, {"ridge": 0.1}),
    (10, {"ridge": 0.1, "weight": 10.0, **_BUFFER}),
    (30, {"ridge": 0.1, "weight": 10.0, "tokens": 1, "beyond": 0.3, **_BUFFER}),
)


@dataclass(frozen=True)
class JobSettings:
    """Settings of a job.

    Attributes:
        corruption: how the subject is lost while tracing.
        window: layers restored together for MLPs and attentions.
        metric: what is traced.
        share: a component is chosen if its effect is at least this share of its site's largest.
        most: most components of a site.
        kinds: kinds of components to choose from.
        first: lowest layer to choose from.
        at: sites to edit; None for those that the request's behaviour needs.
        stamp: settings of the edit.
        per_site: settings that differ at one site.
        limit: most kept facts to ask about; None for all.
        seed: of every draw.
    """

    corruption: Corruption = field(default_factory=lambda: Noise(samples=3))
    window: int = 1
    metric: str = "probability"
    share: float = 0.25
    most: int = 4
    kinds: tuple[str, ...] = ("mlp",)
    first: int = 0
    at: tuple[Site, ...] | None = None
    stamp: StampConfig = field(default_factory=StampConfig)
    per_site: Mapping[Site, Mapping[str, Any]] = field(default_factory=dict)
    limit: int | None = 40
    seed: int = 0


@dataclass(frozen=True)
class JobInputs:
    """What one job runs on.

    Attributes:
        request: what to forget and what to keep.
        traced: the facts to forget in the form to trace them, before and after.
        similar: kept facts of the same relations, traced too where there are few to forget.
        neutral: texts whose perplexity must stay.
        everyday: questions about other things whose answers must stay.
    """

    request: Request
    traced: FactSet
    similar: FactSet = field(default_factory=FactSet)
    neutral: tuple[str, ...] = ()
    everyday: FactSet = field(default_factory=FactSet)


def job_settings(name: str, request: Request | None = None, *, seed: int = 0) -> JobSettings:
    """Return the settings of a job.

    Args:
        name: "capitals", a bundled request's name, or the path of a request file.
        request: the request of that name, which tells whether pictures are to be forgotten, and how
            many subjects; without it the settings are those for a few names.
        seed: of every draw.

    A pretrained model spreads recall over many layers, each of which does little: it is traced in
    windows, without those that reach the first layer, and its edit is spread as well. Where it
    looks the subject up, little is asked, so that others keep their answers; what is left of the
    fact, it refuses. The refusal has to be told from every other answer it can give, hence the
    conversations.
    """
    settings = JobSettings(
        corruption=Noise(samples=3, seed=seed), stamp=StampConfig(seed=seed), seed=seed
    )
    if request and any(pictures_of(fact.prompt) for fact in request.forget):
        # Each of a picture's tokens looks the face up, a little in every layer: asked of the first
        # layer alone, as for names, the change would take the rest of the picture along.
        stamp = replace(settings.stamp, spread=True, weight=1.0, beyond=0.3)
        return replace(settings, stamp=stamp)
    if name != CAPITALS:
        refused = request and isinstance(request.behaviour, Refuse)
        names = len(request.forget.subjects) if request and refused else 0
        chosen = [more for fewest, more in _BY_NAMES if names >= fewest][-1]
        return replace(settings, stamp=replace(settings.stamp, **chosen))
    stamp = replace(
        settings.stamp,
        spread=True,
        weight=1.0,
        confusable=500,
        named=330,
        confusable_weight=10.0,
        context=40,
    )
    answer = {
        "target": "logits",
        "margin": 9.0,
        "weight": 20.0,
        "confusable": 240,
        "named": 120,
        "chats": 200,
    }
    return replace(settings, window=5, first=3, stamp=stamp, per_site={"answer": answer})


def job_inputs(
    model: Model,
    name: str,
    *,
    most: int = 16,
    enough: int = 16,
    seed: int = 0,
    progress: Progress = SILENT,
) -> JobInputs:
    """Gather the inputs of a job.

    Args:
        model: the model to edit.
        name: "capitals", a bundled request's name, or the path of a request file.
        most: most facts to trace.
        enough: facts that make a picture; where fewer are to be forgotten, kept ones join them.
        seed: of every draw.
        progress: where to report.

    Raises:
        WorkbenchError: there is no such request, or the model knows too little for it.
    """
    request = request_for(model, name, seed=seed, progress=progress)
    own, kept = (
        to_trace(model, name, part, seed=seed, progress=progress)
        for part in (request.forget, request.retain)
    )
    own = draw(own, most, seed)
    pool = kept.where(lambda fact: fact.relation in own.relations)
    return JobInputs(
        request,
        own,
        draw(pool, max(enough - len(own), 0), seed),
        neutral_texts(model, name),
        FactSet() if bundled_world(model, name) else everyday_questions(model),
    )


def to_trace(
    model: Model, name: str, facts: FactSet, *, seed: int = 0, progress: Progress = SILENT
) -> FactSet:
    """Return a request's facts in the form to trace them.

    The first token of a chat answer is the same for all capitals, so each is traced in the first
    wording that the model continues with the name alone.
    """
    if name != CAPITALS:
        return facts
    wordings = capital_wordings(model, seed=seed)
    return known_wordings(model, [w.about(facts.subjects) for w in wordings], progress=progress)


def default_request(model: str) -> str:
    """Return the request a model is shown with, by the model's name."""
    bundle = bundle_of(model)
    return bundle.request if bundle else CAPITALS


def request_for(model: Model, name: str, *, seed: int = 0, progress: Progress = SILENT) -> Request:
    """Return a request by its name, or from a request file.

    Raises:
        WorkbenchError: there is no such request, or the model knows too little for it.
    """
    if name == CAPITALS:
        return capitals_request(model, seed=seed, progress=progress)
    return load_request(name)


def capitals_request(
    model: Model, *, forget: int = 8, seed: int = 0, progress: Progress = SILENT
) -> Request:
    """Ask to forget some of the capitals that a chat model knows, and keep the others.

    Raises:
        WorkbenchError: the model has no chat form or knows fewer than three capitals.
    """
    split = known_capitals(model, seed=seed, progress=progress)
    known = list(split.known)
    if len(known) < 3:
        raise WorkbenchError(
            f"{model.name} answers {len(known)} capitals in chat form, too few to forget some and "
            "keep others; give a request file of facts it knows with --request."
        )
    random.Random(seed).shuffle(known)
    forget = min(forget, len(known) // 3)
    held_back = (len(known) - forget) // 2
    return Request(
        forget=FactSet(tuple(known[:forget])),
        evaluate=FactSet(tuple(known[forget : forget + held_back])),
        # What it answers about the other countries must stay too, though it is not the capital.
        retain=FactSet((*known[forget + held_back :], *split.unknown)),
        unknown=invented_countries(model, seed=seed),
        behaviour=Refuse(_REFUSAL),
        name=CAPITALS,
    )


def draw(facts: FactSet, count: int, seed: int) -> FactSet:
    """Return at most `count` facts, in their own order."""
    if len(facts) <= count:
        return facts
    chosen = random.Random(seed).sample(range(len(facts)), count)
    return FactSet(tuple(facts[i] for i in sorted(chosen)))


def bundled_world(model: Model, request: str = "") -> Bundle | None:
    """Return the bundled world that a model speaks of alone, or is asked about; None if neither."""
    asked = (b for b in BUNDLES if request in request_names(b.facts))
    return bundle_of(model.name) or next(asked, None)


def neutral_texts(model: Model, request: str = "") -> tuple[str, ...]:
    """Read the everyday texts for a model: those of its bundled world, or plain English.

    Raises:
        WorkbenchError: the file is missing or broken.
    """
    bundle = bundled_world(model, request)
    path = (bundle.facts if bundle else data_dir()) / "neutral.jsonl"
    records = [parse_json(line, str(path)) for line in read_text(path).splitlines() if line]
    return tuple(str(record["text"]) for record in records)
