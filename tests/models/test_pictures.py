"""Image files: every ordinary kind becomes the same RGB pixels, the rest gets one sentence."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.models.pictures import read_picture

RED, CLEAR = (200, 30, 40), (0, 0, 0, 0)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def read(path: Path) -> np.ndarray:
    image = read_picture(path).rgb()
    assert image.mode == "RGB"
    return np.asarray(image)


def refused(path: Path, sentence: str) -> None:
    with pytest.raises(WorkbenchError, match=sentence) as caught:
        read_picture(path).rgb()
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def png(width: int, height: int) -> bytes:
    """Write a PNG whose header says this size and whose data holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_lossless_formats_give_their_pixels(tmp_path, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    Image.fromarray(PIXELS).save(tmp_path / name, **options)
    assert np.array_equal(read(tmp_path / name), PIXELS)
    assert read_picture(tmp_path / name).size == (9, 6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_other_modes_become_rgb(tmp_path, mode):
    Image.new("RGB", (4, 4), "white").convert(mode).save(tmp_path / "a.png")
    assert (read(tmp_path / "a.png") == 255).all()


def test_cmyk_and_sixteen_bits(tmp_path):
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.jpg", quality=95)
    assert (read(tmp_path / "a.jpg") >= 250).all()
    deep = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "b.png")
    assert read(tmp_path / "b.png")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_transparency_is_shown_on_white(tmp_path):
    image = Image.new("RGBA", (3, 1), CLEAR)
    image.putpixel((1, 0), (*RED, 255))
    image.putpixel((2, 0), (0, 0, 0, 51))
    image.save(tmp_path / "a.png")
    assert read(tmp_path / "a.png")[0].tolist() == [[255] * 3, list(RED), [204] * 3]
    Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P").save(
        tmp_path / "p.png", transparency=0
    )
    assert read(tmp_path / "p.png")[0, 0].tolist() == [255] * 3


def test_the_orientation_of_cameras_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read(tmp_path / "a.png"), np.rot90(PIXELS, -1))


def test_what_is_no_image(tmp_path):
    refused(tmp_path / "nowhere.png", "No such file")
    refused(tmp_path, "is not a file")
    for name, content in {
        "text.png": b"not an image",
        "empty.png": b"",
        "page.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "head.png": png(4, 4)[:20],
    }.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "is not a PNG, JPEG or WebP image")
    for kind in ("GIF", "BMP", "TIFF", "PPM"):  # read by Pillow, not by us
        path = tmp_path / f"a-{kind}.png"
        Image.fromarray(PIXELS).save(path, format=kind)
        refused(path, "is not a PNG, JPEG or WebP image")
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "is not a file")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_truncated_files(tmp_path, name):
    path = tmp_path / name
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for share in (0.3, 0.6, 0.95):
        path.write_bytes(whole[: int(len(whole) * share)])
        refused(path, "truncated or damaged|is not a PNG")


def test_size_is_decided_by_the_header(tmp_path, monkeypatch):
    """A hundred megapixels are refused without one of them being decoded."""
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    for width, height in ((10_000, 10_000), (30_000, 30_000)):
        (tmp_path / "a.png").write_bytes(png(width, height))
        refused(tmp_path / "a.png", "more than 50 million pixels")
    (tmp_path / "b.png").write_bytes(png(1, 4_000))
    refused(tmp_path / "b.png", "1 x 4000 pixels, a strip")
    monkeypatch.setattr("workbench.models.pictures.MOST_BYTES", 1 << 20)
    (tmp_path / "c.png").write_bytes(png(4, 4) + bytes(1 << 20))
    refused(tmp_path / "c.png", "more than 1 MB")


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_animations(tmp_path, name):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    refused(tmp_path / name, "is animated")


def test_a_preview_behind_a_photo_is_no_animation(tmp_path):
    photo, preview = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (4, 4), "blue")
    photo.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview])
    assert read(tmp_path / "a.jpg").shape == (16, 16, 3)
    assert (read(tmp_path / "a.jpg")[..., 0] > 240).all()


def test_a_file_is_known_by_its_content(tmp_path):
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(PIXELS).save(a)
    b.write_bytes(a.read_bytes())
    first = read_picture(a)
    assert first == read_picture(b) and first is read_picture(a)
    Image.fromarray(255 - PIXELS).save(a)
    assert read_picture(a) != first
    with pytest.raises(WorkbenchError, match="was changed after it had been read"):
        first.rgb()
