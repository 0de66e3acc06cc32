"""Reading pictures: the bytes of a PNG, JPEG, WEBP or BMP file as uint8 (c, h, w), grey or RGB.

The content decides the format, never the file's name. Grey and RGB of 8 bits are read unchanged.
Converted without loss: grey of 1, 2 and 4 bits (black is 0, white 255), palettes (to RGB), an alpha
channel that is 255 everywhere (dropped). The EXIF orientation is applied, so the picture is as a
viewer shows it; colour profiles are not. Refused: 16 bits, transparency (also a ``tRNS`` chunk of a
PNG, unless it is that of a palette and 255 throughout), more than one frame, CMYK and YCCK, and
every other format.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from ..checks import ArgumentError

#: formats that Pillow may open; some of its other readers start programs
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
#: suffixes of such files
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
#: pixels of the largest picture that is read, 8192 x 8192
MOST_PIXELS = 2**26
#: bytes of the largest file that is read
MOST_BYTES = 2**30
#: Pillow modes that are grey or RGB without loss -> the mode that they are converted to
MODES = {
    "1": "L",
    "L": "L",
    "P": "RGB",
    "RGB": "RGB",
    "RGBX": "RGB",
    "LA": "LA",
    "PA": "RGBA",
    "RGBA": "RGBA",
}
PNG = b"\x89PNG\r\n\x1a\n"
#: first bytes of other files that are often found under the name of a picture
SIGNATURES = (
    (b"GIF8", "a GIF"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"II+\0", "a TIFF"),
    (b"MM\0+", "a TIFF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"%PDF", "a PDF"),
    (b"8BPS", "a PSD"),
    (b"\0\0\1\0", "an ICO"),
    (b"\0\0\0\x0cjP", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (PNG, "a damaged PNG"),
    (b"\xff\xd8", "a JPEG that is damaged or not of 8 bits"),
    (b"RIFF", "a damaged WEBP, or another RIFF file"),
    (b"BM", "a BMP that is damaged or of a rare kind"),
    (b"\x93NUMPY", "a numpy array"),
    (b"PK\3\4", "a zip archive"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the picture"),
    (b"<", "text (HTML, XML or SVG)"),
)
ALLOWED = "PNG, JPEG, WEBP and BMP are read"
ORIENTATION = 0x0112


class PictureError(ArgumentError):
    """A picture that is damaged, of a kind that is not read, or too large."""


def read_picture(data: bytes) -> np.ndarray:
    """The picture whose file is ``data``, uint8 (c, h, w) with c 1 or 3. Raises PictureError, and
    nothing else, for any other content."""
    if not data:
        raise PictureError("the file is empty")
    if len(data) > MOST_BYTES:
        raise PictureError(f"a file of {len(data)} bytes: at most {MOST_BYTES} are read")
    if data.startswith(PNG):
        _check_png(data)
    try:
        with _strict():
            return _decoded(data)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"the content is {_named(data)}; {ALLOWED}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(f"more than {MOST_PIXELS} pixels are not read") from None
    except Exception as error:
        # Pillow's readers raise any exception for a damaged file, MemoryError and struct.error too
        raise PictureError(f"damaged: {str(error).strip() or type(error).__name__}") from None


@contextmanager
def _strict() -> Iterator[None]:
    """Pillow's strict settings, whatever the program has set: truncated files and very large
    pictures are errors."""
    half, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = half


def _named(data: bytes) -> str:
    """The kind of the content, for a message."""
    if data[4:8] == b"ftyp":
        return f"HEIF, AVIF or a film ({data[8:12].decode('latin-1').strip()!r})"
    text = data[:64].lstrip(b"\xef\xbb\xbf \r\n\t")
    found = next(
        (name for start, name in SIGNATURES if data.startswith(start) or text.startswith(start)),
        None,
    )
    return found or f"no picture (it begins with {data[:8]!r})"


def _decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        width, height = opened.size
        if width * height > MOST_PIXELS or not width * height:
            raise PictureError(f"{width} x {height} pixels: from 1 to {MOST_PIXELS} are read")
        frames = getattr(opened, "n_frames", 1)
        if frames > 1:
            raise PictureError(f"{frames} frames ({opened.format}): must be a single frame")
        if opened.mode not in MODES:
            raise PictureError(
                f"mode {opened.mode} ({opened.format}): must be a grey or RGB picture of 8 bits"
            )
        opened.load()
        turn = _orientation(opened)
        pixels = np.asarray(opened.convert(MODES[opened.mode]))
        if opened.mode == "P":
            _check_palette(opened)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.shape[-1] in (2, 4):
        if int(pixels[..., -1].min()) < 255:
            raise PictureError("transparent pixels: put the picture on a background first")
        pixels = pixels[..., :-1]
    return np.ascontiguousarray(np.moveaxis(_turned(pixels, turn), -1, 0))


def _check_palette(opened: Image.Image) -> None:
    """Raise PictureError for a picture that uses a colour beyond its palette."""
    colours, most = len(opened.getpalette() or ()) // 3, int(np.asarray(opened).max())
    if most >= colours:
        raise PictureError(f"damaged: colour {most} of a palette of {colours}")


def _orientation(opened: Image.Image) -> int:
    """The EXIF orientation; 1 (unchanged) if there is none that can be read."""
    try:
        found = opened.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged EXIF block says nothing, and the pixels are intact
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _turned(pixels: Any, turn: int) -> Any:
    """Stored pixels (h, w, c) turned by an EXIF orientation: TIFF 6.0, tag 274, whose value names
    the sides of row 0 and column 0."""
    if turn >= 5:
        pixels = pixels.swapaxes(0, 1)
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _check_png(data: bytes) -> None:
    """Raise PictureError for a PNG that Pillow would change or misread without an error: 16 bits,
    transparency, animation, wrong checksums."""
    palette = False
    for kind, body in _chunks(data):
        if kind == b"IHDR":
            if len(body) != 13:
                raise PictureError("damaged: the PNG header is too short")
            width, height, bits, colour = struct.unpack(">IIBB", body[:10])
            palette = colour == 3
            if bits == 16:
                raise PictureError(
                    "16 bits a channel: must be a grey or RGB picture of 8 bits (convert it first)"
                )
            if not 0 < width * height <= MOST_PIXELS:
                raise PictureError(f"{width} x {height} pixels: from 1 to {MOST_PIXELS} are read")
        elif kind == b"acTL" and body[:4] != b"\0\0\0\1":
            raise PictureError("an animated PNG: must be a single frame")
        elif kind == b"tRNS" and not (palette and set(body) <= {255}):
            raise PictureError("a transparent colour (tRNS): put the picture on a background first")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk. Raises PictureError for a wrong checksum."""
    at, kind = len(PNG), b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise PictureError("damaged: the PNG is cut off")
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        if at + 12 + length > len(data):
            raise PictureError(
                f"damaged: the PNG is cut off in its chunk {kind.decode('latin-1')!r}"
            )
        if zlib.crc32(kind + body) != int.from_bytes(
            data[at + 8 + length : at + 12 + length], "big"
        ):
            raise PictureError(
                f"damaged: the checksum of the PNG's chunk {kind.decode('latin-1')!r} is wrong"
            )
        yield kind, body
        at += 12 + length
