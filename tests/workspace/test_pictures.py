"""Pictures that a user hands in."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.workspace.pictures import keep_picture


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    return tmp_path / "pictures"


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 7), (200, 10, 30)).save(file, "png")
    return file.getvalue()


def test_a_picture_is_kept_once_and_reads_as_it_was(cache):
    kept = keep_picture(png(), "me.png")
    assert kept.rgb().getpixel((3, 3)) == (200, 10, 30)
    assert keep_picture(png(), "again.png") == kept
    assert [p.name for p in cache.iterdir()] == [kept.path.name]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"no image", "me.png is not a PNG, JPEG or WebP image"), (png()[:44], "me.png is truncated")],
)
def test_what_is_no_picture_leaves_nothing_behind(content, sentence, cache):
    with pytest.raises(WorkbenchError, match=sentence) as no:
        keep_picture(content, "me.png")
    assert str(cache) not in str(no.value)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_to_is_a_sentence(tmp_path, monkeypatch):
    place = tmp_path / "file"
    place.write_text("")
    monkeypatch.setenv("WORKBENCH_CACHE", str(place))
    with pytest.raises(WorkbenchError, match="Cannot keep the image"):
        keep_picture(png(), "me.png")
