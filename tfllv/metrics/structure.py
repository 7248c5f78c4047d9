"""Structural similarity to a truth: SSIM in its two common windows, and GMSD."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from tfllv.metrics import fidelity

WINDOWS = ("gaussian", "uniform")
CHANNELS = ("grey", "rgb")


def ssim(
    a: np.ndarray,
    b: np.ndarray,
    *,
    window: str = "gaussian",
    channels: str = "grey",
    max_value: float = 1.0,
    quantize: bool = False,
) -> float:
    """Returns the mean structural similarity of two images.

    Implements Eq. 13 of Wang et al. 2004 (doi:10.1109/TIP.2003.819861) with K1 = 0.01 and K2 = 0.03, at full
    resolution, over the windows that lie wholly inside the image ("valid").

    Args:
      a: [H, W], [H, W, 1] or [H, W, 3], uint8 or float in [0, `max_value`].
      b: the truth, of the same shape.
      window: `gaussian` is 11x11, sigma 1.5, with weighted (biased) variances, as the paper; `uniform` is 7x7 with
        sample (N - 1) variances, scikit-image's default.
      channels: `grey` scores the BT.601 luma; `rgb` averages the scores of the channels.
      max_value: the white level of float images.
      quantize: round both to 256 levels first, and the luma too.

    Returns:
      A number in [-1, 1]; 1 where the images are equal.

    Raises:
      ValueError: if an option is unknown, shapes differ, or the image is smaller than the window.
    """
    if window not in WINDOWS:
        raise ValueError(f"`window` must be one of {', '.join(WINDOWS)}. Received: window='{window}'.")
    if channels not in CHANNELS:
        raise ValueError(f"`channels` must be one of {', '.join(CHANNELS)}. Received: channels='{channels}'.")
    a, b = np.asarray(a), np.asarray(b)
    size = 11 if window == "gaussian" else 7
    if a.ndim not in (2, 3) or min(a.shape[:2]) < size or a.shape != b.shape:
        fidelity.paired(a, b, max_value)  # says what is wrong with the pair
        raise ValueError(f"`a` must be one image of at least {size}x{size} pixels. Received: shape={a.shape}.")
    total, count = 0.0, 0
    for rows in _strips(a.shape, size - 1):
        x, y = fidelity.paired(a[rows], b[rows], max_value, quantize)
        if channels == "grey":
            x, y = fidelity.grey_or_same(x, quantize), fidelity.grey_or_same(y, quantize)
        planes = [(x, y)] if x.ndim == 2 else [(x[..., c], y[..., c]) for c in range(x.shape[2])]
        for plane in planes:
            score = _ssim_map(*plane, window, size)
            total, count = total + float(score.sum()), count + score.size
    return total / count


def _strips(shape: tuple[int, ...], halo: int) -> Iterator[slice]:
    """Yields slices of rows that overlap by `halo`, so that each window of `halo` + 1 rows is whole in one of them."""
    rows = max(1, fidelity.STRIP_VALUES // int(np.prod(shape[1:])))
    for top in range(0, shape[0] - halo, rows):
        yield slice(top, min(top + rows + halo, shape[0]))


def _ssim_map(a: np.ndarray, b: np.ndarray, window: str, size: int) -> np.ndarray:
    """Returns the similarity at every window that lies wholly inside: [H - size + 1, W - size + 1]."""
    kernel = cv2.getGaussianKernel(size, 1.5, cv2.CV_64F) if window == "gaussian" else np.full((size, 1), 1 / size)
    inside = (slice(size // 2, -(size // 2)),) * 2

    def average(plane: np.ndarray) -> np.ndarray:
        return cv2.sepFilter2D(np.ascontiguousarray(plane), cv2.CV_64F, kernel, kernel)[inside]

    mean_a, mean_b = average(a), average(b)
    unbias = 1.0 if window == "gaussian" else size**2 / (size**2 - 1)
    variances = unbias * (average(a * a) - mean_a**2 + average(b * b) - mean_b**2)
    covariance = unbias * (average(a * b) - mean_a * mean_b)
    c1, c2 = 0.01**2, 0.03**2
    score = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    score /= (mean_a**2 + mean_b**2 + c1) * (variances + c2)
    return score


def gmsd(a: np.ndarray, b: np.ndarray, *, max_value: float = 1.0, quantize: bool = False) -> float:
    """Returns the gradient magnitude similarity deviation of two images.

    Implements Eqs. 1-6 of Xue et al. 2014 (doi:10.1109/TIP.2013.2293423): Prewitt gradients of the luma, averaged 2x2
    and halved, c = 170 in levels of 255, and the sample standard deviation of the similarity map, as the authors' code.

    Args:
      a: [H, W], [H, W, 1] or [H, W, 3], uint8 or float in [0, `max_value`], at least 4x4.
      b: the truth, of the same shape.
      max_value: the white level of float images.
      quantize: round both to 256 levels first, and the luma too.

    Returns:
      A number in [0, about 0.35]; 0 where the images are equal.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim not in (2, 3) or min(a.shape[:2]) < 4 or a.shape != b.shape:
        fidelity.paired(a, b, max_value)  # says what is wrong with the pair
        raise ValueError(f"`a` must be one image of at least 4x4 pixels. Received: shape={a.shape}.")
    halves = -(-a.shape[0] // 2)  # rows of the halved image
    rows = max(1, fidelity.STRIP_VALUES // (2 * int(np.prod(a.shape[1:]))))
    similarity = []
    for top in range(0, halves, rows):
        # One halved row more on either side for the gradients; at the border of the image there is none, but zeros.
        first, bottom = max(top - 1, 0), min(top + rows, halves)
        strips = fidelity.paired(a[2 * first : 2 * (bottom + 1)], b[2 * first : 2 * (bottom + 1)], max_value, quantize)
        gradient_a, gradient_b = (
            _gradient(255 * fidelity.grey_or_same(x, quantize).reshape(x.shape[:2]))[top - first :][: bottom - top]
            for x in strips
        )
        similarity.append((2 * gradient_a * gradient_b + 170) / (gradient_a**2 + gradient_b**2 + 170))
    return float(np.concatenate(similarity).std(ddof=1))


def _gradient(grey: np.ndarray) -> np.ndarray:
    """Returns the Prewitt gradient magnitude of the image halved in size; zeros lie beyond the border."""
    average = np.full((2, 2), 0.25)
    # The anchor makes pixel (y, x) the mean of (y, x) ... (y + 1, x + 1), as MATLAB's conv2(..., "same") does.
    halved = cv2.filter2D(grey, cv2.CV_64F, average, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)[::2, ::2]
    across = np.array([[1.0, 0, -1]] * 3) / 3
    gx, gy = (
        cv2.filter2D(np.ascontiguousarray(halved), cv2.CV_64F, k, borderType=cv2.BORDER_CONSTANT)
        for k in (across, across.T)
    )
    return np.hypot(gx, gy)
