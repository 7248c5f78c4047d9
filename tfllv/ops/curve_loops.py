"""What curve networks do to every pixel of a picture: samples for the small map, and bending along it, enlarged.

A pass in TensorFlow takes a picture through memory for every operation, and turns it from whole levels to float32 and
back without wide vector instructions; here, compiled by Numba, each pixel is read and written once. Pictures are
[B, H, W, 3] uint8, uint16, or float32 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tfllv import contracts
from tfllv.ops import loops

_WIDEST = 1 << 14  # pixels of a strip's rows: a map as wide takes 100 to 200 bytes for each
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)


class Places(NamedTuple):
    """Where the points of a side lie between those of a smaller one: behind `knot` [N] int by `share` [N] of a gap."""

    knot: np.ndarray
    share: np.ndarray


# (number of the picture, a strip [m, 3 W] of it and of the result, the map's rows made as wide, [n, k, 3 W], and where
# the strip's rows lie among those).
_Bend = Callable[[int, np.ndarray, np.ndarray, np.ndarray, Places], None]


def sample(images: np.ndarray, scale: int) -> np.ndarray:
    """Samples pictures at 1 / `scale` of each side, as `models.curve.CurveNetwork.shrink`.

    Args:
      images: [B, H, W, 3] uint8, uint16, or float32 in [0, 1].
      scale: >= 1.

    Returns:
      [B, ceil(H / scale), ceil(W / scale), 3] float32 in [0, 1].
    """
    rows, columns = ([_centres(side, scale, part) for part in (scale - 1, scale)] for side in images.shape[1:3])
    if scale % 2:  # both are the middle pixel
        return contracts.to_float(images[:, rows[0]][:, :, columns[0]])
    corners = [[contracts.to_float(images[:, row][:, :, column]) for row in rows] for column in columns]
    left, right = (_HALF * (first + second) for first, second in corners)
    return _HALF * (left + right)


def _centres(side: int, scale: int, part: int) -> np.ndarray:
    """The pixels that are sampled along a side; the last pixel continues the border."""
    return np.minimum(np.arange(0, side, scale) + part // 2, side - 1)


def average(images: np.ndarray, factor: int) -> np.ndarray:
    """Returns the mean of every `factor` x `factor` square, as `models.mirnet_small.MIRNetSmall.shrink`.

    Args:
      images: [B, H, W, 3] uint8, uint16, or float32 in [0, 1].
      factor: >= 1.

    Returns:
      [B, ceil(H / factor), ceil(W / factor), 3] float32 in [0, 1].
    """
    batch, height, width, _ = images.shape
    images = np.ascontiguousarray(images)
    result = np.zeros((batch, -(-height // factor), -(-width // factor), 3), np.float32)
    unit = np.float32(1 / (_largest(images.dtype) * factor * factor))

    def work(index: int, rows: slice) -> None:
        _average_rows(images[index], result[index], rows.start, rows.stop, factor, unit)

    loops.over_strips(images.shape, work, multiple=factor)
    return result


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
    rows, columns = (
        _between(np.arange(side) * (low - 1), low * scale - 1)
        for side, low in zip(images.shape[1:3], curve.shape[1:3], strict=True)
    )
    levels = _levels(images.dtype)

    def bend_strip(index: int, strip: np.ndarray, result: np.ndarray, wide: np.ndarray, places: Places) -> None:
        _iterate(strip, result, wide, *places, levels)

    return _in_strips(images, curve, rows, columns, bend_strip)


def bend_tones(images: np.ndarray, exponent: np.ndarray, curve: np.ndarray, side: int, *, darkest: float) -> np.ndarray:
    """Raises pictures to a power and bends them along piecewise linear curves, enlarged with the centres aligned.

    What `models.mirnet_small.MIRNetSmall.enlarge` and `apply_curve` give, up to rounding, clipped to [0, 1].

    Args:
      images: [B, H, W, 3] uint8, uint16, or float32 in [0, 1].
      exponent: [B, 1, 1, 1] float32 in (0, 1].
      curve: [B, h, w, 3 knots] float32, one place for `side` x `side` pixels; it may reach beyond the border.
      side: of a place, in pixels.
      darkest: values below are taken for it.

    Returns:
      [B, H, W, 3] of the pictures' type; whole levels are rounded half up.
    """
    rows, columns = (
        # In halves of a pixel, pixel i is at 2 i + 1 and place k at side (2 k + 1); the border places are continued.
        _between(np.clip(2 * np.arange(length) + 1 - side, 0, 2 * side * (low - 1)), 2 * side)
        for length, low in zip(images.shape[1:3], curve.shape[1:3], strict=True)
    )
    levels = _levels(images.dtype)

    def guess(index: int, values: np.ndarray) -> np.ndarray:
        return np.exp(exponent[index].reshape(()) * np.log(np.maximum(values, np.float32(darkest))))

    whole = images.dtype != np.float32
    every = np.arange(_largest(images.dtype) + 1, dtype=np.float32) * levels[0] if whole else None
    tables = [guess(index, every) for index in range(len(images))] if every is not None else []

    def bend_strip(index: int, strip: np.ndarray, result: np.ndarray, wide: np.ndarray, places: Places) -> None:
        guessed = tables[index][strip] if whole else guess(index, strip)
        _interpolate(guessed, result, wide, *places, levels)

    return _in_strips(images, curve, rows, columns, bend_strip)


def _between(points: np.ndarray, gap: int) -> Places:
    """Where points lie between knots `gap` apart, the first at 0; whole numbers until the one division."""
    knot = points // gap
    return Places(knot, ((points - knot * gap) / max(gap, 1)).astype(np.float32))


def _largest(dtype: np.dtype) -> int:
    if dtype not in (np.uint8, np.uint16, np.float32):
        raise ValueError(f"`images` must be uint8, uint16, or float32 in [0, 1]. Received: dtype={dtype}.")
    return 1 if dtype == np.float32 else np.iinfo(dtype).max


def _levels(dtype: np.dtype) -> np.ndarray:
    """The factors before and after the work in [0, 1], and what rounds half up."""
    largest = _largest(dtype)
    return np.array([1 / largest, largest, 0.0 if dtype == np.float32 else 0.5], np.float32)


def _in_strips(images: np.ndarray, curve: np.ndarray, rows: Places, columns: Places, bend_strip: _Bend) -> np.ndarray:
    """Calls a function on all strips of pictures; a map [B, h, w, 3 k] comes with them, one strip's rows enlarged."""
    images = np.ascontiguousarray(images)
    result = np.empty_like(images)
    flat, bent = (each.reshape(*images.shape[:2], -1) for each in (images, result))
    width = images.shape[2]
    maps = np.ascontiguousarray(curve).reshape(*curve.shape[:3], -1, 3)

    def work(index: int, part: slice) -> None:
        knot, share = rows.knot[part], rows.share[part]
        band = maps[index, knot[0] : knot[-1] + 2]
        for left in range(0, width, _WIDEST):
            across = Places(*(each[left : left + _WIDEST] for each in columns))
            # The few rows of the map that are needed are made as wide as the strip, and then blended for each row.
            wide = np.empty((len(band), band.shape[2], 3 * len(across.knot)), np.float32)
            _widen(band, wide, *across)
            window = (index, part, slice(3 * left, 3 * left + wide.shape[2]))
            # Of a picture that is no wider, these are the rows themselves.
            strip, made = (np.ascontiguousarray(each[window]) for each in (flat, bent))
            bend_strip(index, strip, made, wide, Places(knot - knot[0], share))
            if width > _WIDEST:
                bent[window] = made

    loops.over_strips(images.shape, work)
    return result


@loops.compiled
def _average_rows(image: np.ndarray, result: np.ndarray, top: int, bottom: int, factor: int, unit: float) -> None:
    """Writes the means of the squares that begin in rows top..bottom of [H, W, 3]; the last pixels continue it."""
    height, width, _ = image.shape
    for row in range(top // factor, -(-bottom // factor)):
        for line in range(row * factor, (row + 1) * factor):
            y = min(line, height - 1)
            for column in range(result.shape[1]):
                red, green, blue = _ZERO, _ZERO, _ZERO
                for place in range(column * factor, (column + 1) * factor):
                    x = min(place, width - 1)
                    red += np.float32(image[y, x, 0])
                    green += np.float32(image[y, x, 1])
                    blue += np.float32(image[y, x, 2])
                result[row, column, 0] += red * unit
                result[row, column, 1] += green * unit
                result[row, column, 2] += blue * unit


@loops.compiled
def _widen(band: np.ndarray, wide: np.ndarray, knot: np.ndarray, share: np.ndarray) -> None:
    """Rows of a map [n, w, k, 3] -> [n, k, 3 W], linearly between the knots."""
    count, narrow, steps, _ = band.shape
    for x in range(knot.size):
        beside = min(knot[x] + 1, narrow - 1)
        for row in range(count):
            for step in range(steps):
                for colour in range(3):
                    here, there = band[row, knot[x], step, colour], band[row, beside, step, colour]
                    wide[row, step, 3 * x + colour] = here * (_ONE - share[x]) + there * share[x]


@loops.compiled
def _iterate(
    rows: np.ndarray, result: np.ndarray, wide: np.ndarray, knot: np.ndarray, share: np.ndarray, levels: np.ndarray
) -> None:
    """Bends rows [m, n] along maps [., 1 or 8, n]: x <- x + r (x^2 - x), as x (1 - r + r x), eight times."""
    line = np.empty(rows.shape[1], np.float32)
    before, after, rounding = levels[0], levels[1], levels[2]
    for row in range(len(rows)):
        above, below = wide[knot[row]], wide[min(knot[row] + 1, len(wide) - 1)]
        part, rest = share[row], _ONE - share[row]
        for i in range(line.size):
            line[i] = np.float32(rows[row, i]) * before
        if len(above) == 1:
            for i in range(line.size):
                r = above[0, i] * rest + below[0, i] * part
                offset, x = _ONE - r, line[i]
                x *= offset + r * x
                x *= offset + r * x
                x *= offset + r * x
                x *= offset + r * x
                x *= offset + r * x
                x *= offset + r * x
                x *= offset + r * x
                line[i] = x * (offset + r * x)
        else:
            for step in range(len(above)):
                for i in range(line.size):
                    r = above[step, i] * rest + below[step, i] * part
                    line[i] *= _ONE - r + r * line[i]
        for i in range(line.size):
            result[row, i] = min(max(line[i], _ZERO), _ONE) * after + rounding


@loops.compiled
def _interpolate(
    rows: np.ndarray, result: np.ndarray, wide: np.ndarray, knot: np.ndarray, share: np.ndarray, levels: np.ndarray
) -> None:
    """Adds to rows [m, n] in [0, 1] their curves [., k, n], which are linear between k even knots from 0 to 1."""
    count = wide.shape[1]
    curve = np.empty((count, rows.shape[1]), np.float32)
    after, rounding = levels[1], levels[2]
    for row in range(len(rows)):
        above, below = wide[knot[row]], wide[min(knot[row] + 1, len(wide) - 1)]
        part, rest = share[row], _ONE - share[row]
        for step in range(count):
            for i in range(curve.shape[1]):
                curve[step, i] = above[step, i] * rest + below[step, i] * part
        for i in range(curve.shape[1]):
            x = rows[row, i]
            x = x if x < _ONE else _ONE  # in this order NaN becomes 1: whatever comes in, the place is one that exists
            x = x if x > _ZERO else _ZERO
            place = x * np.float32(count - 1)
            lower = min(int(place), count - 2)
            weight = place - np.float32(lower)
            x += curve[lower, i] * (_ONE - weight) + curve[lower + 1, i] * weight
            result[row, i] = min(max(x, _ZERO), _ONE) * after + rounding
