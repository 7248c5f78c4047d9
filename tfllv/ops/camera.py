"""Pieces of a camera, forwards and backwards: tone curve, mosaic, sensor noise, saturation; and random draws.

What runs over whole pictures is in `camera_loops`. Every draw is the inverse of a distribution function at raw bits of
a Philox generator, whose stream NumPy guarantees; its distributions it does not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tfllv.ops import buffers, camera_loops

_POOL = 2**17  # normals of a table; both fit into a core's own cache
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

    def runs(self, stream: int, count: int) -> camera_loops.Runs:
        """Returns noise for `count` values or more, in a twentieth of the time of NumPy's generators.

        Each run is the difference of two stretches, of two tables of normals, from random places on. There are 2^32 of
        them, and where two share normals they are as often correlated by 1/2 as by -1/2. Wallace (ACM TOMS 22(1), 1996,
        https://doi.org/10.1145/225545.225554) makes new normals out of a pool of normals in the same spirit.
        """
        runs = -(-count // camera_loops.RUN)
        bits = self.bits(stream, -(-runs // 2)).astype("<u8").view("<u4").astype(np.uint32)
        return camera_loops.Runs(*_pool(), bits)

    def add_noise(
        self, stream: int, picture: Curved, *, variance: float, shot: float = 0.0, clip: bool = False
    ) -> np.ndarray:
        """Adds normal noise of variance `shot * value + variance` (Brooks et al. 2019, Eq. 1).

        Args:
          stream: number of the stream.
          picture: as `curve` gives; its values are written to.
          variance: of read noise.
          shot: variance of shot noise a unit of light; values must not be negative where it is not 0.
          clip: clips the sums to [0, 1].

        Returns:
          The values, in the picture's shape.
        """
        runs = self.runs(stream, picture.values.size)
        low, high = (0, 1) if clip else (-np.inf, np.inf)
        amounts = (np.float32(number) for number in (shot, variance, low, high))
        camera_loops.add_noise(*picture.flat(), runs, *amounts)
        return picture.values


@functools.lru_cache(maxsize=1)
def _pool() -> tuple[np.ndarray, np.ndarray]:
    """Two tables [2^17 + 256] of normals of variance 1/2 (1 MB, made once); the second half negates the first."""
    from scipy import special

    uniforms = Draws(_POOL_KEY).uniforms(0, _POOL)
    halves = (special.ndtri(uniforms) * np.sqrt(0.5)).astype(np.float32).reshape(2, _POOL // 2)
    first, second = (np.concatenate([half, -half, half[: camera_loops.RUN]]) for half in halves)
    return first, second


def between(uniform: float, limits: tuple[float, float]) -> float:
    """Maps (0, 1) evenly to the limits."""
    return limits[0] + (limits[1] - limits[0]) * uniform


def between_logs(uniform: float, limits: tuple[float, float]) -> float:
    """Maps (0, 1) to positive limits, evenly in the logarithm."""
    return float(np.exp(between(uniform, (np.log(limits[0]), np.log(limits[1])))))


class Curved(NamedTuple):
    """A picture after a curve: `values`, if `levels` is empty, else `table` [256] at `levels`, not looked up yet."""

    levels: np.ndarray
    table: np.ndarray
    values: np.ndarray

    def flat(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns levels, table and values, each of one axis."""
        return self.levels.reshape(-1), self.table, self.values.reshape(-1)

    def mosaic(self) -> Curved:
        """Returns what an RGGB sensor sees of it, as values; see `camera_loops.take_mosaic`."""
        height, width, _ = self.values.shape
        raw = buffers.empty((4, -(-height // 2), -(-width // 2) + 2))
        raw[:, :, [0, -1]] = 0  # noise is added to these too
        camera_loops.take_mosaic(*self, raw)
        return Curved(self.levels[:0], self.table, raw)


def curve(image: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> Curved:
    """Applies a function of single values, which may change them in place, to a uint8 or float32 picture."""
    table = function(_LEVELS.copy())
    if image.dtype != np.uint8:
        return Curved(np.empty((0, 0, 0), np.uint8), table, function(np.array(image, np.float32, order="C")))
    return Curved(np.ascontiguousarray(image), table, buffers.empty(image.shape))


def power(base: np.ndarray, exponent: float) -> np.ndarray:
    """Raises base >= 0 to a positive exponent, in place; see `camera_loops.power`."""
    camera_loops.power(base.reshape(-1), np.float32(exponent))
    return base


def clip(values: np.ndarray) -> np.ndarray:
    """Clips to [0, 1], in place."""
    return np.clip(values, np.float32(0), np.float32(1), out=values)


def add_tone(values: np.ndarray, share: float) -> np.ndarray:
    """Mixes the tone curve of a camera into values in [0, 1], in place; see `camera_loops.add_tone`."""
    camera_loops.add_tone(values.reshape(-1), np.float32(share))
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


def count_levels(image: np.ndarray, side: int = 64) -> np.ndarray:
    """Returns how many values are nearest to each of the 256 levels: [256] int64.

    Counted are the pixels of an even grid over [H, W, 3], of `side` to 2 `side` steps along the shorter side.
    """
    counts = np.zeros(256, np.int64)
    step = max(min(image.shape[:2]) // side, 1)
    camera_loops.count_levels(image, np.float32(1 if image.dtype == np.uint8 else 255), step, counts)
    return counts
