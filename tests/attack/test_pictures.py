"""The attack by other pictures: what the model is shown, and what it says then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from llava_model import QUESTION, llava, portrait, seen
from PIL import Image, ImageOps

from tests.edit.requests import request as words
from workbench.attack.pictures import CHANGES, PicturesConfig, pictures
from workbench.attack.registry import attacks_for
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Request
from workbench.models.altered_vision import ALTERATIONS, altered
from workbench.models.pictures import read_picture
from workbench.models.text import generate

FACT = seen(0, views=(portrait(1), portrait(2)))
NAMED = Fact("Carl Dorn", "Carl Dorn plays", " golf")
REQUEST = Request(FactSet((FACT, NAMED)), FactSet((seen(3),)))


def test_every_change_is_a_cell_and_only_shown_facts_are_asked():
    cells = pictures(llava(), REQUEST, PicturesConfig(), base=llava())
    assert [dict(cell.setting) for cell in cells] == [{"picture": name} for name in CHANGES]
    assert {outcome.fact.subject for cell in cells for outcome in cell.outcomes} == {"Ada Brook"}
    first, second = cells[0].outcomes
    for outcome, n in ((first, 1), (second, 2)):
        (said,) = generate(llava(), [seen(n).prompt], max_new_tokens=8)
        assert outcome.answer and said.startswith(outcome.answer[: len(said)])


def test_an_altered_picture_is_answered_as_its_altered_file_is(tmp_path):
    """The file is altered by Pillow, saved, and shown to the unchanged model."""
    image = Image.open(portrait(0)).convert("RGB")
    for name, made in {
        "mirrored": ImageOps.mirror(image),
        "gray": image.convert("L").convert("RGB"),
        "darker": Image.fromarray((np.asarray(image) * 0.6).astype(np.uint8)),
        "closer": image.crop((4, 4, 32, 36)),
    }.items():
        file = tmp_path / f"{name}.png"
        made.save(file)
        own = llava().vision.pixel_values(read_picture(file))
        shown = altered(llava(), name).vision.pixel_values(read_picture(portrait(0)))
        assert float((own - shown).abs().max()) < 0.05, name
        clean = llava().vision.pixel_values(read_picture(portrait(0)))
        assert float((shown - clean).abs().max()) > 0.1, name
    (cell,) = pictures(llava(), REQUEST, PicturesConfig(("mirrored",)), base=llava())
    mirrored = Fact("Ada Brook", QUESTION, " tennis", image=tmp_path / "mirrored.png")
    (said,) = generate(llava(), [mirrored.prompt], max_new_tokens=8)
    assert cell.outcomes[0].answer.startswith(said.split("\n")[0][:8])


def test_no_two_alterations_show_the_same():
    picture = read_picture(portrait(0))
    seen_as = [altered(llava(), name).vision.pixel_values(picture) for name in ALTERATIONS]
    for i, one in enumerate(seen_as):
        for other in seen_as[:i]:
            assert float((one - other).abs().max()) > 0.02
    assert len({altered(llava(), name).identity for name in ALTERATIONS}) == len(ALTERATIONS)


def test_what_cannot_be_done_is_said_and_not_tried_by_itself():
    with pytest.raises(WorkbenchError, match="No fact to forget shows a picture"):
        pictures(llava(), words(), PicturesConfig(), base=llava())
    with pytest.raises(WorkbenchError, match="change of a picture"):
        pictures(llava(), REQUEST, PicturesConfig(("sepia",)), base=llava())
    with pytest.raises(WorkbenchError, match="at least one"):
        PicturesConfig(()).check()
    bare = replace(REQUEST, forget=FactSet((seen(0),)))
    (cell,) = pictures(llava(), bare, PicturesConfig(("another view",)), base=llava())
    assert not cell.outcomes and cell.note == "The facts to forget have no other views."
    assert "pictures" in attacks_for(REQUEST) and "pictures" not in attacks_for(words())
