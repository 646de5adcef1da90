"""Every measure of a scorecard is explained, on the side that it is about."""

from __future__ import annotations

import pytest

from workbench.measure.definitions import definition
from workbench.measure.measures import MEASURES

EVERY = (*MEASURES, "perplexity", "utility")


@pytest.mark.parametrize("measure", EVERY)
def test_every_measure_has_a_sentence(measure: str) -> None:
    text = definition(measure)
    assert text.endswith(".") and len(text) > 20
    side = MEASURES.get(measure, ("", "", ""))[0]
    if measure.endswith("_f"):
        assert side == "forget" and text.startswith("Over the facts to forget. ")
    elif measure.endswith("_r") and side:
        assert side == "retain" and text.startswith("Over the facts to keep. ")


def test_the_two_sides_mean_the_same() -> None:
    for measure in (m for m in MEASURES if m.endswith("_f") and f"{m[:-1]}r" in MEASURES):
        forget, retain = definition(measure), definition(f"{measure[:-1]}r")
        assert forget.partition(". ")[2] == retain.partition(". ")[2]
    texts = [definition(m) for m in EVERY]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("measure", ["", "_f", "f", "acc_x", "unheard", "unheard_r"])
def test_the_unknown_is_empty(measure: str) -> None:
    assert definition(measure) == ""
