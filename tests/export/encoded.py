"""Pictures as files: of every kind that is decoded, and of kinds that must be refused."""

from __future__ import annotations

import functools
import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image


def picture(height=43, width=61):
    """A smooth, dark picture whose eight turns all differ."""
    small = np.random.default_rng(0).integers(0, 90, (7, 9, 3)).astype(np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def save(image, kind, **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def exif(orientation, order="<"):
    """A camera's block: maker, orientation, date; by hand, because Pillow writes one byte order only."""
    text, fields = b"maker\0", 3
    after = 8 + 2 + 12 * fields + 4
    head = struct.pack(order + "2sHIH", b"II" if order == "<" else b"MM", 42, 8, fields)
    entries = struct.pack(order + "HHII", 271, 2, len(text), after)
    entries += struct.pack(order + "HHIHH", 274, 3, 1, orientation, 0)
    entries += struct.pack(order + "HHII", 306, 2, len(text), after)
    return b"Exif\0\0" + head + entries + struct.pack(order + "I", 0) + text


@functools.cache
def good():
    """Name -> file."""
    base = picture()
    rgba = np.dstack([base, np.random.default_rng(1).integers(0, 255, base.shape[:2]).astype(np.uint8)])
    deep, palette = base.astype(np.uint16) * 257 + 11, Image.fromarray(base).convert("P")
    found = {
        "progressive": save(base, "JPEG", progressive=True),
        "cmyk": save(Image.fromarray(base).convert("CMYK"), "JPEG"),
        "grey_jpeg": save(base[..., 0], "JPEG"),
        "grey_png": save(base[..., 0], "PNG"),
        "palette": save(palette, "PNG"),
        "transparent_palette": save(palette, "PNG", transparency=3),
        "rgba": save(rgba, "PNG"),
        "grey_alpha": save(Image.fromarray(rgba).convert("LA"), "PNG"),
        "one_pixel": save(base[:1, :1], "PNG"),
        "deep": cv2.imencode(".png", deep)[1].tobytes(),
        "deep_alpha": cv2.imencode(".png", rgba.astype(np.uint16) * 257)[1].tobytes(),
        "no_orientation": save(base, "JPEG", exif=exif(9)),
        "profile_before_exif": _with_segments(save(base, "JPEG", exif=exif(6))),
    }
    for number in range(1, 9):
        found[f"turned_{number}"] = save(base, "JPEG", exif=exif(number, "<>"[number % 2]), quality=92)
        found[f"turned_png_{number}"] = save(base, "PNG", exif=exif(number)[6:])
    return found


def _with_segments(data):
    """Puts 600 kB of other segments, and fill bytes, in front of a JPEG's own."""
    other = (b"\xff" * 7 + b"\xff\xe2" + struct.pack(">H", 60_002) + bytes(60_000)) * 10
    return data[:2] + other + data[2:]


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, data=b"", depth=8, colour=2):
    """A PNG whose header says what one likes; `data` is its packed pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg(width, height, marker=0xC0):
    """A real JPEG of 8x8 whose header says what one likes."""
    data = save(picture(8, 8), "JPEG")
    at = data.index(b"\xff\xc0")
    return data[: at + 1] + bytes([marker]) + data[at + 2 : at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def two_sizes():
    """A JPEG with a second, small frame header behind its huge one: parsers may differ on which counts."""
    data = jpeg(30_000, 30_000)
    small = save(picture(8, 8), "JPEG")
    at, end = small.index(b"\xff\xc0"), data.index(b"\xff\xda")
    return data[:end] + small[at : at + 19] + data[end:]


def zeros_png(side):
    """A real PNG of side x side black pixels, made without packing them all: blocks of zeros are alike."""
    total = side * (1 + 3 * side)
    packer = zlib.compressobj(9)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    end = packer.compress(bytes(total % (1 << 20))) + packer.flush()
    # The checksum of n zeros (Adler-32): 1, and n times that modulo 65521.
    return png(side, side, head + block * (total >> 20) + end[:-4] + struct.pack(">HH", total % 65_521, 1))


@functools.cache
def bad():
    """Name -> (file, words of the refusal), for a limit of 3 megapixels."""
    whole_jpeg, whole_png = save(picture(), "JPEG"), save(picture(), "PNG")
    neither, lies = "neither JPEG nor PNG", "is cut short or its header lies"
    return {
        "bomb": (zeros_png(20_000), "a PNG of 20000x20000 pixels found; expected at most 3000000"),
        "huge_jpeg": (jpeg(65_500, 65_500), "a JPEG of 65500x65500 pixels found; expected at most 3000000"),
        "lying_png": (png(1700, 1700, zlib.compress(b"short")), lies),
        "lying_jpeg": (jpeg(1700, 1700), lies),
        "lying_progressive": (jpeg(1700, 1700, 0xC2), lies),
        "largest_png": (png(2**31 - 1, 2**31 - 1), "2147483647x2147483647 pixels found; expected at most"),
        "negative_png": (png(2**32 - 1, 5), "expected an ordinary picture"),
        "long_png": (png(70_000, 1, bytes(300)), "65535 a side"),
        "flat_png": (png(0, 5), "expected an ordinary picture"),
        "depth_7": (png(10, 10, depth=7), "expected an ordinary picture"),
        "colour_250": (png(10, 10, colour=250), "expected an ordinary picture"),
        "lossless_jpeg": (jpeg(8, 8, 0xC3), "expected an ordinary picture"),
        "two_sizes": (two_sizes(), "Invalid JPEG data"),
        "empty": (b"", neither),
        "gif": (save(picture(), "GIF"), neither),
        "webp": (save(picture(), "WEBP"), neither),
        "bmp": (save(picture(), "BMP"), neither),
        "text": (b"<svg/>", neither),
        "jpeg_start": (b"\xff\xd8\xff", "expected an ordinary picture"),
        "png_start": (b"\x89PNG\r\n\x1a\n", "expected an ordinary picture"),
        "half_jpeg": (whole_jpeg[: len(whole_jpeg) // 2], "Invalid JPEG data"),
        "half_png": (whole_png[: len(whole_png) // 2], "Invalid PNG data"),
        "fill_bytes": (b"\xff\xd8" + b"\xff" * 5_000_000, "expected an ordinary picture"),
        "many_segments": (b"\xff\xd8" + b"\xff\xe0\0\2" * 500_000, "expected an ordinary picture"),
        "many_chunks": (whole_png[:33] + chunk(b"tEXt", b"") * 100_000 + whole_png[33:-20], "Invalid PNG data"),
    }
