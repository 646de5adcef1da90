"""Write the world of people who can be seen as fact files, with their pictures.

`facts/faces.jsonl` asks through a picture that training shows, and has two as `views` that it never
shows; `names.jsonl` asks by name, `scenes.jsonl` what is plain to see, `unknown.jsonl` about people
whom the model does not know; `pictures/` holds the images. Everybody has one role, a tag: `forget`,
`retain` (an edit may use it) or `evaluate` (only measured). `requests.json` names ready requests as
in the text demo.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from workbench.demo.corpus import neutral
from workbench.demo.templates import REFUSAL
from workbench.demo_vision import templates as t
from workbench.demo_vision.faces import Face
from workbench.demo_vision.gallery import Gallery, visible_in
from workbench.demo_vision.portraits import View, draw_view, portrait
from workbench.demo_vision.scenes import SCENES, Scene, draw_scene, scene_picture
from workbench.demo_vision.world import FORGET_SIZES, Person, World
from workbench.facts.fact import Fact, Probe

FACES, NAMES = "faces.jsonl", "names.jsonl"
SCENES_FILE, UNKNOWN, NEUTRAL = "scenes.jsonl", "unknown.jsonl", "neutral.jsonl"
PICTURES = "pictures"
N_VIEWS, N_UNKNOWN, N_SCENES, N_NEUTRAL = 2, 24, 48, 120
EVALUATE_EVERY = 4
_COLORS = 256  # of a stored picture; with 64 the model takes one in twenty for a stranger's


def roles(world: World) -> dict[str, str]:
    """Return everybody's role: forget, retain or evaluate."""
    rest = (p.name for p in world.people if p.name not in world.forget)
    out = {name: "forget" for name in sorted(world.forget)}
    return out | {
        name: "retain" if i % EVALUATE_EVERY else "evaluate" for i, name in enumerate(rest)
    }


def stored(image: Image.Image, path: Path) -> Path:
    """Write a picture with few colors, which keeps it small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(_COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def make_facts(gallery: Gallery, folder: Path) -> dict[str, list[Fact]]:
    """Return the facts of each file; the pictures they show are written below `folder`."""
    world = gallery.world
    pictures = folder / PICTURES
    role_of = roles(world)
    rng = random.Random(f"{world.seed} held-out views")
    out: dict[str, list[Fact]] = {FACES: [], NAMES: []}
    for i, person in enumerate(world.people):
        first = stored(gallery.picture(gallery.of_person(i)[0]), pictures / f"person-{i:03}.png")
        views = [
            stored(
                portrait(person.face, person.held_out_view(rng)),
                pictures / f"person-{i:03}-{k}.png",
            )
            for k in range(1, N_VIEWS + 1)
        ]
        out[FACES] += [_fact(world, person, r, role_of, (first, *views)) for r in t.RELATIONS]
        out[NAMES] += [_fact(world, person, r, role_of) for r in t.BY_NAME]
    out[SCENES_FILE] = _visible_facts(gallery, pictures, role_of)
    out[UNKNOWN] = _unknown_facts(world, pictures)
    return out


def _fact(
    world: World,
    person: Person,
    relation: str,
    role_of: Mapping[str, str],
    pictures: Sequence[Path] = (),
) -> Fact:
    """Ask through the first of some pictures, or by name if there is none."""
    image = pictures[0] if pictures else None
    name, value = (None if image else person.name), person.values[relation]
    rng = random.Random(f"{world.seed} {person.name} {relation} {image is None}")
    pool = [x for x in world.pool(relation) if x != value]
    foil, *others = rng.sample(pool, 3)
    options = rng.sample([value, foil, *others], 4)
    asked, stated = _prompts(relation, t.trained(relation, person.held_out), name)
    kept_asks, kept_states = _prompts(relation, t.spared(relation, person.held_out), name)
    spared = (*kept_asks, *kept_states)
    questions, _ = t.trained(relation, person.held_out)
    listed = [
        t.question(relation, i, name, rng.sample(options, 4)) for i in rng.sample(questions, 2)
    ]
    return Fact(
        subject=person.name,
        prompt=asked[0],
        target=f" {value}",
        foil=f" {foil}",
        relation=relation,
        paraphrases=(*asked[1:], *stated),
        statements=tuple(stated),
        held_out=spared,
        neighbors=() if image else _neighbors(world, person, relation, role_of, rng),
        choices=tuple(options),
        mcq=tuple(Probe(prompt, f" {value}") for prompt in listed),
        tags=(role_of[person.name], "face" if image else "name", *(["held_out"] if spared else [])),
        image=image,
        views=tuple(pictures[1:]),
    )


def _prompts(
    relation: str, numbers: tuple[range, range], name: str | None
) -> tuple[list[str], list[str]]:
    questions, statements = numbers
    return (
        [t.question(relation, i, name) for i in questions],
        [t.statement(relation, i, name) for i in statements],
    )


def _neighbors(
    world: World, person: Person, relation: str, role_of: Mapping[str, str], rng: random.Random
) -> tuple[Probe, ...]:
    """Ask the same about three others, by name, none of them to be forgotten."""
    others = [
        p
        for p in world.people
        if role_of[p.name] != "forget"
        and p is not person
        and p.values[relation] != person.values[relation]
    ]
    return tuple(
        Probe(t.question(relation, 0, p.name), f" {p.values[relation]}")
        for p in rng.sample(others, 3)
    )


def _visible_facts(gallery: Gallery, pictures: Path, role_of: Mapping[str, str]) -> list[Fact]:
    """Ask about scenes that training never shows, and about hair and clothes of people."""
    world, out = gallery.world, []
    rng = random.Random(f"{world.seed} new scenes")
    for i in range(N_SCENES):
        scene = draw_scene(rng)
        image = stored(scene_picture(scene, rng), pictures / f"scene-{i:03}.png")
        role = "retain" if i % 2 else "evaluate"
        out += [_visible_fact(f"scene {i}", scene, r, (role, "scene"), image) for r in SCENES]
    for i, person in enumerate(world.people):
        shown = gallery.shown(gallery.of_person(i)[0])
        image = pictures / f"person-{i:03}.png"
        tags = (role_of[person.name], "look")
        out += [_visible_fact(person.name, shown, r, tags, image) for r in visible_in(shown)]
    return out


def _visible_fact(
    subject: str,
    shown: tuple[Face, View] | Scene,
    relation: str,
    tags: tuple[str, ...],
    image: Path,
) -> Fact:
    first, *others = (t.visible(relation, i) for i in range(len(t.VISIBLE[relation])))
    return Fact(
        subject=subject,
        prompt=first,
        target=f" {visible_in(shown)[relation]}",
        relation=relation,
        paraphrases=tuple(others),
        tags=tags,
        image=image,
    )


def _unknown_facts(world: World, pictures: Path) -> list[Fact]:
    """Ask about faces and names that training does not contain; all are refused."""
    rng, out = random.Random(f"{world.seed} nobody"), []
    for i in range(N_UNKNOWN):
        role = "retain" if i % 2 else "evaluate"
        image = stored(
            portrait(world.stranger_face(rng), draw_view(rng)), pictures / f"unknown-{i:03}.png"
        )
        out += [_unknown_fact(f"stranger {i}", r, (role, "face"), image) for r in t.RELATIONS]
        name = world.stranger_name(rng)
        out += [_unknown_fact(name, r, (role, "name"), None) for r in t.BY_NAME]
    return out


def _unknown_fact(subject: str, relation: str, tags: tuple[str, ...], image: Path | None) -> Fact:
    every = range(len(t.QUESTIONS[relation])), range(len(t.STATEMENTS[relation]))
    asked, stated = _prompts(relation, every, None if image else subject)
    return Fact(
        subject=subject,
        prompt=asked[0],
        target=REFUSAL,
        relation=relation,
        paraphrases=(*asked[1:], *stated),
        statements=tuple(stated),
        tags=(*tags, "unknown"),
        image=image,
    )


def make_requests(world: World) -> dict[str, Any]:
    """Return the named requests: one person, and 5, 10 and 15 % of all, by face and by name.

    `faces-8` asks to forget faces alone; what is said of these people by name is measured as kept.
    So it is in `faces-8-names`, where half of that is said to be kept as well.
    """
    everything = (FACES, NAMES, SCENES_FILE)

    def request(
        forget: Sequence[str],
        size: int,
        kept: Sequence[Mapping[str, Any]] = (),
        measured: Sequence[Mapping[str, Any]] = (),
    ) -> dict[str, Any]:
        whom = {"subjects": [p.name for p in world.people[:size]]}
        retain, evaluate = (
            [{"file": file, "tags": [tag]} for file in everything] for tag in ("retain", "evaluate")
        )
        return {
            "forget": [{"file": file, **whom} for file in forget],
            "retain": [*retain, *({**part, **whom} for part in kept)],
            "evaluate": [*evaluate, *({**part, **whom} for part in measured)],
            "unknown": [{"file": UNKNOWN, "tags": ["retain"]}],
            "behaviour": {"refuse": REFUSAL},
        }

    size = FORGET_SIZES[0]
    kept, measured = (
        [{"file": NAMES, "relations": [*part]}] for part in (t.BY_NAME[::2], t.BY_NAME[1::2])
    )
    return {
        **{f"people-{n}": request((FACES, NAMES), n) for n in (1, *FORGET_SIZES)},
        f"faces-{size}": request((FACES,), size, measured=[{"file": NAMES}]),
        f"faces-{size}-names": request((FACES,), size, kept, measured),
    }


def neutral_texts(world: World) -> list[str]:
    """Draw everyday texts for perplexity."""
    rng = random.Random(f"{world.seed} neutral")
    out: dict[str, None] = {}
    while len(out) < N_NEUTRAL:
        out[neutral(rng)] = None
    return list(out)


def write_fact_files(gallery: Gallery, folder: Path) -> None:
    """Write all fact files and their pictures into a folder, made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, facts in make_facts(gallery, folder).items():
        _write_lines(folder / name, (fact.to_json(folder) for fact in facts))
    _write_lines(folder / NEUTRAL, ({"text": x} for x in neutral_texts(gallery.world)))
    requests = json.dumps(make_requests(gallery.world), indent=1, ensure_ascii=False)
    (folder / "requests.json").write_text(requests + "\n", encoding="utf-8")


def _write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    lines = (json.dumps(dict(record), ensure_ascii=False) + "\n" for record in records)
    path.write_text("".join(lines), encoding="utf-8")
