"""The loops of a camera over whole pictures, compiled by Numba: one pass over memory, without Python's lock.

NumPy takes ten passes for the same, and TensorFlow's wheels compute elementwise functions without the wide vector
instructions of the processor. All numbers are float32; arrays are changed in place or written to, and nothing is
returned. Sums are not reordered; a product that is added to is rounded once, with its sum, where the processor can.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tfllv.ops.loops import compiled

RUN = 256  # values of a run of noise


def _singles(*numbers: float) -> tuple[np.float32, ...]:
    return tuple(np.float32(number) for number in numbers)


_ZERO, _HALF, _ONE = _singles(0, 0.5, 1)
# log2(1 + x) / x for x in [sqrt(1/2) - 1, sqrt(2) - 1], and 2^x for x in [-1/2, 1/2]: least squares, highest first.
_LOG = _singles(-0.146203533, 0.23420985, -0.24882181, 0.287075609, -0.360241979, 0.48092404, -0.721352756, 1.4426949)
_EXP = _singles(0.00134004327, 0.00967603736, 0.0555032715, 0.240221068, 0.693147182, 1.00000012)
_LEAST = np.float32(1e-37)
_ROOT_HALF = np.int32(0x3F3504F3)  # the bits of sqrt(1/2)
_BT709 = _singles(0.2126, 0.7152, 0.0722)


class Runs(NamedTuple):
    """Runs of 256 standard normals: tables [2^17 + 256], and the bits [runs] that choose a place in each of them."""

    first: np.ndarray
    second: np.ndarray
    bits: np.ndarray


@compiled
def power(values: np.ndarray, exponent: float) -> None:
    """Values [N] >= 0 ** exponent > 0. 0 stays 0; the relative error is below 5e-6 for results above 1e-9."""
    bits = values.view(np.int32)
    for i in range(values.size):
        base = values[i]
        # base = 2^whole (1 + x), and with log2(1 + x) the power is 2^y.
        whole = (bits[i] - _ROOT_HALF) >> 23
        mantissa = np.int32(bits[i] - (whole << 23))
        bits[i] = mantissa
        x = values[i] - _ONE
        y = _LOG[0]
        for k in range(1, 8):
            y = y * x + _LOG[k]
        y = max((y * x + np.float32(whole)) * exponent, np.float32(-126))
        nearest = np.floor(y + _HALF)
        y -= nearest
        result = _EXP[0]
        for k in range(1, 6):
            result = result * y + _EXP[k]
        values[i] = result
        bits[i] = np.int32(bits[i] + (np.int32(nearest) << 23))
        values[i] = values[i] if base > _LEAST else _ZERO


@compiled
def add_tone(values: np.ndarray, share: float) -> None:
    """Values [N] in [0, 1] -> x + share (3 x^2 - 2 x^3 - x)."""
    for i in range(values.size):
        x = values[i]
        values[i] = x + (((np.float32(3) - np.float32(2) * x) * x - _ONE) * x) * share


@compiled
def look_up(levels: np.ndarray, table: np.ndarray, values: np.ndarray) -> None:
    """Values [N] = table [256] at levels [N] uint8."""
    for i in range(values.size):
        values[i] = table[levels[i]]


@compiled
def add_noise(
    levels: np.ndarray,
    table: np.ndarray,
    values: np.ndarray,
    runs: Runs,
    shot: float,
    variance: float,
    low: float,
    high: float,
) -> None:
    """Adds noise of variance `shot * value + variance`, by `runs`, and clips to [low, high].

    To values [N], or, where there are `levels` [N] uint8, to `table` [256] at them, which is written to `values`.
    """
    for start in range(0, values.size, RUN):
        run = values[start : start + RUN]
        if levels.size:
            look_up(levels[start : start + RUN], table, run)
        _add_run(run, runs, start // RUN, shot, variance, low, high)


@compiled
def _add_run(
    values: np.ndarray, runs: Runs, number: int, shot: float, variance: float, low: float, high: float
) -> None:
    """Adds run `number` of noise to at most 256 values."""
    first, second, bits = runs
    one, two = 2 * (bits[number] & np.uint32(0xFFFF)), 2 * (bits[number] >> np.uint32(16))
    plus, minus = first[one : one + RUN], second[two : two + RUN]
    if shot == _ZERO:
        deviation = math.sqrt(variance)
        for i in range(values.size):
            values[i] = min(max(values[i] + (plus[i] - minus[i]) * deviation, low), high)
    else:
        for i in range(values.size):
            deviation = math.sqrt(values[i] * shot + variance)
            values[i] = min(max(values[i] + (plus[i] - minus[i]) * deviation, low), high)


@compiled
def see_raw(
    levels: np.ndarray,
    table: np.ndarray,
    values: np.ndarray,
    to_camera: np.ndarray,
    from_camera: np.ndarray,
    runs: Runs,
    shot: float,
    variance: float,
    steps: float,
    exponent: float,
) -> None:
    """Linear colours as a sensor sees and a camera shows them.

    From `table` [256] at `levels` [3 N] uint8, or, where those are empty, from `values` [3 N], and to `values`: colours
    by the matrix `to_camera` [3, 3], noise of variance `shot * value + variance` by a run for 256 pixels of a colour,
    whole steps of 0 to `steps`, colours by `from_camera` [3, 3], and a power; clipped to [0, 1] after each of them.
    """
    planes, seen = np.empty((3, RUN), np.float32), np.empty((3, RUN), np.float32)
    for start in range(0, values.size, 3 * RUN):
        block = values[start : start + 3 * RUN]
        if levels.size:
            _look_up_apart(levels[start : start + 3 * RUN], table, planes)
        else:
            _take_apart(block, planes)
        for color in range(3):
            _mix(planes, to_camera[color], seen[color])
            _add_run(seen[color], runs, start // RUN + color, shot, variance, _ZERO, _ONE)
            _round(seen[color], steps)
        for color in range(3):
            _mix(seen, from_camera[color], planes[color])
            power(planes[color], exponent)
        _put_together(planes, block)


@compiled
def _look_up_apart(levels: np.ndarray, table: np.ndarray, planes: np.ndarray) -> None:
    red, green, blue = planes[0], planes[1], planes[2]
    for i in range(levels.size // 3):
        red[i], green[i], blue[i] = table[levels[3 * i]], table[levels[3 * i + 1]], table[levels[3 * i + 2]]


@compiled
def _take_apart(pixels: np.ndarray, planes: np.ndarray) -> None:
    red, green, blue = planes[0], planes[1], planes[2]
    for i in range(pixels.size // 3):
        red[i], green[i], blue[i] = pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2]


@compiled
def _put_together(planes: np.ndarray, pixels: np.ndarray) -> None:
    red, green, blue = planes[0], planes[1], planes[2]
    for i in range(pixels.size // 3):
        pixels[3 * i] = red[i]
        pixels[3 * i + 1] = green[i]
        pixels[3 * i + 2] = blue[i]


@compiled
def _round(values: np.ndarray, steps: float) -> None:
    for i in range(values.size):
        values[i] = np.floor(values[i] * steps + _HALF)


@compiled
def _mix(planes: np.ndarray, weights: np.ndarray, result: np.ndarray) -> None:
    """Result [N] = the weighted sum of three planes [3, N or more], clipped to [0, 1]."""
    red, green, blue = planes[0], planes[1], planes[2]
    for i in range(result.size):
        value = red[i] * weights[0] + green[i] * weights[1] + blue[i] * weights[2]
        result[i] = min(max(value, _ZERO), _ONE)


@compiled
def take_mosaic(levels: np.ndarray, table: np.ndarray, values: np.ndarray, raw: np.ndarray) -> None:
    """Takes from every pixel the one colour that an RGGB sensor sees.

    Args:
      levels: [H, W, 3] uint8, or empty.
      table: [256] the values of the levels.
      values: [H, W, 3], read where `levels` is empty.
      raw: [4, ceil(H / 2), ceil(W / 2) + 2], written to between its first and last column: the planes R, G beside R,
        G beside B, and B. An odd side is lengthened by its last line.
    """
    height, width, _ = values.shape
    for row in range(raw.shape[1]):
        for half in range(2):
            up = min(2 * row + half, height - 1)
            for side in range(2):
                line, color = raw[2 * half + side, row, 1:-1], half + side
                seen = (width - side + 1) // 2
                if levels.size:
                    for i in range(seen):
                        line[i] = table[levels[up, 2 * i + side, color]]
                else:
                    line[:seen] = values[up, side::2, color]
                if seen < line.size:
                    line[-1] = table[levels[up, -1, color]] if levels.size else values[up, -1, color]


@compiled
def develop(raw: np.ndarray, image: np.ndarray, settings: np.ndarray, exponent: float, published: bool) -> None:
    """An RGGB mosaic, filled in by the mean of the nearest 2 or 4 samples, as a finished picture; borders are repeated.

    Args:
      raw: [4, h, w + 2] as `take_mosaic` gives; its first and last column are written to.
      image: [H, W, 3] with H in {2 h - 1, 2 h} and W in {2 w - 1, 2 w}; written to.
      settings: [3]: factor on light, on saturation, share of the tone curve.
      exponent: of the last power.
      published: light, tone, saturation, power and whole levels, in this order; else saturation, power and tone.
    """
    _, rows, columns = raw.shape
    for plane in range(4):
        for row in range(rows):
            raw[plane, row, 0], raw[plane, row, -1] = raw[plane, row, 1], raw[plane, row, -2]
    pixels = np.empty((2, 3, columns - 2), np.float32)
    for row in range(rows):
        above, below = max(row - 1, 0), min(row + 1, rows - 1)
        _fill_upper(raw[0, row], raw[1, row], raw[2, row], raw[3, row], raw[2, above], raw[3, above], pixels)
        _finish(pixels, settings, exponent, published)
        _interleave(pixels, image[2 * row])
        if 2 * row + 1 < len(image):
            _fill_lower(raw[0, row], raw[1, row], raw[2, row], raw[3, row], raw[0, below], raw[1, below], pixels)
            _finish(pixels, settings, exponent, published)
            _interleave(pixels, image[2 * row + 1])


@compiled
def _fill_upper(
    red: np.ndarray,
    green: np.ndarray,
    other: np.ndarray,
    blue: np.ndarray,
    other_above: np.ndarray,
    blue_above: np.ndarray,
    pixels: np.ndarray,
) -> None:
    """The colours of the pixels of red, and of the green ones beside them."""
    pixels[0, 0] = red[1:-1]
    _mean_of_four(green[:-2], green[1:-1], other[1:-1], other_above[1:-1], pixels[0, 1])
    _mean_of_four(blue[:-2], blue[1:-1], blue_above[:-2], blue_above[1:-1], pixels[0, 2])
    _mean_of_two(red[1:-1], red[2:], pixels[1, 0])
    pixels[1, 1] = green[1:-1]
    _mean_of_two(blue[1:-1], blue_above[1:-1], pixels[1, 2])


@compiled
def _fill_lower(
    red: np.ndarray,
    other: np.ndarray,
    green: np.ndarray,
    blue: np.ndarray,
    red_below: np.ndarray,
    other_below: np.ndarray,
    pixels: np.ndarray,
) -> None:
    """The colours of the green pixels beside blue, and of the blue ones."""
    _mean_of_two(red[1:-1], red_below[1:-1], pixels[0, 0])
    pixels[0, 1] = green[1:-1]
    _mean_of_two(blue[:-2], blue[1:-1], pixels[0, 2])
    _mean_of_four(red[1:-1], red[2:], red_below[1:-1], red_below[2:], pixels[1, 0])
    _mean_of_four(other[1:-1], other_below[1:-1], green[1:-1], green[2:], pixels[1, 1])
    pixels[1, 2] = blue[1:-1]


@compiled
def _mean_of_two(one: np.ndarray, two: np.ndarray, result: np.ndarray) -> None:
    for i in range(result.size):
        result[i] = (one[i] + two[i]) * _HALF


@compiled
def _mean_of_four(one: np.ndarray, two: np.ndarray, three: np.ndarray, four: np.ndarray, result: np.ndarray) -> None:
    for i in range(result.size):
        result[i] = ((one[i] + two[i]) + (three[i] + four[i])) * np.float32(0.25)


@compiled
def _interleave(pixels: np.ndarray, line: np.ndarray) -> None:
    """Two sorts of pixels [2, 3, n], one after the other, in a line [2 n or 2 n - 1, 3] of a picture."""
    for place in range(2):
        red, green, blue = pixels[place, 0], pixels[place, 1], pixels[place, 2]
        for i in range((len(line) + 1 - place) // 2):
            line[2 * i + place, 0] = red[i]
            line[2 * i + place, 1] = green[i]
            line[2 * i + place, 2] = blue[i]


@compiled
def _finish(pixels: np.ndarray, settings: np.ndarray, exponent: float, published: bool) -> None:
    """The steps of `develop` after the colours are there, on a row [2, 3, n] of pixels."""
    flat = pixels.reshape(-1)
    if published:
        for i in range(flat.size):
            flat[i] = min(max(flat[i] * settings[0], _ZERO), _ONE)
        add_tone(flat, settings[2])
    for place in range(2):
        _saturate(pixels[place, 0], pixels[place, 1], pixels[place, 2], settings[1])
    power(flat, exponent)
    if published:
        for i in range(flat.size):
            flat[i] = np.floor(min(flat[i], _ONE) * np.float32(255)) * np.float32(1 / 255)
    else:
        add_tone(flat, settings[2])


@compiled
def _saturate(red: np.ndarray, green: np.ndarray, blue: np.ndarray, factor: float) -> None:
    """Moves linear colours [N] away from their BT.709 luminance by `factor`, and clips them to [0, 1]."""
    for i in range(red.size):
        luminance = red[i] * _BT709[0] + green[i] * _BT709[1] + blue[i] * _BT709[2]
        rest = luminance - luminance * factor
        red[i] = min(max(red[i] * factor + rest, _ZERO), _ONE)
        green[i] = min(max(green[i] * factor + rest, _ZERO), _ONE)
        blue[i] = min(max(blue[i] * factor + rest, _ZERO), _ONE)


@compiled
def count_levels(image: np.ndarray, scale: float, step: int, counts: np.ndarray) -> None:
    """Adds to counts [256] the levels nearest to image [H, W, 3] times `scale`, at every `step`-th row and column."""
    for row in range(0, image.shape[0], step):
        for column in range(0, image.shape[1], step):
            for color in range(3):
                counts[int(np.float32(image[row, column, color]) * scale + _HALF)] += 1


@compiled
def expect_means(
    linear: np.ndarray,
    counts: np.ndarray,
    exposures: np.ndarray,
    nodes: np.ndarray,
    weights: np.ndarray,
    shot: float,
    variance: float,
    exponent: float,
    tone: float,
    means: np.ndarray,
) -> None:
    """The mean that a picture is expected to have after noise, clipping, power and tone, at each exposure.

    Args:
      linear: [L] its levels of light.
      counts: [L] how often there is each of them.
      exposures: [E] factors.
      nodes: [K] values of a standard normal.
      weights: [K] of each, float64.
      shot: variance of noise a unit of light.
      variance: of noise without light.
      exponent: of the power.
      tone: share of the tone curve.
      means: [E] float64, written to.
    """
    developed, count = np.empty(linear.size, np.float32), counts.sum()
    for k in range(exposures.size):
        means[k] = 0.0
        for node in range(nodes.size):
            for i in range(linear.size):
                signal = linear[i] * exposures[k]
                value = signal + math.sqrt(signal * shot + variance) * nodes[node]
                developed[i] = min(max(value, _ZERO), _ONE)
            power(developed, exponent)
            add_tone(developed, tone)
            total = 0.0
            for i in range(linear.size):
                total += developed[i] * counts[i]
            means[k] += total * weights[node] / count
