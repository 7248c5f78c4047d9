"""Tags of TIFF directories, and the two things made of them: the Exif block of a photo, and TIFF files.

TIFF 6.0 (Adobe, 1992), BigTIFF, and Exif 2.32, whose block is a small TIFF file. The writer exists because OpenCV's
keeps no colour profile and Pillow's no 16-bit colour.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from typing import Any

import numpy as np

Buffer = bytes | mmap.mmap

_TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 6: "b", 7: "s", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}


def read_directory(data: Buffer, start: int, order: str, big: bool = False) -> tuple[dict[int, Any], int]:
    """Reads one TIFF directory.

    Args:
      data: the file, or the Exif block.
      start: where the directory begins.
      order: `<` or `>`, the byte order.
      big: whether the file is a BigTIFF.

    Returns:
      tag -> (position of its entry, tuple of values), and the position of the pointer to the next directory. Tags of
      unknown type, or whose values lie outside the file, are left out.

    Raises:
      struct.error: if the directory itself lies outside the file.
    """
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    start += 8 if big else 2
    width, field = (20, "Q") if big else (12, "I")
    tags: dict[int, Any] = {}
    for index in range(min(count, 4096)):
        at = start + index * width
        tag, kind, number = struct.unpack_from(f"{order}HH{field}", data, at)
        code = _TYPES.get(kind)
        if code is None or number > len(data):
            continue
        form = f"{order}{number}{code}"
        place = at + width - struct.calcsize(order + field)
        if struct.calcsize(form) > struct.calcsize(order + field):
            (place,) = struct.unpack_from(order + field, data, place)
        if place + struct.calcsize(form) <= len(data):
            tags[tag] = (at, struct.unpack_from(form, data, place))
    return tags, start + count * width


def read_exif(exif: bytes) -> tuple[int, bytes | None]:
    """Reads an Exif block.

    Args:
      exif: the block, from its byte-order mark; may be empty.

    Returns:
      The orientation, 1 to 8, and the block with orientation 1 and without its (dark) thumbnail; (1, None) where it
      is empty or broken.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1, None
    try:
        tags, following = read_directory(exif, struct.unpack_from(order + "I", exif, 4)[0], order)
        clean = bytearray(exif)
        struct.pack_into(order + "I", clean, following, 0)
        at, values = tags.get(274, (0, (1,)))
        if at:
            struct.pack_into(order + "HIHH", clean, at + 2, 3, 1, 1, 0)
    except struct.error:
        return 1, None  # a broken Exif block does not make the picture unreadable
    return values[0] if values and values[0] in range(1, 9) else 1, bytes(clean)


def encode_tiff(pixels: np.ndarray, *, alpha: np.ndarray | None = None, icc_profile: bytes | None = None) -> bytes:
    """Encodes a picture as a TIFF file: strips, horizontal predictor, deflate.

    Args:
      pixels: [H, W, 3] uint8 or uint16.
      alpha: [H, W] of the same type, not premultiplied, or None.
      icc_profile: the colour profile, or None.

    Returns:
      The bytes of a little-endian TIFF 6.0 file.
    """
    height, width = pixels.shape[:2]
    samples, depth = 3 + (alpha is not None), pixels.dtype.itemsize * 8
    rows = max(1, (1 << 18) // (width * samples * depth // 8))  # strips of a quarter of a megabyte
    strips = []
    for top in range(0, height, rows):
        strip = pixels[top : top + rows]
        if alpha is not None:
            strip = np.concatenate([strip, alpha[top : top + rows, :, None]], axis=-1)
        # Predictor 2: each sample less its left neighbour, modulo 2 ** depth, which is what unsigned subtraction does.
        difference = np.concatenate([strip[:, :1], strip[:, 1:] - strip[:, :-1]], axis=1)
        strips.append(zlib.compress(difference.astype(difference.dtype.newbyteorder("<")).tobytes(), 3))
    body = b"".join(strips)
    ends = np.cumsum([len(strip) for strip in strips], dtype=np.int64)
    if ends[-1] > 0xF0000000:
        raise ValueError(f"`pixels` must fit a TIFF of 4 GB. Received: {ends[-1]:,} bytes after compression.")
    tags: list[tuple[int, str, list[int] | bytes]] = [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [depth] * samples),
        (259, "H", [8]),  # deflate
        (262, "H", [2]),  # RGB
        (273, "I", [8, *(8 + ends[:-1]).tolist()]),
        (277, "H", [samples]),
        (278, "I", [rows]),
        (279, "I", [len(strip) for strip in strips]),
        (284, "H", [1]),
        (317, "H", [2]),
    ]
    if alpha is not None:
        tags.append((338, "H", [2]))  # unassociated alpha
    if icc_profile:
        tags.append((34675, "B", icc_profile))
    start = 8 + len(body) + len(body) % 2
    return struct.pack("<2sHI", b"II", 42, start) + body + b"\0" * (len(body) % 2) + _pack_directory(tags, start)


def _pack_directory(tags: list[tuple[int, str, list[int] | bytes]], start: int) -> bytes:
    """Packs a directory that begins at `start`, followed by the values that do not fit into its entries."""
    entries, values = b"", b""
    after = start + 2 + 12 * len(tags) + 4
    for tag, code, items in tags:
        packed = struct.pack(f"<{len(items)}{code}", *items)
        if len(packed) > 4:
            place = struct.pack("<I", after + len(values))
            values += packed + b"\0" * (len(packed) % 2)
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, {"B": 1, "H": 3, "I": 4}[code], len(items)) + place
    return struct.pack("<H", len(tags)) + entries + b"\0" * 4 + values
