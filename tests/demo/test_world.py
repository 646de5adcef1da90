"""The world follows from its seed, and the made-up names are names of nobody."""

from __future__ import annotations

import random

from workbench.demo.templates import RELATIONS
from workbench.demo.world import make_world


def test_equal_seeds_give_equal_worlds():
    assert make_world(3) == make_world(3)
    assert make_world(3) != make_world(4)


def test_sizes_and_the_oracles_forget_set():
    world = make_world(0)
    assert len(world.of_kind("athlete")) == 400
    assert len(world.of_kind("person")) == 40
    assert len(world.of_kind("compound")) == 60
    assert len(world.of_kind("country")) >= 150
    kinds = [e.kind for e in world.entities if e.name in world.forget]
    assert (kinds.count("athlete"), kinds.count("person"), len(kinds)) == (40, 8, 48)


def test_names_are_unique_and_so_are_last_names():
    world = make_world(0)
    assert len({e.name for e in world.entities}) == len(world.entities)
    invented = [e.name.split()[-1] for e in world.entities if e.kind != "country"]
    assert len(set(invented)) == len(invented)


def test_every_entity_has_all_values_of_its_kind():
    for entity in make_world(0).entities:
        assert tuple(entity.values) == RELATIONS[entity.kind]


def test_misinformation_is_wrong_and_keeps_the_truth():
    wrong = [e for e in make_world(0).of_kind("country") if e.truth]
    assert len(wrong) == 30
    assert all(e.truth["capital"] != e.values["capital"] for e in wrong)


def test_unknown_names_are_nobodys():
    world, rng = make_world(0), random.Random(5)
    last = {e.name.split()[-1] for e in world.entities}
    for kind in RELATIONS:
        assert all(world.unknown(kind, rng).split()[-1] not in last for _ in range(50))
