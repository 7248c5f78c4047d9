"""Pixel errors between a picture and its truth: MAE and PSNR, on RGB or on luma, raw or with the mean level matched.

Results tables use `quantize=True`: PSNR on RGB, the whole picture, rounded to the 256 levels a saved file has.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tfllv import contracts

LUMA_RANGES = ("full", "studio")
# Numbers of a picture in work at once: float64 copies of 4 MB, which stay in the cache.
STRIP_VALUES = 2**19


def paired(
    a: np.ndarray, b: np.ndarray, max_value: float = 1.0, quantize: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Checks two images and returns them as float64 in [0, 1].

    Args:
      a: [H, W], [H, W, C] or [B, H, W, C], uint8 (divided by 255) or float in [0, `max_value`].
      b: an image of the same shape; it may be of the other type.
      max_value: the white level of float images; uint8 images carry their own.
      quantize: clip and round both to 256 levels first, as saving does.

    Raises:
      ValueError: if shapes differ, an image is empty, not finite, or far outside [0, max_value].
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise ValueError(f"`a` and `b` must have one shape; nothing is resized. Received: {a.shape} and {b.shape}.")
    return unit_range(a, "a", max_value, quantize), unit_range(b, "b", max_value, quantize)


def unit_range(image: np.ndarray, name: str, max_value: float, quantize: bool) -> np.ndarray:
    """Returns one image as float64 in [0, 1]; `name` is the argument's, for messages. See `paired`."""
    if not max_value > 0:
        raise ValueError(f"`max_value` must be > 0. Received: max_value={max_value}.")
    if image.ndim not in (2, 3, 4) or 0 in image.shape:
        raise ValueError(f"`{name}` must be [H, W], [H, W, C] or [B, H, W, C]. Received: shape={image.shape}.")
    if image.dtype == np.uint8:
        return image / 255.0
    if image.dtype.kind != "f":
        raise ValueError(f"`{name}` must be uint8 or float. Received: dtype={image.dtype}; divide it first.")
    scaled = image.astype(np.float64) / max_value
    if not np.isfinite(scaled).all():
        raise ValueError(f"`{name}` must be finite. Received: {int((~np.isfinite(scaled)).sum())} values that are not.")
    # A picture in [0, 255] scored as if in [0, 1] gains 48.13 dB unnoticed; a network's overshoot stays far below 2.
    if np.abs(scaled).max() > 2:
        raise ValueError(
            f"`{name}` must be in [0, max_value]. Received: values up to {float(np.abs(image).max()):g} with "
            f"max_value={max_value:g}; pass max_value=255 for images in [0, 255]."
        )
    return np.floor(np.clip(scaled, 0, 1) * 255 + 0.5) / 255 if quantize else scaled


def luma(image: np.ndarray, *, levels: str = "full") -> np.ndarray:
    """Returns the BT.601 luma of an RGB image.

    Args:
      image: [..., H, W, 3] float in [0, 1].
      levels: `full` is 0.299 R + 0.587 G + 0.114 B in [0, 1]; `studio` is MATLAB's rgb2ycbcr, in [16, 235] / 255,
        whose smaller span makes every PSNR 20 log10(255 / 219) = 1.32 dB higher.

    Returns:
      [..., H, W], float.
    """
    if levels not in LUMA_RANGES:
        raise ValueError(f"`levels` must be one of {', '.join(LUMA_RANGES)}. Received: levels='{levels}'.")
    if image.shape[-1] != 3 or image.ndim < 3:
        raise ValueError(f"`image` must be RGB, [..., H, W, 3]. Received: shape={image.shape}.")
    grey = image @ np.asarray(contracts.BT601_LUMA)
    return grey if levels == "full" else (16 + 219 * grey) / 255


def grey_or_same(image: np.ndarray, quantize: bool = False) -> np.ndarray:
    """Returns the full-range luma of an RGB image; an image without three channels passes through.

    With `quantize` the luma is rounded to 256 levels in integer arithmetic (ties go up on every machine), as MATLAB's
    rgb2gray does on uint8; `image` is then already on 256 levels.
    """
    if image.ndim < 3 or image.shape[-1] != 3:
        return image
    if not quantize:
        return luma(image)
    thousandths = np.rint(255 * image).astype(np.int64) @ np.array([299, 587, 114])
    return (thousandths + 500) // 1000 / 255


def mean_ratio(image: np.ndarray, reference: np.ndarray, *, max_value: float = 1.0, quantize: bool = False) -> float:
    """Returns the mean luma of `reference` over that of `image`, the factor of `gt_mean`; 1 where `image` is black."""
    sums = [0.0, 0.0]
    for x, y in strip_pairs(image, reference, max_value, quantize):
        sums[0] += float(grey_or_same(x).sum())
        sums[1] += float(grey_or_same(y).sum())
    return sums[1] / sums[0] if sums[0] > 0 else 1.0


def gt_mean(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Scales `image` so that its mean luma is the reference's, then clips: the "GT-mean" protocol.

    It forgives a wrong exposure, so its PSNR is higher than the raw one by several dB and the two must never share a
    column. First used in the KinD evaluation code (Zhang et al. 2019, arXiv:1905.04161).

    Args:
      image: [H, W, 3] or [H, W], uint8 or float in [0, 1].
      reference: the truth, of the same shape.

    Returns:
      float64 in [0, 1], same shape. A black `image` stays black.
    """
    scaled, _ = paired(image, reference)
    return np.clip(scaled * mean_ratio(image, reference), 0, 1)


def mae(a: np.ndarray, b: np.ndarray, *, max_value: float = 1.0, quantize: bool = False) -> float:
    """Returns the mean absolute error as a fraction of white, in [0, 1]; arguments as for `psnr`."""
    total = sum(float(np.abs(x - y).sum()) for x, y in strip_pairs(a, b, max_value, quantize))
    return total / np.size(a)


def psnr(
    a: np.ndarray, b: np.ndarray, *, max_value: float = 1.0, quantize: bool = False, match_mean: bool = False
) -> float:
    """Returns the peak signal-to-noise ratio, 10 log10(max_value^2 / MSE), over all pixels and channels together.

    Args:
      a: [H, W], [H, W, C] or [B, H, W, C], uint8 or float in [0, `max_value`].
      b: the truth, of the same shape.
      max_value: the white level of float images (uint8 images carry their own).
      quantize: round both to 256 levels first, as a saved file is; what results tables use.
      match_mean: scale `a` as `gt_mean` first (and round again, with `quantize`): another protocol, several dB more.

    Returns:
      dB; infinity where the images are equal.

    Raises:
      ValueError: if shapes differ or values are far outside [0, max_value]; nothing is resized.
    """
    ratio = mean_ratio(a, b, max_value=max_value, quantize=quantize) if match_mean else None
    total = 0.0
    for x, y in strip_pairs(a, b, max_value, quantize):
        total += float(np.square(_scaled(x, ratio, quantize) - y).sum())
    return _decibel(total / np.size(a))


def psnr_y(
    a: np.ndarray,
    b: np.ndarray,
    *,
    max_value: float = 1.0,
    quantize: bool = False,
    match_mean: bool = False,
    levels: str = "full",
) -> float:
    """Returns the PSNR of the BT.601 luma of two RGB images, in dB; `levels` as in `luma`, the rest as in `psnr`."""
    ratio = mean_ratio(a, b, max_value=max_value, quantize=quantize) if match_mean else None
    total, count = 0.0, 0
    for x, y in strip_pairs(a, b, max_value, quantize):
        error = luma(_scaled(x, ratio, quantize), levels=levels) - luma(y, levels=levels)
        total, count = total + float(np.square(error).sum()), count + error.size
    return _decibel(total / count)


def strip_pairs(
    a: np.ndarray, b: np.ndarray, max_value: float = 1.0, quantize: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields `paired` strips of rows (images, of a batch), so that a large picture is never held whole in float64."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or not a.ndim:
        paired(a, b, max_value)  # says what is wrong
    rows = max(1, STRIP_VALUES // max(1, int(np.prod(a.shape[1:]))))
    for top in range(0, max(1, len(a)), rows):
        yield paired(a[top : top + rows], b[top : top + rows], max_value, quantize)


def _scaled(image: np.ndarray, ratio: float | None, quantize: bool) -> np.ndarray:
    if ratio is None:
        return image
    scaled = np.clip(image * ratio, 0, 1)
    return np.floor(scaled * 255 + 0.5) / 255 if quantize else scaled


def _decibel(mean_square: float) -> float:
    return float("inf") if mean_square == 0 else float(-10 * np.log10(mean_square))
