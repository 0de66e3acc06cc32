"""The one reader of pictures: each kind of file is read to the right value, or refused by name;
score, ref and train agree."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from fewstep.eval import open_source
from fewstep.eval.features.image_files import read_image
from fewstep.files import pictures as reader
from fewstep.files.pictures import PictureError, read_picture
from fewstep.train.data import DataError, load_images

RNG = np.random.default_rng(0)
GREY, COLOUR = (
    RNG.integers(0, 256, (9, 7), dtype=np.uint8),
    RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8),
)


def saved(image, **options):
    out = io.BytesIO()
    image.save(out, **options)
    return out.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bits, colour, rows, *more):
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = b"".join(
        [
            chunk(b"IHDR", head),
            *more,
            chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
            chunk(b"IEND", b""),
        ]
    )
    return reader.PNG + body


def first(array):
    return np.moveaxis(array if array.ndim == 3 else array[..., None], -1, 0)


# --- what is read


@pytest.mark.parametrize("format", ["PNG", "BMP", "WEBP"])
def test_lossless_files_give_their_pixels(format):
    options = {"lossless": True} if format == "WEBP" else {}
    assert np.array_equal(
        read_picture(saved(Image.fromarray(COLOUR), format=format, **options)), first(COLOUR)
    )
    if format != "WEBP":
        assert np.array_equal(
            read_picture(saved(Image.fromarray(GREY), format=format)), first(GREY)
        )


def test_a_jpeg_gives_what_pillow_decodes():
    for image in (Image.fromarray(COLOUR), Image.fromarray(GREY)):
        data = saved(image, format="JPEG")
        assert np.array_equal(read_picture(data), first(np.asarray(Image.open(io.BytesIO(data)))))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_of_grey_reach_from_black_to_white(bits):
    values = np.arange(8) % 2**bits
    packed = np.packbits(
        np.unpackbits(values.astype(np.uint8)[:, None], axis=1)[:, -bits:].ravel()
    ).tobytes()
    found = read_picture(png(8, 1, bits, 0, [packed]))
    assert found.tolist() == [[(values * 255 // (2**bits - 1)).tolist()]]


@pytest.mark.parametrize("format", ["PNG", "BMP"])
def test_a_palette_gives_its_colours(format):
    image = Image.fromarray(COLOUR).quantize(17)
    assert np.array_equal(
        read_picture(saved(image, format=format)), first(np.asarray(image.convert("RGB")))
    )


def test_an_opaque_alpha_channel_is_dropped():
    for mode, want in (("RGBA", COLOUR), ("LA", GREY)):
        assert np.array_equal(
            read_picture(saved(Image.fromarray(want).convert(mode), format="PNG")), first(want)
        )
    assert np.array_equal(
        read_picture(saved(Image.fromarray(COLOUR).convert("RGBA"), format="WEBP", lossless=True)),
        first(COLOUR),
    )
    palette = saved(Image.fromarray(COLOUR).quantize(8), format="PNG", transparency=b"\xff" * 8)
    assert read_picture(palette).shape == (3, 9, 7)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_an_exif_orientation_is_applied(format, turn):
    """As ``PIL.ImageOps.exif_transpose``, for each of the eight values."""
    exif = Image.Exif()
    exif[reader.ORIENTATION] = turn
    data = saved(Image.fromarray(COLOUR), format=format, exif=exif)
    want = first(np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")))
    assert np.array_equal(read_picture(data), want) and want.shape == (
        (3, 9, 7) if turn < 5 else (3, 7, 9)
    )


def test_an_orientation_that_is_none_is_not_applied():
    exif = Image.Exif()
    exif[reader.ORIENTATION] = 11
    assert np.array_equal(
        read_picture(saved(Image.fromarray(COLOUR), format="PNG", exif=exif)), first(COLOUR)
    )


def test_the_content_decides_the_format(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(GREY), format="BMP"))
    assert np.array_equal(open_source(tmp_path).read(0, 1).image[0].numpy(), first(GREY))
    np.save(tmp_path / "b.npy", GREY)
    (tmp_path / "b.npy").rename(tmp_path / "b.png")
    assert open_source(tmp_path).read(0, 2).bad[0].why.startswith("the content is a numpy array")


# --- what is refused


def wide(bits=16, colour=2, channels=3):
    rows = RNG.integers(0, 2**16, (4, 4 * channels)).astype(">u2")
    return png(4, 4, bits, colour, [row.tobytes() for row in rows])


def animated(format):
    frames = [Image.fromarray(RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)) for _ in range(2)]
    return saved(frames[0], format=format, save_all=True, append_images=frames[1:])


def damaged(data, at):
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


PLAIN = saved(Image.fromarray(COLOUR), format="PNG")
REFUSED = {
    "16-bit grey": (wide(colour=0, channels=1), "16 bits"),
    "16-bit RGB": (wide(), "16 bits"),
    "16-bit grey and alpha": (wide(colour=4, channels=2), "16 bits"),
    "16-bit RGBA": (wide(colour=6, channels=4), "16 bits"),
    "transparent RGBA": (
        saved(Image.new("RGBA", (4, 4), (1, 2, 3, 254)), format="PNG"),
        "transparent",
    ),
    "transparent LA": (saved(Image.new("LA", (4, 4), (1, 0)), format="PNG"), "transparent"),
    "transparent WEBP": (
        saved(Image.new("RGBA", (4, 4), (1, 2, 3, 9)), format="WEBP", lossless=True),
        "transparent",
    ),
    "transparent grey level": (saved(Image.fromarray(GREY), format="PNG", transparency=3), "tRNS"),
    "transparent colour": (
        saved(Image.fromarray(COLOUR), format="PNG", transparency=(1, 2, 3)),
        "tRNS",
    ),
    "transparent palette": (
        saved(Image.fromarray(COLOUR).quantize(8), format="PNG", transparency=0),
        "tRNS",
    ),
    "animated PNG": (animated("PNG"), "animated"),
    "animated WEBP": (animated("WEBP"), "2 frames"),
    "MPO": (animated("MPO"), "2 frames"),
    "CMYK": (saved(Image.new("CMYK", (4, 4), (1, 2, 3, 4)), format="JPEG"), "mode CMYK"),
    "GIF": (saved(Image.fromarray(GREY), format="GIF"), "a GIF"),
    "TIFF": (saved(Image.fromarray(GREY), format="TIFF"), "a TIFF"),
    "EPS": (saved(Image.fromarray(COLOUR), format="EPS"), "PostScript"),
    "ICO": (saved(Image.fromarray(COLOUR), format="ICO"), "an ICO"),
    "PDF": (saved(Image.fromarray(COLOUR), format="PDF"), "a PDF"),
    "a web page": (b"\n<!DOCTYPE html><html>404</html>", "text"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "AVIF": (b"\0\0\0\x1cftypavif" + b"\0" * 40, "AVIF"),
    "nothing": (b"", "empty"),
    "noise": (bytes(range(1, 99)), "no picture"),
    "cut off": (PLAIN[:-20], "cut off"),
    "a wrong checksum": (damaged(PLAIN, len(PLAIN) - 20), "checksum"),
    "a cut off JPEG": (saved(Image.fromarray(COLOUR), format="JPEG")[:-60], "damaged"),
    "a cut off BMP": (saved(Image.fromarray(COLOUR), format="BMP")[:-60], "damaged"),
    "no pixels": (png(0, 4, 8, 0, [b""]), "0 x 4 pixels"),
    "a PNG bomb": (png(50_000, 50_000, 8, 0, [b""]), "50000 x 50000 pixels"),
    "a colour outside the palette": (
        png(2, 1, 8, 3, [b"\0\5"], chunk(b"PLTE", bytes(6))),
        "colour 5 of a palette of 2",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_is_named(kind, tmp_path):
    """By the same words from the reader, from the source that score and ref read, and from
    train."""
    data, match = REFUSED[kind]
    with pytest.raises(PictureError, match=match):
        read_picture(data)
    (tmp_path / "a.png").write_bytes(data)
    (tmp_path / "b.png").write_bytes(saved(Image.fromarray(GREY), format="PNG"))
    found = open_source(tmp_path).read(0, 2)
    assert found.index == (1,) and match in found.bad[0].why and found.bad[0].name.endswith("a.png")
    with pytest.raises(DataError, match=match):
        load_images(tmp_path)


def test_a_bomb_of_another_format(monkeypatch):
    head = bytearray(saved(Image.fromarray(COLOUR), format="BMP"))
    head[18:26] = struct.pack("<ii", 9000, 9000)
    with pytest.raises(PictureError, match="pixels"):
        read_picture(bytes(head))
    monkeypatch.setattr(reader, "MOST_BYTES", 100)
    with pytest.raises(PictureError, match="at most 100"):
        read_picture(PLAIN)


def test_settings_of_pillow_change_nothing(monkeypatch):
    """Training scripts often allow half files and pictures of any size."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    for kind in ("a cut off JPEG", "a cut off BMP", "a PNG bomb"):
        with pytest.raises(PictureError, match=REFUSED[kind][1]):
            read_picture(REFUSED[kind][0])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_a_file_that_is_absurdly_large_is_not_read(tmp_path):
    (tmp_path / "b.png").write_bytes(PLAIN)
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(2**40)
    assert f"at most {reader.MOST_BYTES}" in open_source(tmp_path).read(0, 1).bad[0].why
    with pytest.raises(DataError, match=f"at most {reader.MOST_BYTES}"):
        load_images(tmp_path)


def test_damaged_bytes_raise_one_kind_of_error():
    rng = np.random.default_rng(1)
    image = Image.fromarray(COLOUR)
    files = [saved(image, format=format) for format in ("PNG", "JPEG", "WEBP", "BMP")] + [
        saved(image.quantize(9), format="PNG")
    ]
    refused = 0
    for data in files:
        for _ in range(150):
            changed = bytearray(data)
            for place in rng.integers(0, len(data), 3):
                changed[place] = rng.integers(256)
            try:
                found = read_picture(bytes(changed[: rng.integers(len(data) // 2, 2 * len(data))]))
                assert found.dtype == np.uint8 and found.shape[0] in (1, 3)
            except PictureError:
                refused += 1
    assert refused > 400


@pytest.mark.skipif(os.name != "posix", reason="a program named gs is planted")
def test_no_program_is_started(tmp_path):
    """An EPS under the name of a picture: Pillow would hand it to Ghostscript."""
    program, source = tmp_path / "bin" / "gs", tmp_path / "im"
    program.parent.mkdir()
    source.mkdir()
    program.write_text(f"#!/bin/sh\n: > {tmp_path / 'ran'}\nexit 1\n")
    program.chmod(0o755)
    (source / "a.png").write_bytes(REFUSED["EPS"][0])
    code = "import sys; from fewstep.files.pictures import read_picture\n"
    code += "try: read_picture(open(sys.argv[1], 'rb').read())\nexcept ValueError as e: print(e)"
    environment = {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(reader.__file__).parents[2]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, str(source / "a.png")],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert "PostScript" in done.stdout and not (tmp_path / "ran").exists()


# --- arrays as pictures


def stored(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def test_npy_images():
    signed = (first(COLOUR) / 127.5 - 1.0).astype(np.float32)
    for array in (
        COLOUR,
        np.asfortranarray(COLOUR),
        signed,
        np.asfortranarray(signed),
        signed.astype(">f8"),
        signed.astype(np.float16),
    ):
        assert np.array_equal(read_image(stored(array)), first(COLOUR)), array.dtype
    assert np.array_equal(read_image(stored(GREY)), first(GREY))
    assert np.array_equal(
        read_image(stored(first(COLOUR).astype(np.float32)), value_range=(0, 255)), first(COLOUR)
    )


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.full((1, 4, 4), np.nan, np.float32), "NaN"),
        (np.full((1, 4, 4), -np.inf), "infinity"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.zeros((4, 4), np.uint16), "uint16"),
        (np.zeros((4, 4), bool), "bool"),
        (np.zeros((0, 4), np.uint8), r"\(0, 4\)"),
        (np.zeros((1, 4, 0), np.float32), r"\(1, 4, 0\)"),
        (np.zeros((4, 4), np.float32), "float32"),
        (-np.ones((4, 4, 3), np.float32), r"float32 \(4, 4, 3\)"),
        (np.zeros((3, 4, 4), np.uint8), "channels first"),
        (np.zeros((4, 4), complex), "complex128"),
        (np.array([[None]]), "pickled"),
        (np.full((1, 4, 4), 200.0, np.float32), "none below 0"),
    ],
)
def test_npy_files_that_are_no_images(array, match):
    with pytest.raises(ValueError, match=match):
        read_image(stored(array))
