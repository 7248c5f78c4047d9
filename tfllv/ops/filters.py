"""Smoothing filters on one [H, W] float32 channel, with reflected borders."""

from __future__ import annotations

import cv2
import numpy as np


def blur_gaussian(channel: np.ndarray, *, sigma: float) -> np.ndarray:
    """Blurs a channel with a Gaussian of any width; the cost falls as `sigma` grows.

    With half-sample reflected borders (d c b a | a b c d | d c b a) the cosine transform turns the convolution into a
    product with exp(-sigma ** 2 w ** 2 / 2), whose frequencies above w = 5 / sigma are below 4e-6 and left out. Few
    are left for a wide Gaussian, so two thin matrix products a side do it all. Within 1e-4 of
    `scipy.ndimage.gaussian_filter(mode="reflect", truncate=6)` relative to the range, for `sigma` >= 1.

    Args:
      channel: [H, W] float32.
      sigma: standard deviation in pixels, >= 1.

    Returns:
      [H, W] float32. A flat channel stays flat, and the mean is kept.

    Raises:
      ValueError: if `sigma` is below 1.
    """
    if not sigma >= 1:
        raise ValueError(f"`sigma` must be >= 1 pixel. Received: sigma={sigma}.")
    rows, row_gain = _cosines(channel.shape[0], sigma)
    columns, column_gain = _cosines(channel.shape[1], sigma)
    spectrum = rows.T @ (channel @ columns)
    spectrum *= row_gain[:, None] * column_gain
    return (rows @ spectrum) @ columns.T


def _cosines(size: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the orthonormal DCT-II vectors [size, count] that pass the Gaussian, and its gain [count] at each."""
    count = min(size, int(np.ceil(5 * size / (np.pi * sigma))) + 1)
    frequency = np.pi * np.arange(count) / size
    basis = np.cos((np.arange(size)[:, None] + 0.5) * frequency) * np.sqrt(2 / size)
    basis[:, 0] = np.sqrt(1 / size)
    return basis.astype(np.float32), np.exp(-0.5 * (sigma * frequency) ** 2).astype(np.float32)


def fit_guided(guide: np.ndarray, target: np.ndarray, *, radius: int, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Fits target = slope * guide + offset in every window: the guided filter's coefficients.

    He, Sun and Tang 2013 (https://doi.org/10.1109/TPAMI.2012.213), Eqs. 5, 6 and 8. Enlarged and applied to a guide
    of full resolution they give the fast guided filter (He and Sun 2015, arXiv:1505.00996): a joint upsampling whose
    edges are those of the guide.

    Args:
      guide: [H, W] float32.
      target: [H, W] float32.
      radius: half side of the window in pixels, >= 1.
      epsilon: regularisation, > 0, in squared units of the guide: a smaller variance counts as flat.

    Returns:
      (slope, offset), each [H, W] float32, averaged over the windows that cover a pixel.
    """
    side = (2 * radius + 1, 2 * radius + 1)

    def mean(channel: np.ndarray) -> np.ndarray:
        return cv2.blur(channel, side, borderType=cv2.BORDER_REFLECT)

    mean_guide, mean_target = mean(guide), mean(target)
    # Centred first: the difference of two float32 means of squares would lose the variance of a bright flat window.
    centre = np.float32(guide.mean())
    shifted = guide - centre
    mean_shifted = mean_guide - centre
    variance = mean(shifted * shifted) - mean_shifted * mean_shifted
    covariance = mean(shifted * target) - mean_shifted * mean_target
    slope = covariance / (np.maximum(variance, 0) + np.float32(epsilon))
    return mean(slope), mean(mean_target - slope * mean_guide)
