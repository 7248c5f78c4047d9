"""Smoothing filters with reflected borders, on float32."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


class GaussianBlurs:
    """An image blurred with Gaussians of several widths; the wider, the cheaper.

    With half-sample reflected borders (d c b a | a b c d | d c b a) the cosine transform turns the convolution into a
    product with exp(-sigma ** 2 w ** 2 / 2), whose frequencies above w = 5 / sigma are below 4e-6 and left out. Few
    are left for a wide Gaussian, so thin matrix products do it all: the image is transformed once, and each blur is
    transformed back a strip of rows at a time, so that no blurred image need ever be held whole. Within 1e-5 of
    `scipy.ndimage.gaussian_filter(mode="reflect", truncate=6)` relative to the range, for `sigma` >= 2.

    Args:
      image: [H, W, C] float32.
      sigmas: standard deviations in pixels, each >= 1.

    Raises:
      ValueError: if a sigma is below 1.
    """

    def __init__(self, image: np.ndarray, sigmas: Sequence[float]):
        for sigma in sigmas:
            if not sigma >= 1:
                raise ValueError(f"`sigma` must be >= 1 pixel. Received: sigma={sigma}.")
        height, width, channels = image.shape
        self._shape = (width, channels)
        self._rows = _cosines(height, min(sigmas))
        columns = _cosines(width, min(sigmas))
        # [rows, channels, columns], flattened to plain products of two matrices: batches of thin ones are slow.
        spectrum = self._rows.T @ np.ascontiguousarray(image).reshape(height, width * channels)
        spectrum = spectrum.reshape(-1, width, channels).transpose(0, 2, 1).reshape(-1, width) @ columns
        self._half_blurred = []
        for sigma in sigmas:
            row_gain, column_gain = _gain(height, sigma), _gain(width, sigma)
            passed = spectrum[: channels * len(row_gain), : len(column_gain)] * column_gain
            passed *= np.repeat(row_gain, channels)[:, None]
            back = (passed @ columns[:, : len(column_gain)].T).reshape(-1, channels, width)
            self._half_blurred.append(back.transpose(0, 2, 1).reshape(len(row_gain), width * channels))

    def rows(self, strip: slice, index: int) -> np.ndarray:
        """Returns rows `strip` of the image blurred with `sigmas[index]`, [rows, W, C] float32."""
        half = self._half_blurred[index]
        return (self._rows[strip, : len(half)] @ half).reshape(-1, *self._shape)


def blur_gaussian(channel: np.ndarray, *, sigma: float) -> np.ndarray:
    """Blurs one [H, W] float32 channel as `GaussianBlurs` does. A flat channel stays flat, and the mean is kept."""
    return GaussianBlurs(channel[..., None], (sigma,)).rows(slice(None), 0)[..., 0]


def _cosines(size: int, sigma: float) -> np.ndarray:
    """Returns the orthonormal DCT-II vectors that pass a Gaussian, [size, count] float32."""
    frequency = np.pi * np.arange(_count(size, sigma)) / size
    basis = np.cos((np.arange(size)[:, None] + 0.5) * frequency) * np.sqrt(2 / size)
    basis[:, 0] = np.sqrt(1 / size)
    return basis.astype(np.float32)


def _gain(size: int, sigma: float) -> np.ndarray:
    """Returns what a Gaussian leaves of each of those vectors, [count] float32."""
    frequency = np.pi * np.arange(_count(size, sigma)) / size
    return np.exp(-0.5 * (sigma * frequency) ** 2).astype(np.float32)


def _count(size: int, sigma: float) -> int:
    return min(size, int(np.ceil(5 * size / (np.pi * sigma))) + 1)


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
