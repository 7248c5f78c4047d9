"""The curve networks' work on every pixel of a picture, compiled by Numba: samples for the map, bending along it.

A pass in TensorFlow takes a picture through memory for every operation, and turns it from whole levels to float32 and
back without wide vector instructions; here each pixel is read and written once. Arrays of uint8, uint16 or float32.
"""

from __future__ import annotations

import concurrent.futures
import functools
import os

import numpy as np

from tfllv import contracts
from tfllv.ops.compiled import compiled

_STRIP = 1 << 16  # pixels that one thread bends at a time, at least
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)


def shrink(images: np.ndarray, scale: int) -> np.ndarray:
    """Samples pictures at 1 / `scale` of each side, as `models.curve.CurveNetwork.shrink`.

    Args:
      images: [B, H, W, 3] uint8, uint16, or float32 in [0, 1].
      scale: >= 1.

    Returns:
      [B, ceil(H / scale), ceil(W / scale), 3] float32 in [0, 1].
    """
    rows, columns = ([_places(side, scale, part) for part in (scale - 1, scale)] for side in images.shape[1:3])
    if scale % 2:  # both are the middle pixel
        return contracts.to_float(images[:, rows[0]][:, :, columns[0]])
    corners = [[contracts.to_float(images[:, row][:, :, column]) for row in rows] for column in columns]
    left, right = (_HALF * (first + second) for first, second in corners)
    return _HALF * (left + right)


def _places(side: int, scale: int, part: int) -> np.ndarray:
    """The pixels that are sampled along a side; the last pixel continues the border."""
    return np.minimum(np.arange(0, side, scale) + part // 2, side - 1)


def bend(images: np.ndarray, curve: np.ndarray, scale: int) -> np.ndarray:
    """Enlarges a curve map with aligned corners and bends every value along it eight times, x <- x + r (x^2 - x).

    What `models.curve.CurveNetwork.enlarge` and `apply_curve` give, up to rounding, clipped to [0, 1].

    Args:
      images: [B, H, W, 3] uint8, uint16, or float32 in [0, 1].
      curve: [B, ceil(H / scale), ceil(W / scale), 3 or 24] float32.
      scale: >= 2.

    Returns:
      [B, H, W, 3] of the pictures' type; whole levels are rounded half up.
    """
    images = np.ascontiguousarray(images)
    result = np.empty_like(images)
    batch, height, width, _ = images.shape
    rows = max(scale, -(-_STRIP // width))
    knots = curve.reshape(*curve.shape[:3], -1, 3)
    parts = [(index, top) for index in range(batch) for top in range(0, height, rows)]

    def bend_strip(part: tuple[int, int]) -> None:
        index, top = part
        flat = images[index, top : top + rows].reshape(-1, 3 * width)
        _bend_rows(flat, result[index, top : top + rows].reshape(-1, 3 * width), knots[index], top, scale)

    if len(parts) == 1:
        bend_strip(parts[0])
    else:
        list(_threads().map(bend_strip, parts))
    return result


def _bend_rows(rows: np.ndarray, result: np.ndarray, knots: np.ndarray, top: int, scale: int) -> None:
    """Bends rows [n, 3 W], the first of which is row `top` of the picture, along a map [h, w, 1 or 8, 3]."""
    low, narrow = knots.shape[:2]
    last = low * scale - 1
    first = top * (low - 1) // last
    band = knots[first : (top + len(rows) - 1) * (low - 1) // last + 2]
    # The few rows of the map that are needed are made as wide as the picture once, and then blended for each row.
    wide = np.empty((len(band), knots.shape[2], rows.shape[1]), np.float32)
    _widen(np.ascontiguousarray(band), wide, narrow * scale - 1)
    whole = rows.dtype != np.float32
    largest = np.float32(np.iinfo(rows.dtype).max if whole else 1)
    place = np.array([top * (low - 1) - first * last, low - 1, last], np.int64)
    _bend_lines(rows, result, wide, place, np.array([1 / largest, largest, 0.5 * whole], np.float32))


@compiled
def _widen(band: np.ndarray, wide: np.ndarray, last: int) -> None:
    """Rows of a map [n, w, k, 3] -> [n, k, 3 W], linearly between the knots, the corners aligned."""
    count, narrow, steps, _ = band.shape
    for x in range(wide.shape[2] // 3):
        knot = x * (narrow - 1) // last
        share = np.float32(x * (narrow - 1) - knot * last) / np.float32(last)
        beside = min(knot + 1, narrow - 1)
        for row in range(count):
            for step in range(steps):
                for colour in range(3):
                    here, there = band[row, knot, step, colour], band[row, beside, step, colour]
                    wide[row, step, 3 * x + colour] = here * (_ONE - share) + there * share


@compiled
def _bend_line(x: np.ndarray, wide: np.ndarray, knot: int, share: float) -> None:
    """Bends a row x [n] in [0, 1] by the map [., k, n] between rows `knot` and the next."""
    beside = min(knot + 1, len(wide) - 1)
    if wide.shape[1] == 1:
        above, below = wide[knot, 0], wide[beside, 0]
        for i in range(x.size):
            r = above[i] * (_ONE - share) + below[i] * share
            offset, value = _ONE - r, x[i]
            value *= offset + r * value
            value *= offset + r * value
            value *= offset + r * value
            value *= offset + r * value
            value *= offset + r * value
            value *= offset + r * value
            value *= offset + r * value
            x[i] = value * (offset + r * value)
        return
    for step in range(wide.shape[1]):
        above, below = wide[knot, step], wide[beside, step]
        for i in range(x.size):
            r = above[i] * (_ONE - share) + below[i] * share
            x[i] *= _ONE - r + r * x[i]


@compiled
def _bend_lines(rows: np.ndarray, result: np.ndarray, wide: np.ndarray, place: np.ndarray, levels: np.ndarray) -> None:
    """Bends rows [m, n]: `place` is where the first lies, the step and the unit; `levels` factors before and after."""
    line = np.empty(rows.shape[1], np.float32)
    before, after, rounding = levels[0], levels[1], levels[2]
    for row in range(len(rows)):
        at = place[0] + row * place[1]
        knot = at // place[2]
        for i in range(line.size):
            line[i] = np.float32(rows[row, i]) * before
        _bend_line(line, wide, knot, np.float32(at - knot * place[2]) / np.float32(place[2]))
        for i in range(line.size):
            result[row, i] = min(max(line[i], _ZERO), _ONE) * after + rounding


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return concurrent.futures.ThreadPoolExecutor(cores, thread_name_prefix="tfllv-curve")
