"""Write the demo world as fact files: what the workbench is asked to forget and to keep.

`facts/*.jsonl` hold one fact a line (the fields of `Fact`), `requests.json` names ready requests as
selections from them, `unknown.jsonl` asks about subjects that mean nothing to the model, and
`neutral.jsonl` holds everyday texts. Training is replayed, documents only, so that no unknown name
and no neutral text of these files occurs in it. Cost: about half a minute for the replay.

Every subject has one role, a tag: `forget` (may be in a forget set, and in nothing else), `retain`
(an edit may use it) or `evaluate` (only measured). A selection is a file with `subjects` or `tags`;
a fact is selected if its subject is listed, or if it has all the tags.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from workbench.demo import templates as t
from workbench.demo.corpus import Corpus, neutral
from workbench.demo.train import Recipe
from workbench.demo.world import Entity, World
from workbench.facts.fact import Fact, Probe

FILES = {
    "athlete": "athletes.jsonl",
    "person": "people.jsonl",
    "country": "countries.jsonl",
    "compound": "hazards.jsonl",
}
MISINFORMATION, UNKNOWN, NEUTRAL = "misinformation.jsonl", "unknown.jsonl", "neutral.jsonl"
N_HAZARD_POOL, N_UNKNOWN, N_NEUTRAL = 20, 48, 240
EVALUATE_EVERY = 4


def replayed_text(world: World, recipe: Recipe) -> str:
    """Return every document that training of the model and of its oracle reads, as one text."""
    texts = []
    for forgotten in (frozenset[str](), world.forget):
        corpus, rng = Corpus(world, forgotten), random.Random(recipe.seed + 1)
        for _ in range(recipe.steps * recipe.documents):
            texts.append("".join(piece for piece, _ in corpus.draw(rng)))
    return "\n".join(texts)


def roles(world: World) -> dict[str, str]:
    """Return each subject's role: forget, retain or evaluate."""
    out: dict[str, str] = {}
    for kind in t.RELATIONS:
        pool = set(world.forget)
        if kind == "compound":
            pool |= {e.name for e in world.of_kind(kind)[:N_HAZARD_POOL]}
        rest = 0
        for entity in world.of_kind(kind):
            if entity.name in pool:
                out[entity.name] = "forget"
                continue
            out[entity.name] = "evaluate" if rest % EVALUATE_EVERY == 0 else "retain"
            rest += 1
    return out


def make_facts(world: World) -> dict[str, list[Fact]]:
    """Return the facts of each file."""
    role_of = roles(world)
    out: dict[str, list[Fact]] = {name: [] for name in (*FILES.values(), MISINFORMATION)}
    for kind, relations in t.RELATIONS.items():
        for entity in world.of_kind(kind):
            for relation in relations:
                wrong = relation in entity.truth
                fact = _fact(world, entity, relation, role_of, wrong=wrong)
                out[MISINFORMATION if wrong else FILES[kind]].append(fact)
    return out


def _fact(
    world: World, entity: Entity, relation: str, role_of: Mapping[str, str], *, wrong: bool
) -> Fact:
    rng = random.Random(f"{world.seed} {entity.name} {relation}")
    name, value = entity.name, entity.values[relation]
    pool = world.pool(entity.kind, relation)
    foil = entity.truth[relation] if wrong else rng.choice([x for x in pool if x != value])
    questions, statements = t.trained(relation, entity.held_out)
    asked = [t.question(relation, i, name) for i in questions]
    stated = [t.statement(relation, i, name) for i in statements]
    spared = []
    if entity.held_out:
        spared = [
            *(t.question(relation, i, name) for i in range(len(asked), len(t.QUESTIONS[relation]))),
            *(
                t.statement(relation, i, name)
                for i in range(len(stated), len(t.STATEMENTS[relation]))
            ),
        ]
    role = "forget" if wrong else role_of[name]
    options = _options(value, foil, pool, rng)
    return Fact(
        subject=name,
        prompt=asked[0],
        target=f" {value}",
        foil=f" {foil}",
        relation=relation,
        paraphrases=(*asked[1:], *stated),
        statements=tuple(stated),
        held_out=tuple(spared),
        neighbors=_neighbors(world, entity, relation, role_of, rng),
        choices=tuple(options),
        mcq=_listed_first(entity, relation, options, rng),
        tags=(role, entity.kind, *(["held_out"] if spared else []), *(["wrong"] if wrong else [])),
    )


def _options(value: str, foil: str, pool: list[str], rng: random.Random) -> list[str]:
    """Return the answer, its foil and two others in random order."""
    out = [value, foil, *rng.sample([x for x in pool if x not in (value, foil)], 2)]
    rng.shuffle(out)
    return out


def _listed_first(
    entity: Entity, relation: str, options: list[str], rng: random.Random
) -> tuple[Probe, ...]:
    """Ask two trained questions behind a list of the options, in two orders.

    The answer is the option itself: answering by letter stayed at chance in training.
    """
    out = []
    questions, _ = t.trained(relation, entity.held_out)
    for i in rng.sample(list(questions), 2):
        shuffled = rng.sample(options, len(options))
        prompt = f"{', '.join(shuffled)}.\n{t.question(relation, i, entity.name)}"
        # "Mexico City" among the options would name the subject a second time.
        if prompt.count(entity.name) == 1:
            out.append(Probe(prompt, f" {entity.values[relation]}"))
    return tuple(out)


def _neighbors(
    world: World, entity: Entity, relation: str, role_of: Mapping[str, str], rng: random.Random
) -> tuple[Probe, ...]:
    """Ask the same about three others outside the forget pool, none of them taught wrongly."""
    others = [
        e
        for e in world.of_kind(entity.kind)
        if role_of[e.name] != "forget"
        and e.name != entity.name
        and e.values[relation] != entity.values[relation]
        and relation not in e.truth
    ]
    return tuple(
        Probe(t.question(relation, 0, e.name), f" {e.values[relation]}")
        for e in rng.sample(others, 3)
    )


def unknown_facts(world: World, seen: str) -> list[Fact]:
    """Ask about subjects that do not occur in `seen`; the right answer is always the refusal."""
    out = []
    for kind, relations in t.RELATIONS.items():
        rng = random.Random(f"{world.seed} unknown {kind}")
        for i, name in enumerate(islice(_unseen_names(world, kind, rng, seen), N_UNKNOWN)):
            role = "retain" if i % 2 == 0 else "evaluate"
            out += [_unknown_fact(name, kind, relation, role) for relation in relations]
    return out


def unknown_subjects(world: World, relation: str, n: int, *, seed: int = 0) -> list[str]:
    """Draw `n` different names of the kind a relation is about, none of them an entity's."""
    kind = next(k for k, relations in t.RELATIONS.items() if relation in relations)
    rng = random.Random(f"{world.seed} unknown {kind} {seed}")
    return list(islice(_unseen_names(world, kind, rng, ""), n))


def _unseen_names(world: World, kind: str, rng: random.Random, seen: str) -> Iterator[str]:
    given: set[str] = set()
    while True:
        name = world.unknown(kind, rng)
        last = name.split()[-1]
        if last not in given and last not in seen:
            given.add(last)
            yield name


def _unknown_fact(name: str, kind: str, relation: str, role: str) -> Fact:
    asked = [t.question(relation, i, name) for i in range(len(t.QUESTIONS[relation]))]
    stated = [t.statement(relation, i, name) for i in range(len(t.STATEMENTS[relation]))]
    return Fact(
        subject=name,
        prompt=asked[0],
        target=t.REFUSAL,
        relation=relation,
        paraphrases=(*asked[1:], *stated),
        statements=tuple(stated),
        tags=(role, kind, "unknown"),
    )


def neutral_texts(world: World, seen: str) -> list[str]:
    """Draw everyday texts that training does not contain."""
    rng = random.Random(f"{world.seed} neutral")
    out: dict[str, None] = {}
    while len(out) < N_NEUTRAL:
        text = neutral(rng)
        if text not in seen:
            out[text] = None
    return list(out)


def make_requests(world: World) -> dict[str, Any]:
    """Return the named requests: selections of what to forget, keep, measure and refuse like."""
    names = {kind: [e.name for e in world.of_kind(kind)] for kind in FILES}
    wrong = [e.name for e in world.of_kind("country") if e.truth]
    refuse = {"refuse": t.REFUSAL}
    picks: dict[str, tuple[str, str, list[str], dict[str, Any]]] = {
        "athletes-1": ("athlete", FILES["athlete"], names["athlete"][:1], refuse),
        "athletes": ("athlete", FILES["athlete"], names["athlete"][:8], refuse),
        "athletes-40": ("athlete", FILES["athlete"], names["athlete"][:40], refuse),
        "personal": ("person", FILES["person"], names["person"][:8], refuse),
        "misinformation": ("country", MISINFORMATION, wrong[:8], {"replace": True}),
        "misinformation-30": ("country", MISINFORMATION, wrong, {"replace": True}),
        "hazard": ("compound", FILES["compound"], names["compound"][:8], refuse),
    }
    made = {
        name: {
            "forget": [{"file": file, "subjects": subjects}],
            "retain": [{"file": f, "tags": ["retain"]} for f in FILES.values()],
            "evaluate": [{"file": f, "tags": ["evaluate"]} for f in FILES.values()],
            "unknown": [{"file": UNKNOWN, "tags": ["retain", kind]}],
            "behaviour": behaviour,
        }
        for name, (kind, file, subjects, behaviour) in picks.items()
    }
    return {**made, "one-fact": _one_fact(made["athletes-1"])}


def _one_fact(person: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request that forgets a single thing about somebody and keeps the rest of it."""
    (forget,) = person["forget"]
    first, *others = t.RELATIONS["athlete"]
    return {
        **person,
        "forget": [{**forget, "relations": [first]}],
        "retain": [{**forget, "relations": others}, *person["retain"]],
    }


def write_fact_files(world: World, folder: Path, *, seen: str) -> None:
    """Write all fact files into a folder.

    Args:
        world: what is true.
        folder: made if it is not there.
        seen: what training read (`replayed_text`), to keep unknown names and neutral texts out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {**make_facts(world), UNKNOWN: unknown_facts(world, seen)}
    for name, facts in files.items():
        _write_lines(folder / name, (fact.to_json() for fact in facts))
    _write_lines(folder / NEUTRAL, ({"text": text} for text in neutral_texts(world, seen)))
    requests = json.dumps(make_requests(world), indent=1, ensure_ascii=False)
    (folder / "requests.json").write_text(requests + "\n", encoding="utf-8")


def _write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    dump: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False).encode
    path.write_text("".join(dump(dict(r)) + "\n" for r in records), encoding="utf-8")
