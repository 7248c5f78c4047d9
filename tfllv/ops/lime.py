"""LIME: low-light enhancement by a refined illumination map."""

from __future__ import annotations

import math

import cv2
import numpy as np

from tfllv.ops import batches, color, filters, smoothing


@batches.per_image
def apply_lime(
    image: np.ndarray,
    *,
    alpha: float = 0.15,
    gamma: float = 0.8,
    sigma: float = 2.0,
    epsilon: float = 0.01,
    floor: float = 0.05,
    max_pixels: int = 2**20,
) -> np.ndarray:
    """Divides an image by its illumination map: R = L / T ** gamma.

    LIME (Guo, Li and Ling 2017, https://doi.org/10.1109/TIP.2016.2639450), Eq. 3 with the refined map of
    `estimate_illumination`; alpha, gamma and sigma as in the paper. Nothing is stretched to the range of the result,
    so one bright pixel changes its own neighbourhood only. The paper's denoising (BM3D, Section III-D) is left out.

    Args:
      image: [H, W, 3] or [B, H, W, 3], float32 in [0, 1] (values outside are clipped) or uint8.
      alpha: weight of the smoothness of T, >= 0; 0 leaves the maximum of the channels as it is.
      gamma: exponent on T, in [0, 1]; 0 leaves the image as it is, 1 makes all of it fully lit.
      sigma: standard deviation in pixels of the window that tells structure from texture, > 0.
      epsilon: gradient below which a step of T is no structure, > 0. The paper says "very small"; the default is 2.5
        levels of 255, so that the rounding and noise of a dark 8-bit picture are not taken for structure.
      floor: lowest T, in (0, 1]: caps the gain, and with it the noise, at floor ** -gamma (11 times).
      max_pixels: number of pixels, >= 1, above which T is solved on a reduced grid, see `estimate_illumination`.

    Returns:
      float32 of the same shape in [0, 1], nowhere darker than the input. Black stays black and white stays white.

    Raises:
      ValueError: if an option is out of range, or by `contracts.check_image`.
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"`gamma` must be in [0, 1]. Received: gamma={gamma}.")
    if not 0 < floor <= 1:
        raise ValueError(f"`floor` must be above 0 and at most 1. Received: floor={floor}.")
    gain = estimate_illumination(image, alpha=alpha, sigma=sigma, epsilon=epsilon, max_pixels=max_pixels)
    np.clip(gain, floor, 1, out=gain)
    cv2.pow(gain, -gamma, dst=gain)
    result = np.empty_like(image)
    for rows in batches.row_strips(*gain.shape):
        np.multiply(image[rows], gain[rows][..., None], out=result[rows])
        np.minimum(result[rows], 1, out=result[rows])
    return result


def estimate_illumination(
    image: np.ndarray, *, alpha: float = 0.15, sigma: float = 2.0, epsilon: float = 0.01, max_pixels: int = 2**20
) -> np.ndarray:
    """Estimates the illumination map: the largest channel, refined so that it is smooth but for the structure.

    LIME's sped-up solver (Eq. 19) with the weights of strategy III (Eqs. 20 and 21). A picture of more than
    `max_pixels` is solved at about that size, and the map is enlarged by the guided filter with the full-size maximum
    of the channels as guide, so that its edges are those of the picture. Memory and time then stay near those of
    `max_pixels`, and the look no longer depends on the resolution.

    Args:
      image: [H, W, 3] float32 in [0, 1].
      alpha: weight of the smoothness, >= 0.
      sigma: standard deviation of the window in pixels, > 0.
      epsilon: gradient below which a step is no structure, > 0.
      max_pixels: largest number of pixels that is solved for, >= 1.

    Returns:
      [H, W] float32, in [0, 1] up to the solver's tolerance.

    Raises:
      ValueError: if an option is out of range.
    """
    if not 0 <= alpha < math.inf:
        raise ValueError(f"`alpha` must be finite and >= 0. Received: alpha={alpha}.")
    if not 0 < sigma < math.inf or not 0 < epsilon < math.inf:
        raise ValueError(f"`sigma` and `epsilon` must be > 0. Received: sigma={sigma}, epsilon={epsilon}.")
    if max_pixels < 1:
        raise ValueError(f"`max_pixels` must be >= 1. Received: max_pixels={max_pixels}.")
    initial = color.channel_max(image)
    if initial.size <= max_pixels:
        return _refine(initial, alpha, sigma, epsilon)
    height, width = initial.shape
    scale = math.sqrt(max_pixels / initial.size)
    small = cv2.resize(initial, _at_least_one(width * scale, height * scale), interpolation=cv2.INTER_AREA)
    refined = _refine(small, alpha, sigma, epsilon)
    slope, offset = filters.fit_guided(small, refined, radius=2, epsilon=1e-4)
    initial *= cv2.resize(slope, (width, height), interpolation=cv2.INTER_LINEAR)
    initial += cv2.resize(offset, (width, height), interpolation=cv2.INTER_LINEAR)
    return initial


def structure_weights(initial: np.ndarray, *, axis: int, sigma: float, epsilon: float) -> np.ndarray:
    """Returns W / (|dT| + epsilon) of LIME's Eq. 19, with W of strategy III, for the differences along one axis.

    Strategy III (Eqs. 20 and 21) is W = sum G / (|sum G dT| + epsilon) over a Gaussian window G: the steps of texture
    and noise cancel in the sum and are smoothed, those of an edge of the illumination add up and are kept.

    Args:
      initial: [H, W] float32.
      axis: 0 for vertical and 1 for horizontal neighbours.
      sigma: standard deviation of G in pixels, > 0. Borders are reflected, and G sums to 1 everywhere.
      epsilon: > 0.

    Returns:
      float32, as `initial` but one shorter along `axis`; in (0, 1 / epsilon ** 2].
    """
    step = np.diff(initial, axis=axis)
    if step.size == 0:
        return step
    trend = cv2.GaussianBlur(step, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    small = np.float32(epsilon)
    return 1 / ((np.abs(trend) + small) * (np.abs(step) + small))


def _refine(initial: np.ndarray, alpha: float, sigma: float, epsilon: float) -> np.ndarray:
    weight_x = np.float32(alpha) * structure_weights(initial, axis=1, sigma=sigma, epsilon=epsilon)
    weight_y = np.float32(alpha) * structure_weights(initial, axis=0, sigma=sigma, epsilon=epsilon)
    return smoothing.solve_least_squares(initial, weight_x, weight_y)


def _at_least_one(width: float, height: float) -> tuple[int, int]:
    return max(1, round(width)), max(1, round(height))
