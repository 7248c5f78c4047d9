"""Pieces of a camera, forwards and backwards: tone curve, mosaic, sensor noise, saturation; and random draws.

Written for speed on NumPy and OpenCV: TensorFlow's wheels compute these elementwise functions without the wide vector
instructions of the processor, three to five times slower. Every draw is the inverse of a distribution function at raw
bits of a Philox generator, whose stream NumPy guarantees; its distributions it does not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import cv2
import numpy as np

BT709_LUMA = (0.2126, 0.7152, 0.0722)

_ROW_BITS = 12  # the noise pool has 2^12 rows
_RUN = 256  # values of one row
_RUNS_AT_ONCE = 512
_VALUES_AT_ONCE = 2**17
_POOL_KEY = (0x243F6A8885A308D3, 0x13198A2E03707344)
_LEVELS = np.arange(256, dtype=np.float32) * np.float32(1 / 255)  # as `contracts.to_float`


class Draws:
    """The random numbers of one picture: a pure function of its seed, two whole numbers."""

    def __init__(self, seed: tuple[int, int]):
        self._key = np.array([number & (2**64 - 1) for number in seed], np.uint64)

    def bits(self, stream: int, count: int) -> np.ndarray:
        """Returns `count` random uint64 of one of the seed's independent streams."""
        return np.random.Philox(key=self._key, counter=[0, 0, 0, stream]).random_raw(count)

    def uniforms(self, stream: int, count: int) -> np.ndarray:
        """Returns `count` numbers in (0, 1), float64."""
        return ((self.bits(stream, count) >> np.uint64(11)) + 0.5) * 2.0**-53

    def add_noise(
        self, stream: int, values: np.ndarray, deviation: float | Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Adds normal noise in place, in a twentieth of the time of NumPy's generators.

        Each run of 256 values is the difference of two random rows of two tables of normals. There are 2^24 such runs,
        and two that share a row are as often correlated by 1/2 as by -1/2. Wallace (ACM TOMS 22(1), 1996,
        https://doi.org/10.1145/225545.225554) makes new normals out of a pool of normals in the same spirit.

        Args:
          stream: number of the stream.
          values: float32, of any shape, in C order.
          deviation: the standard deviation, or a function from some of the values to theirs.

        Returns:
          `values`.
        """
        flat = values.reshape(-1)
        runs = -(-flat.size // _RUN)
        bits = self.bits(stream, -(-runs // 2)).astype("<u8").view("<u4")
        rows = [(part & ((1 << _ROW_BITS) - 1)).astype(np.intp) for part in (bits, bits >> _ROW_BITS)]
        noise, other = np.empty((2, min(runs, _RUNS_AT_ONCE), _RUN), np.float32)
        for start in range(0, runs, _RUNS_AT_ONCE):  # few enough to stay in the processor's cache
            stop = min(start + _RUNS_AT_ONCE, runs)
            for table, row, out in zip(_pool(), rows, (noise, other), strict=True):
                np.take(table, row[start:stop], axis=0, out=out[: stop - start], mode="clip")
            noise -= other
            part = flat[start * _RUN : stop * _RUN]
            scaled = noise.reshape(-1)[: part.size]
            scaled *= deviation(part) if callable(deviation) else np.float32(deviation)
            part += scaled
        return values


@functools.lru_cache(maxsize=1)
def _pool() -> tuple[np.ndarray, np.ndarray]:
    """Two tables [4096, 256] of normals of variance 1/2 (8 MB, made once); rows of the second half negate the first."""
    from scipy import special

    uniforms = Draws(_POOL_KEY).uniforms(0, _RUN << _ROW_BITS)
    halves = (special.ndtri(uniforms) * np.sqrt(0.5)).astype(np.float32).reshape(2, 1 << (_ROW_BITS - 1), _RUN)
    first, second = (np.concatenate([half, -half]) for half in halves)
    return first, second


def between(uniform: float, limits: tuple[float, float]) -> float:
    """Maps (0, 1) evenly to the limits."""
    return limits[0] + (limits[1] - limits[0]) * uniform


def between_logs(uniform: float, limits: tuple[float, float]) -> float:
    """Maps (0, 1) to positive limits, evenly in the logarithm."""
    return float(np.exp(between(uniform, (np.log(limits[0]), np.log(limits[1])))))


def empty(shape: tuple[int, ...]) -> np.ndarray:
    """Returns an array of float32 that begins at a multiple of 64 bytes, which TensorFlow takes over without a copy."""
    size = 4 * int(np.prod(shape))
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(np.float32).reshape(shape)


def apply_curve(image: np.ndarray, curve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Applies a function of single values to a uint8 picture, by a table of its 256 levels, or to a float32 one."""
    if image.dtype != np.uint8:
        return curve(np.array(image, np.float32, order="C"))  # a copy, which the curve may write to
    table, source = curve(_LEVELS.copy()), np.ascontiguousarray(image).reshape(1, -1)
    result = empty(source.shape)
    # From 2^18 values on OpenCV would spread over threads of its own, against those that call.
    for start in range(0, source.size, _VALUES_AT_ONCE):
        part = slice(start, start + _VALUES_AT_ONCE)
        cv2.LUT(source[:, part], table, result[:, part])
    return result.reshape(image.shape)


def power(base: np.ndarray, exponent: float) -> np.ndarray:
    """Raises base >= 0 to a positive exponent, in place, twice as fast as `np.power`; 0 stays 0."""
    with np.errstate(divide="ignore"):
        np.log(base, out=base)
    base *= np.float32(exponent)
    return np.exp(base, out=base)


def clip(values: np.ndarray) -> np.ndarray:
    """Clips to [0, 1], in place."""
    return np.clip(values, np.float32(0), np.float32(1), out=values)


def add_tone(values: np.ndarray, share: float) -> np.ndarray:
    """Mixes the tone curve 3 x^2 - 2 x^3 of a camera into values in [0, 1]: x + share (curve - x), in place."""
    curve = values * np.float32(-2)
    curve += np.float32(3)
    curve *= values
    curve -= np.float32(1)
    curve *= values
    curve *= np.float32(share)
    values += curve
    return values


def invert_tone(values: np.ndarray) -> np.ndarray:
    """Inverts the tone curve: 0.5 - sin(asin(1 - 2 x) / 3) (Brooks et al. 2019, Eq. 5), in place."""
    values *= np.float32(-2)
    values += np.float32(1)
    np.arcsin(values, out=values)
    values *= np.float32(1 / 3)
    np.sin(values, out=values)
    np.subtract(np.float32(0.5), values, out=values)
    return np.maximum(values, np.float32(0), out=values)


def sensor_deviation(shot: float, read: float) -> Callable[[np.ndarray], np.ndarray]:
    """Returns signal -> standard deviation of sensor noise of variance `shot * signal + read` (Brooks et al. 2019)."""

    def deviation(signal: np.ndarray) -> np.ndarray:
        variance = signal * np.float32(shot)
        variance += np.float32(read)
        return np.sqrt(variance, out=variance)

    return deviation


def mosaic(image: np.ndarray) -> np.ndarray:
    """Takes from every pixel the one colour that an RGGB sensor sees.

    Args:
      image: [H, W, 3] of any type. An odd side is lengthened by its last line.

    Returns:
      [4, ceil(H / 2), ceil(W / 2)]: the planes R, G beside R, G beside B, and B.
    """
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    return np.stack([image[::2, ::2, 0], image[::2, 1::2, 1], image[1::2, ::2, 1], image[1::2, 1::2, 2]])


def demosaic(raw: np.ndarray) -> np.ndarray:
    """Fills in the missing colours of an RGGB mosaic by the mean of the nearest 2 or 4 samples; borders are repeated.

    Args:
      raw: [4, h, w] as `mosaic` gives, float32.

    Returns:
      [4, 3, h, w]: place in the cell of 2 by 2 pixels (rows first), colour, cell.
    """
    red, green_red, green_blue, blue = raw
    planes = np.empty((4, 3, *raw.shape[1:]), np.float32)
    planes[0, 0], planes[1, 1], planes[2, 1], planes[3, 2] = red, green_red, green_blue, blue
    _mean_after(red, 1, planes[1, 0])
    _mean_after(red, 0, planes[2, 0])
    _mean_after(planes[1, 0], 0, planes[3, 0])
    _mean_before(blue, 0, planes[1, 2])
    _mean_before(blue, 1, planes[2, 2])
    _mean_before(planes[2, 2], 0, planes[0, 2])
    _mean_before(green_red, 1, planes[0, 1])
    _mean_after(green_red, 0, planes[3, 1])
    for place, other in ((0, _mean_before(green_blue, 0)), (3, _mean_after(green_blue, 1))):
        planes[place, 1] += other
        planes[place, 1] *= np.float32(0.5)
    return planes


def _mean_after(plane: np.ndarray, axis: int, out: np.ndarray | None = None) -> np.ndarray:
    """Returns the mean of each sample and the next one along an axis; the last stands for its missing neighbour."""
    out = np.empty_like(plane) if out is None else out
    out[...] = plane
    here, there = (out[:-1], plane[1:]) if axis == 0 else (out[:, :-1], plane[:, 1:])
    here += there
    here *= np.float32(0.5)
    return out


def _mean_before(plane: np.ndarray, axis: int, out: np.ndarray | None = None) -> np.ndarray:
    """Returns the mean of each sample and the one before it along an axis."""
    out = np.empty_like(plane) if out is None else out
    out[...] = plane
    here, there = (out[1:], plane[:-1]) if axis == 0 else (out[:, 1:], plane[:, :-1])
    here += there
    here *= np.float32(0.5)
    return out


def join_cells(
    planes: np.ndarray, height: int, width: int, *, finish: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Finishes the planes of `demosaic` and puts them together, cutting what `mosaic` added.

    Args:
      planes: [4, 3, h, w].
      height: of the picture.
      width: of the picture.
      finish: [3, h, w] -> the same; one place in the cells at a time, so that its steps meet in the cache.

    Returns:
      [height, width, 3].
    """
    image = empty((2 * planes.shape[2], 2 * planes.shape[3], 3))
    for place, colors in enumerate(planes):
        for color, plane in enumerate(finish(colors)):
            image[place // 2 :: 2, place % 2 :: 2, color] = plane
    return np.ascontiguousarray(image[:height, :width])


def saturate(planes: np.ndarray, factor: float) -> np.ndarray:
    """Moves linear colours away from their BT.709 luminance by `factor`, in place; planes are [3, ...]."""
    luminance = planes[0] * np.float32(BT709_LUMA[0])
    luminance += planes[1] * np.float32(BT709_LUMA[1])
    luminance += planes[2] * np.float32(BT709_LUMA[2])
    for plane in planes:
        plane -= luminance
        plane *= np.float32(factor)
        plane += luminance
    return planes


def sample(image: np.ndarray, side: int) -> np.ndarray:
    """Returns the pixels of an even grid over [H, W, 3], of `side` to 2 `side` steps along the shorter side."""
    step = max(min(image.shape[:2]) // side, 1)
    return np.ascontiguousarray(image[::step, ::step])


def count_levels(image: np.ndarray) -> np.ndarray:
    """Returns how many values are nearest to each of the 256 levels: [256] int64."""
    levels = image if image.dtype == np.uint8 else (image * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return np.bincount(levels.reshape(-1), minlength=256)
