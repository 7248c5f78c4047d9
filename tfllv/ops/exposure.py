"""Tone curves: histogram equalisation, global and by tiles, gamma, adaptive gamma and exposure gain."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from tfllv import contracts
from tfllv.ops import batches, color

BINS = 256

# A curve is tabulated this finely, so that a float or 16-bit image does not fall into 256 steps. The curves of the
# tiles are coarser: 64 of them still fit a cache, and a limited contrast makes none of them steep.
_FINE = 2**16
_TILE_FINE = 255 * 16 + 1


@batches.per_image
def equalize_histogram(image: np.ndarray, *, chromaticity: float = 0.5, reference: bool = False) -> np.ndarray:
    """Equalises the histogram of the luma.

    The curve is that of OpenCV's `equalizeHist` on Y of YCrCb, from a histogram of 256 bins. OpenCV rounds Y to 256
    levels first and Cr and Cb too, which shows as bands and coloured blotches where the curve is steep, as it is in a
    dark picture; here the curve is interpolated between its 256 points and Y, Cr and Cb are not rounded. And because
    the Cr and Cb of a dark picture are tiny, leaving them alone turns it almost grey; see `chromaticity`.

    Args:
      image: [H, W, 3] or [B, H, W, 3], float32 in [0, 1] (values outside are clipped) or uint8.
      chromaticity: 0 leaves Cr and Cb alone, as the reference; 1 keeps the ratios R : G : B; between them the two
        pictures are averaged.
      reference: OpenCV's 8-bit arithmetic throughout, bit for bit.

    Returns:
      float32 of the same shape in [0, 1]. A flat luma is left as it is.

    Raises:
      ValueError: if `chromaticity` is out of range, or by `contracts.check_image`.
    """
    if not 0 <= chromaticity <= 1:
        raise ValueError(f"`chromaticity` must be in [0, 1]. Received: chromaticity={chromaticity}.")
    if reference:
        planes = cv2.cvtColor(contracts.to_uint8(image), cv2.COLOR_RGB2YCrCb)
        planes[..., 0] = cv2.equalizeHist(planes[..., 0])
        return contracts.to_float(cv2.cvtColor(planes, cv2.COLOR_YCrCb2RGB))
    old = color.luma(image)
    curve = _refine(_equalizing_curve(_count_levels(old)), _FINE)
    result = np.empty_like(image)
    for rows in batches.row_strips(*old.shape):
        part = image[rows], old[rows], curve[_index(old[rows], _FINE)]
        result[rows] = color.shift_intensity(*part)
        if chromaticity > 0:
            result[rows] += np.float32(chromaticity) * (color.scale_intensity(*part) - result[rows])
    return result


@batches.per_image
def equalize_adaptive(
    image: np.ndarray, *, clip_limit: float = 3.0, tiles: tuple[int, int] = (8, 8), reference: bool = False
) -> np.ndarray:
    """Equalises the histogram of the lightness tile by tile, with limited contrast (CLAHE).

    Zuiderveld 1994 (Graphics Gems IV, pp. 474-485), with the details of OpenCV's `createCLAHE` on L of CIE Lab: 256
    bins, the excess over the limit shared out evenly, curves blended bilinearly between tile centres. Unlike OpenCV's
    8-bit path the curves are interpolated between their 256 points and L, a and b are not rounded, and a flat L is
    left as it is (OpenCV lifts black to level 4).

    Args:
      image: [H, W, 3] or [B, H, W, 3], float32 in [0, 1] (values outside are clipped) or uint8.
      clip_limit: highest count of a bin, as a multiple of the mean count; > 0.
      tiles: rows and columns of tiles, each >= 1.
      reference: OpenCV's 8-bit arithmetic throughout, bit for bit.

    Returns:
      float32 of the same shape in [0, 1].

    Raises:
      ValueError: if an option is out of range, or by `contracts.check_image`.
    """
    if not 0 < clip_limit < math.inf:
        raise ValueError(f"`clip_limit` must be finite and > 0. Received: clip_limit={clip_limit}.")
    if len(tiles) != 2 or min(tiles) < 1:
        raise ValueError(f"`tiles` must be (rows, columns), each >= 1. Received: tiles={tiles}.")
    if reference:
        planes = cv2.cvtColor(contracts.to_uint8(image), cv2.COLOR_RGB2Lab)
        planes[..., 0] = cv2.createCLAHE(clip_limit, (tiles[1], tiles[0])).apply(planes[..., 0])
        return contracts.to_float(cv2.cvtColor(planes, cv2.COLOR_Lab2RGB))
    old = color.lightness(image)
    if old.min() == old.max():
        return image.copy()
    result = np.empty_like(image)
    for rows, new in _equalize_tiles(old, clip_limit, tiles):
        result[rows] = color.shift_lightness(image[rows], new - old[rows])
    return result


@batches.per_image
def adjust_gamma(image: np.ndarray, *, gamma: float = 0.5) -> np.ndarray:
    """Raises every channel to the power `gamma`, as scikit-image's `exposure.adjust_gamma`.

    Args:
      image: [H, W, 3] or [B, H, W, 3], float32 in [0, 1] (values outside are clipped) or uint8.
      gamma: the exponent, > 0; below 1 it brightens. Black and white stay.

    Returns:
      float32 of the same shape in [0, 1].

    Raises:
      ValueError: if `gamma` is out of range, or by `contracts.check_image`.
    """
    if not 0 < gamma < math.inf:
        raise ValueError(f"`gamma` must be finite and > 0. Received: gamma={gamma}.")
    return _power(image, gamma)


@batches.per_image
def adjust_exposure(image: np.ndarray, *, gain: float = 1.5) -> np.ndarray:
    """Multiplies every channel by `gain` and clips at white, as OpenCV's `convertScaleAbs` does on 8 bits.

    Args:
      image: [H, W, 3] or [B, H, W, 3], float32 in [0, 1] (values outside are clipped) or uint8.
      gain: the factor on gamma-coded values, > 0; 1.5 is about 1.3 photographic stops.

    Returns:
      float32 of the same shape in [0, 1].

    Raises:
      ValueError: if `gain` is out of range, or by `contracts.check_image`.
    """
    if not 0 < gain < math.inf:
        raise ValueError(f"`gain` must be finite and > 0. Received: gain={gain}.")
    result = image * np.float32(gain)
    return np.minimum(result, 1, out=result)


@batches.per_image
def adapt_gamma(image: np.ndarray, *, target: float = 0.5, limits: tuple[float, float] = (0.2, 2.5)) -> np.ndarray:
    """Raises every channel to a power chosen so that the mean luma would land on `target`.

    gamma = log(target) / log(mean), held within `limits`: a mean below the target gives gamma < 1, so a dark picture
    becomes brighter and a bright one darker. Code that takes gamma = -log2(mean), the inverse, darkens dark pictures.

    Args:
      image: [H, W, 3] or [B, H, W, 3], float32 in [0, 1] (values outside are clipped) or uint8. Each image of a batch
        has its own gamma.
      target: the level where the mean would land, in (0, 1). The mean of the result lies near it, and below it where
        the picture has contrast, because the power of a mean is not the mean of powers.
      limits: lowest and highest gamma, 0 < low <= 1 <= high. `(0.2, 1)` never darkens.

    Returns:
      float32 of the same shape in [0, 1]. Black stays black and white stays white.

    Raises:
      ValueError: if an option is out of range, or by `contracts.check_image`.
    """
    if not 0 < target < 1:
        raise ValueError(f"`target` must be between 0 and 1. Received: target={target}.")
    if len(limits) != 2 or not 0 < limits[0] <= 1 <= limits[1] < math.inf:
        raise ValueError(f"`limits` must be (low, high), 0 < low <= 1 <= high. Received: limits={limits}.")
    return _power(image, choose_gamma(float(color.luma(image).mean(dtype=np.float64)), target=target, limits=limits))


def choose_gamma(mean: float, *, target: float = 0.5, limits: tuple[float, float] = (0.2, 2.5)) -> float:
    """Returns log(target) / log(mean) within `limits`; the nearest limit for a mean of 0 or 1, where it has no value.

    Args:
      mean: mean luma in [0, 1].
      target: in (0, 1).
      limits: lowest and highest gamma.
    """
    low, high = limits
    if mean <= 0:
        return low
    if mean >= 1:
        return high
    return min(max(math.log(target) / math.log(mean), low), high)


def _power(image: np.ndarray, exponent: float) -> np.ndarray:
    return cv2.pow(np.ascontiguousarray(image), exponent)


def _count_levels(channel: np.ndarray) -> np.ndarray:
    """Returns how many pixels of an [H, W] float32 channel round to each of 256 levels, as [256] float64."""
    return cv2.calcHist([contracts.to_uint8(channel)], [0], None, [BINS], [0, BINS]).ravel().astype(np.float64)


def _equalizing_curve(counts: np.ndarray) -> np.ndarray:
    """Returns OpenCV's equalising curve, [256] levels of 255: the lowest occupied level to 0, the highest to 255."""
    lowest = int(np.flatnonzero(counts)[0])
    others = counts.sum() - counts[lowest]
    if others == 0:
        return np.arange(BINS, dtype=np.float64)
    curve = np.cumsum(counts) - counts[lowest]
    curve[:lowest] = 0
    return curve * (BINS - 1) / others


def _refine(curve: np.ndarray, count: int) -> np.ndarray:
    """Tabulates a curve of 256 levels of 255 at `count` levels of 1."""
    levels = np.linspace(0, BINS - 1, count)
    return (np.interp(levels, np.arange(BINS), curve) / (BINS - 1)).astype(np.float32)


def _index(channel: np.ndarray, count: int) -> np.ndarray:
    return (channel * np.float32(count - 1) + np.float32(0.5)).astype(np.int32)


def _equalize_tiles(
    channel: np.ndarray, clip_limit: float, tiles: tuple[int, int]
) -> Iterator[tuple[slice, np.ndarray]]:
    """Equalises an [H, W] channel in [0, 1] tile by tile; yields strips of rows of the result, in order."""
    height, width = channel.shape
    down, right = _padding(channel.shape, tiles)
    curves = _tile_curves(channel, clip_limit, tiles).ravel()
    upper, lower, below = _neighbours(height, (height + down) // tiles[0], tiles[0])
    near, far, beside = _neighbours(width, (width + right) // tiles[1], tiles[1])
    for rows in batches.row_strips(height, width):
        index = _index(channel[rows], _TILE_FINE)
        blended = []
        for row_tile in (upper[rows, None], lower[rows, None]):
            first = curves[index + (row_tile * tiles[1] + near) * _TILE_FINE]
            second = curves[index + (row_tile * tiles[1] + far) * _TILE_FINE]
            blended.append(first + (second - first) * beside)
        yield rows, blended[0] + (blended[1] - blended[0]) * below[rows, None]


def _padding(shape: tuple[int, ...], tiles: tuple[int, int]) -> tuple[int, int]:
    """Returns the rows and columns that make tiles of one size; as OpenCV, on both sides as soon as one needs it."""
    rest = shape[0] % tiles[0], shape[1] % tiles[1]
    return (tiles[0] - rest[0], tiles[1] - rest[1]) if any(rest) else (0, 0)


def _tile_curves(channel: np.ndarray, clip_limit: float, tiles: tuple[int, int]) -> np.ndarray:
    """Returns the limited equalising curve of every tile, [rows * columns, _TILE_FINE] float32 in [0, 1]."""
    down, right = _padding(channel.shape, tiles)
    levels = cv2.copyMakeBorder(contracts.to_uint8(channel), 0, down, 0, right, cv2.BORDER_REFLECT_101)
    height, width = levels.shape[0] // tiles[0], levels.shape[1] // tiles[1]
    limit = max(1, int(clip_limit * height * width / BINS))
    curves = np.empty((tiles[0] * tiles[1], _TILE_FINE), np.float32)
    for tile in range(len(curves)):
        top, left = tile // tiles[1] * height, tile % tiles[1] * width
        block = np.ascontiguousarray(levels[top : top + height, left : left + width])
        counts = cv2.calcHist([block], [0], None, [BINS], [0, BINS]).ravel().astype(np.int64)
        excess = int(np.maximum(counts - limit, 0).sum())
        counts = np.minimum(counts, limit) + excess // BINS
        if rest := excess % BINS:
            step = max(1, BINS // rest)
            counts[: step * rest : step] += 1
        curves[tile] = _refine(np.cumsum(counts) * ((BINS - 1) / (height * width)), _TILE_FINE)
    return curves


def _neighbours(size: int, side: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns, for every position along a side, the tile centres before and after it and the share of the latter."""
    position = (np.arange(size) / side - 0.5).astype(np.float32)
    before = np.floor(position).astype(np.int32)
    return np.maximum(before, 0), np.minimum(before + 1, count - 1), position - before
