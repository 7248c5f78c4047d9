"""Instance masks: COCO's polygons and run lengths to pixels, pixels to small PNGs.

Polygons are rasterised by pycocotools, so masks are those that COCO's own evaluation compares with. Run lengths are
decoded here: a wrong count in a file must be an error, not a write beyond an array.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
import zlib
from typing import Any

import cv2
import numpy as np

from tfllv.records.problems import show_value, whole_number

_ADLER = 65521  # modulus of zlib's checksum


@dataclasses.dataclass(frozen=True)
class Region:
    """A mask, stored only where it may be 1: most objects are small.

    Attributes:
      pixels: [h, w] uint8, 1 inside.
      top: row of its first pixel in the picture.
      left: column, a multiple of 8.
    """

    pixels: np.ndarray
    top: int = 0
    left: int = 0


def decode_region(segmentation: Any, height: int, width: int) -> Region:
    """Decodes a COCO segmentation.

    Args:
      segmentation: a list of polygons `[x1, y1, x2, y2, ...]` in pixels, or `{"counts": ..., "size": [H, W]}` with run
        lengths down the columns, as a list or in COCO's compressed text.
      height: of the picture.
      width: of the picture.

    Returns:
      The mask.

    Raises:
      ValueError: if it is neither, or does not fit the picture.
    """
    if isinstance(segmentation, dict):
        return Region(_from_runs(segmentation, height, width))
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError(f"expected polygons or run lengths, found {show_value(segmentation)}")
    return _from_polygons([_check_polygon(polygon, height, width) for polygon in segmentation], height, width)


def decode_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decodes a COCO segmentation to [H, W] uint8, 1 inside; arguments and errors as `decode_region`."""
    region = decode_region(segmentation, height, width)
    mask = np.zeros((height, width), np.uint8)
    mask[_window(region)] = region.pixels
    return mask


def to_runs(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Converts a COCO segmentation to compressed run lengths; arguments and errors as `decode_region`.

    Returns:
      `{"size": [H, W], "counts": str}`, of the pixels that COCO's evaluation compares.
    """
    try:
        from pycocotools import mask as coco_mask
    except ImportError:
        raise ImportError("masks need pycocotools: pip install 'tfllv[detection]'.") from None
    if isinstance(segmentation, dict):
        counts = read_runs(segmentation, height, width)
        runs = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    elif isinstance(segmentation, list) and segmentation:
        polygons = [_check_polygon(polygon, height, width).ravel().tolist() for polygon in segmentation]
        runs = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    else:
        raise ValueError(f"expected polygons or run lengths, found {show_value(segmentation)}")
    return {"size": [height, width], "counts": runs["counts"].decode("ascii")}


def _window(region: Region) -> tuple[slice, slice]:
    height, width = region.pixels.shape
    return slice(region.top, region.top + height), slice(region.left, region.left + width)


def _from_polygons(polygons: list[np.ndarray], height: int, width: int) -> Region:
    try:
        from pycocotools import mask as coco_mask
    except ImportError:
        raise ImportError("masks need pycocotools: pip install 'tfllv[detection]'.") from None
    points = np.concatenate(polygons)
    top, left = 0, 0
    if points.min() >= 0:
        # The rasteriser rounds points to fifths of a pixel. Rounded before they are moved, they give the very pixels
        # that they give in the whole picture, of which only the part around them is then rasterised.
        left, top = (max(int(edge) - 2, 0) for edge in points.min(0))
        left = left // 8 * 8
        right, bottom = np.ceil(points.max(0)).astype(int) + 3
        height, width = min(height, int(bottom)) - top, min(width, int(right)) - left
        if height <= 0 or width <= 0:
            return Region(np.zeros((1, 1), np.uint8))
        polygons = [np.trunc(5 * polygon + 0.5) / 5 - (left, top) for polygon in polygons]
    runs = coco_mask.frPyObjects([polygon.ravel().tolist() for polygon in polygons], height, width)
    columns = np.ascontiguousarray(np.asarray(coco_mask.decode(coco_mask.merge(runs))).T)
    return Region(cv2.transpose(columns), top, left)  # many times faster than copying column by column


def _check_polygon(polygon: Any, height: int, width: int) -> np.ndarray:
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"expected a polygon of at least 3 points, found {show_value(polygon)}")
    try:
        points = np.asarray(polygon)
    except ValueError:  # lists of different lengths inside
        points = np.array(None)
    if points.ndim != 1 or points.dtype.kind not in "if":
        raise ValueError(f"expected a polygon of numbers, found {show_value(polygon)}")
    points = points.astype(np.float64).reshape(-1, 2)
    # The rasteriser's cost grows with a polygon's extent, and a point this far outside is an error anyway.
    inside = (points >= (-width, -height)) & (points <= (2 * width, 2 * height))
    if not inside.all():
        found = show_value(polygon[int(inside.argmin())])
        raise ValueError(f"a polygon's coordinate is {found} in {width}x{height} pixels")
    return points


def _from_runs(segmentation: dict[str, Any], height: int, width: int) -> np.ndarray:
    runs = read_runs(segmentation, height, width)
    values = np.arange(len(runs), dtype=np.uint8) & 1
    return np.repeat(values, runs).reshape(width, height).T


def read_runs(segmentation: Any, height: int, width: int) -> list[int]:
    """Reads COCO's run lengths: pixels outside and inside in turn, down the columns.

    Args:
      segmentation: `{"counts": ..., "size": [H, W]}`, counts as a list or in COCO's compressed text.
      height: of the picture.
      width: of the picture.

    Returns:
      The lengths, none negative, which add up to the picture's pixels.

    Raises:
      ValueError: if it is no such mask, or does not fit the picture.
    """
    if not isinstance(segmentation, dict):
        raise ValueError(f"expected run lengths, found {show_value(segmentation)}")
    declared, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(declared, list) or [whole_number(value) for value in declared] != [height, width]:
        raise ValueError(f"expected run lengths of size [{height}, {width}], found {show_value(declared)}")
    if isinstance(counts, str):
        runs = _read_counts(counts)
    elif isinstance(counts, list) and all(type(count) is int for count in counts):
        runs = counts
    else:
        raise ValueError(f"expected run lengths, found {show_value(counts)}")
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(f"expected run lengths that add up to {height * width}, found {show_value(counts)}")
    return runs


def _read_counts(text: str) -> list[int]:
    """Reads COCO's compressed run lengths: six bits a character, from the third on as differences to two before."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 30:
            raise ValueError(f"expected compressed run lengths, found {show_value(text)}")
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError(f"expected compressed run lengths, found {show_value(text)}, which are cut short")
    return runs


def encode_mask(region: Region, height: int, width: int) -> bytes:
    """Encodes a mask as a PNG of one bit a pixel: a tenth of the time of an 8-bit one, and all decoders read it.

    Args:
      region: the mask.
      height: of the picture.
      width: of the picture.

    Returns:
      The PNG; decoders give 0 and 255 (TensorFlow, OpenCV) or False and True (Pillow).
    """
    bits = np.packbits(region.pixels, axis=1)
    return _png(bits, height, width, depth=1, top=region.top, left=region.left // 8)


def encode_classes(classes: np.ndarray) -> bytes:
    """Encodes a map of class ids, [H, W] uint8, as a grey PNG."""
    return _png(classes, classes.shape[0], classes.shape[1], depth=8)


def _png(block: np.ndarray, height: int, width: int, *, depth: int, top: int = 0, left: int = 0) -> bytes:
    """Encodes a grey PNG that is 0 but for a block of bytes."""
    length = -(-width * depth // 8) + 1
    lines = np.zeros((min(top + len(block) + 1, height) - top, length), np.uint8)
    lines[:, 0] = 2  # the filter "up": a row minus the one above, which is nearly nothing in a mask
    inside = lines[:, left + 1 : left + 1 + block.shape[1]]
    inside[: len(block)] = block
    inside[1:] -= block[: len(inside) - 1]
    data = _deflate(lines.tobytes(), top * length, (height - top - len(lines)) * length)
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    )


def _deflate(lines: bytes, before: int, after: int) -> bytes:
    """Returns a zlib stream of `before` zeros, the lines, and `after` zeros; most of a mask is nothing but zeros."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [_zeros(before, False), packer.compress(lines), packer.flush(zlib.Z_SYNC_FLUSH), _zeros(after, True)]
    # Adler-32 is two sums: of the bytes from 1 on, to which zeros add nothing, and of these sums.
    total = zlib.adler32(lines, (before % _ADLER) << 16 | 1)
    low, high = total & 0xFFFF, total >> 16
    return b"".join((b"\x78\x01", *parts, struct.pack(">HH", (high + after * low) % _ADLER, low)))


@functools.lru_cache(maxsize=4096)
def _zeros(count: int, last: bool) -> bytes:
    """Returns deflated zeros that end at a whole byte; `last` ends the stream."""
    if not count and not last:
        return b""
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(bytes(count)) + packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


def paint(layers: list[tuple[Region, int]], height: int, width: int) -> np.ndarray:
    """Paints instance masks into one map of class ids, the largest first, so that small things stay visible.

    Args:
      layers: (mask, class id) an object.
      height: of the picture.
      width: of the picture.

    Returns:
      [H, W] uint8: class ids, 0 where nothing is.
    """
    classes = np.zeros((height, width), np.uint8)
    for region, label in sorted(layers, key=lambda layer: -int(np.count_nonzero(layer[0].pixels))):
        classes[_window(region)][region.pixels.astype(bool)] = label
    return classes
