"""Instance masks: COCO's polygons and run lengths to pixels, pixels to small PNGs.

Polygons are rasterised by pycocotools, so masks are those that COCO's own evaluation compares with. Run lengths are
decoded here: a wrong count in a file must be an error, not a write beyond an array.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

from tfllv.records.problems import number, show_value, whole_number


def decode_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decodes a COCO segmentation.

    Args:
      segmentation: a list of polygons `[x1, y1, x2, y2, ...]` in pixels, or `{"counts": ..., "size": [H, W]}` with run
        lengths down the columns, as a list or in COCO's compressed text.
      height: of the picture.
      width: of the picture.

    Returns:
      [H, W] uint8, 1 inside.

    Raises:
      ValueError: if it is neither, or does not fit the picture.
    """
    if isinstance(segmentation, dict):
        return _from_runs(segmentation, height, width)
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError(f"expected polygons or run lengths, found {show_value(segmentation)}")
    polygons = [_check_polygon(polygon, height, width) for polygon in segmentation]
    try:
        from pycocotools import mask as coco_mask
    except ImportError:
        raise ImportError("masks need pycocotools: pip install 'tfllv[detection]'.") from None
    runs = coco_mask.frPyObjects(polygons, height, width)
    return np.asarray(coco_mask.decode(coco_mask.merge(runs)))


def _check_polygon(polygon: Any, height: int, width: int) -> list[float]:
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"expected a polygon of at least 3 points, found {show_value(polygon)}")
    points = [number(value) for value in polygon]
    limits = (width, height)
    for index, value in enumerate(points):
        # The rasteriser's cost grows with a polygon's extent, and a point this far outside is an error anyway.
        if value is None or not -limits[index % 2] <= value <= 2 * limits[index % 2]:
            raise ValueError(f"a polygon's coordinate is {show_value(polygon[index])} in {width}x{height} pixels")
    return [value for value in points if value is not None]


def _from_runs(segmentation: dict[str, Any], height: int, width: int) -> np.ndarray:
    declared, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(declared, list) or [whole_number(value) for value in declared] != [height, width]:
        raise ValueError(f"expected run lengths of size [{height}, {width}], found {show_value(declared)}")
    if isinstance(counts, str):
        runs = _read_counts(counts)
    elif isinstance(counts, list):
        whole = [whole_number(count) for count in counts]
        runs = [-1 if count is None else count for count in whole]
    else:
        raise ValueError(f"expected run lengths, found {show_value(counts)}")
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(f"expected run lengths that add up to {height * width}, found {show_value(counts)}")
    values = np.arange(len(runs), dtype=np.uint8) & 1
    return np.repeat(values, runs).reshape(width, height).T


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


def encode_mask(mask: np.ndarray) -> bytes:
    """Encodes a mask as a PNG of one bit a pixel: a tenth of the time of an 8-bit one, and all decoders read it.

    Args:
      mask: [H, W] uint8, 0 or 1.

    Returns:
      The PNG; decoders give 0 and 255 (TensorFlow, OpenCV) or False and True (Pillow).
    """
    return _png(np.packbits(mask, axis=1), mask.shape[0], mask.shape[1], depth=1)


def encode_classes(classes: np.ndarray) -> bytes:
    """Encodes a map of class ids, [H, W] uint8, as a grey PNG."""
    return _png(classes, classes.shape[0], classes.shape[1], depth=8)


def _png(rows: np.ndarray, height: int, width: int, *, depth: int) -> bytes:
    lines = np.empty((height, rows.shape[1] + 1), np.uint8)
    lines[:, 0] = 2  # the filter "up": a row minus the one above, which is nearly nothing in a mask
    lines[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def paint(layers: list[tuple[np.ndarray, int]], height: int, width: int) -> np.ndarray:
    """Paints instance masks into one map of class ids, the largest first, so that small things stay visible.

    Args:
      layers: (mask [H, W] 0 or 1, class id) an object.
      height: of the picture.
      width: of the picture.

    Returns:
      [H, W] uint8: class ids, 0 where nothing is.
    """
    classes = np.zeros((height, width), np.uint8)
    for mask, label in sorted(layers, key=lambda layer: -int(np.count_nonzero(layer[0]))):
        classes[mask.astype(bool)] = label
    return classes
