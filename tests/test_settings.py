"""Settings of methods and attacks: read as the type of their default, explained, seeded."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest

from workbench.attack.registry import ATTACKS, attack_named, make_config, settings_help
from workbench.errors import WorkbenchError
from workbench.settings import configured, explained


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        many: several numbers,
            on two lines.
        share: a number.
        on: a switch.
        rank: a number or none.
    """

    many: tuple[int, ...] = (8, 4)
    share: float = 0.5
    on: bool = True
    rank: int | None = None


@pytest.mark.parametrize("given", ["2,3", [2, 3], ("2", "3")])
def test_lists_are_read_from_text_and_from_lists(given) -> None:
    assert configured("x", Config, {"many": given}).many == (2, 3)


def test_single_values_take_their_defaults_types() -> None:
    assert configured("x", Config, {"many": 2}).many == (2,)
    read = configured("x", Config, {"share": "0.25", "on": "false", "rank": "3"})
    assert (read.share, read.on, read.rank) == (0.25, False, 3)
    assert configured("x", Config, {"rank": "none"}).rank is None
    assert configured("x", Config, {}) == Config()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"man": 1}, "did you mean 'many'"),
        ({"many": "a,b"}, "many must be a number"),
        ({"share": "much"}, "share must be a number"),
        ({"on": "perhaps"}, "on must be true or false"),
    ],
)
def test_what_cannot_be_read_is_said(settings, words) -> None:
    with pytest.raises(WorkbenchError, match=words):
        configured("x", Config, settings)


def test_explanations_come_from_the_documentation() -> None:
    assert explained(Config)["many"] == "several numbers, on two lines."


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_explains_its_settings_and_has_a_seed(name: str) -> None:
    names = [f.name for f in fields(attack_named(name).config)]
    assert "seed" in names and list(settings_help(name)) == names
    assert make_config(name, {"seed": "7"}).seed == 7


def test_unknown_attacks_are_refused() -> None:
    with pytest.raises(WorkbenchError, match="did you mean 'pruning'"):
        attack_named("prunning")


WRONG = {
    "quantization": [{"bits": "1"}, {"bits": ()}, {"group": 0}],
    "pruning": [{"shares": "0"}, {"shares": "0.5,1"}, {"shares": ()}],
    "in_context": [{"examples": "0"}, {"examples": ()}],
    "rephrased": [{"prefixes": 99}, {"prefixes": -1}],
    "answer_prefix": [{"starts": 99}, {"rounds": -1}, {"starts": 0, "rounds": 0}],
    "sampling": [{"temperatures": "0"}, {"temperatures": ()}, {"samples": 0}],
    "probe": [{"train": 0}, {"least": 0}, {"l2": 0}],
    "unlearning_depth": [{"layers": 0}],
}


@pytest.mark.parametrize(("name", "settings"), [(n, s) for n, all_ in WRONG.items() for s in all_])
def test_settings_that_make_no_sense_are_refused(name: str, settings: dict) -> None:
    with pytest.raises(WorkbenchError):
        make_config(name, settings).check()
