"""Scores over a picture: what is drawn is what was scored, where it lies."""

from __future__ import annotations

import io
from base64 import b64decode
from dataclasses import replace

import numpy as np
import pytest
from llava_model import llava, seen
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet
from workbench.figures.portraits import portrait_panels
from workbench.localize.attribution_patching import attribution_patching
from workbench.localize.corruption import ImageNoise
from workbench.localize.patch_grid import patch_grid, pictured_fact
from workbench.models.text import generate


@pytest.fixture(scope="module")
def found():

    model, fact = llava(), seen(0)
    known = replace(fact, target=generate(model, [fact.prompt], max_new_tokens=1)[0])
    return attribution_patching(model, FactSet((known,)), corruption=ImageNoise(samples=1))


def test_every_layer_has_its_scores_over_the_picture(found):
    picture = pictured_fact(found, llava().vision)
    figure = portrait_panels(found, "mlp", picture)
    cells = [t for t in figure.data if t.type == "heatmap"]
    images = [t for t in figure.data if t.type == "image"]
    scores = patch_grid(found, "mlp")
    assert len(cells) == llava().n_layers and len(images) == 1 + len(cells)
    for trace, score in zip(cells, scores, strict=True):
        np.testing.assert_array_equal(np.asarray(trace.z), score)
    first = images[0]
    drawn = Image.open(io.BytesIO(b64decode(first.source.split(",")[1])))
    np.testing.assert_array_equal(np.asarray(drawn), picture)
    # The first pixel begins where the first patch does, and the last ends where the last does.
    assert first.x0 - first.dx / 2 == pytest.approx(-0.5)
    assert first.x0 + (picture.shape[1] - 0.5) * first.dx == pytest.approx(3.5)
    end = figure.layout.coloraxis.cmax
    assert end == -figure.layout.coloraxis.cmin == pytest.approx(np.abs(scores).max())
    # Behind scores the picture has no colors of its own.
    behind = np.asarray(Image.open(io.BytesIO(b64decode(images[1].source.split(",")[1]))))
    assert (behind[..., 0] == behind[..., 1]).all() and (behind[..., 0] == behind[..., 2]).all()


def test_without_its_picture_the_scores_stand_alone(found):
    figure = portrait_panels(found, "resid")
    assert {t.type for t in figure.data} == {"heatmap"}
    with pytest.raises(WorkbenchError):
        portrait_panels(found, "neuron")
