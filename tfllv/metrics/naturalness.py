"""NIQE: naturalness of a picture without a truth, by the original method with its original pristine model.

The figures of the pristine model (`niqe_pristine.npz`: mean 36, covariance 36 x 36, window 7 x 7) are those of the
original release by Mittal, Soundararajan and Bovik, Laboratory for Image and Video Engineering, University of Texas at
Austin, trained there on 125 pristine photographs. MATLAB's toolbox ships other figures and gives other values.
"""

from __future__ import annotations

import functools
import pathlib

import cv2
import numpy as np
from scipy import special

from tfllv.metrics import fidelity

BLOCK = 96
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))


@functools.cache
def _pristine() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.load(pathlib.Path(__file__).with_name("niqe_pristine.npz")) as figures:
        return figures["mu_pris_param"].ravel(), figures["cov_pris_param"], figures["gaussian_window"]


@functools.cache
def _shape_table() -> tuple[np.ndarray, np.ndarray]:
    """Returns the shapes 0.2 ... 10 and rho(shape) = G(2/s)^2 / (G(1/s) G(3/s)) of the generalised Gaussian."""
    shape = np.arange(200, 10001) / 1000
    return shape, np.exp(2 * special.gammaln(2 / shape) - special.gammaln(1 / shape) - special.gammaln(3 / shape))


def niqe(image: np.ndarray, *, max_value: float = 1.0) -> float:
    """Returns the natural image quality evaluator of one image; lower is more natural.

    Implements Mittal et al. 2013 (doi:10.1109/LSP.2012.2227726), as the original release: 36 features of blocks of
    96x96 at two scales, the distance of their Gaussian model from the pristine one's (Eq. 10). Blocks that do not fit
    are cut off at the right and below. Blocks without texture have no model and are left out.

    Args:
      image: [H, W] or [H, W, 3], uint8 or float in [0, `max_value`]. It is rounded to 256 grey levels first (MATLAB's
        rgb2gray on uint8), so a float image scores as the file saved from it would.
      max_value: the white level of a float image.

    Returns:
      A number >= 0; photographs are mostly in 2 ... 8.

    Raises:
      ValueError: if the image has fewer than two blocks of 96x96, or fewer than two with texture.
    """
    image = np.asarray(image)
    if image.ndim == 4:
        raise ValueError(f"`image` must be one image, not a batch. Received: shape={image.shape}.")
    if image.ndim not in (2, 3) or 0 in image.shape:
        fidelity.unit_range(image, "image", max_value, quantize=True)  # says what is wrong
    rows, columns = image.shape[0] // BLOCK, image.shape[1] // BLOCK
    if rows * columns < 2:
        raise ValueError(
            f"NIQE needs at least two blocks of {BLOCK}x{BLOCK} pixels. Received: {image.shape[1]}x{image.shape[0]}."
        )
    grey = np.concatenate([_grey_levels(image[y : y + BLOCK], max_value) for y in range(0, rows * BLOCK, BLOCK)])
    grey = np.ascontiguousarray(grey[:, : columns * BLOCK])
    features = np.concatenate([_features(grey, BLOCK), _features(_halve(grey), BLOCK // 2)], axis=1)
    textured = features[np.isfinite(features).all(axis=1)]
    if len(textured) < 2:
        raise ValueError(f"NIQE needs at least two blocks with texture. Received: {len(textured)} of {rows * columns}.")
    mean, covariance, _ = _pristine()
    difference = mean - textured.mean(axis=0)
    pooled = (covariance + np.cov(textured, rowvar=False)) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(pooled) @ difference))


def _grey_levels(image: np.ndarray, max_value: float) -> np.ndarray:
    """Returns the luma of rows of an image on 256 levels, 0 ... 255: [H, W] float64."""
    image = fidelity.unit_range(image, "image", max_value, quantize=True)
    return np.rint(255 * fidelity.grey_or_same(image, quantize=True).reshape(image.shape[:2]))


def _features(grey: np.ndarray, block: int) -> np.ndarray:
    """Returns the 18 features of each block: [blocks, 18]; NaN where a block has no texture."""
    margin = _pristine()[2].shape[0] // 2
    features = []
    for top in range(0, len(grey), block):
        first = max(top - margin, 0)
        row = _contrast(grey[first : top + block + margin])[top - first :][:block]
        features.append(_row_features(row.reshape(block, -1, block).swapaxes(0, 1)))
    return np.concatenate(features)


def _contrast(grey: np.ndarray) -> np.ndarray:
    """Returns the image less its local mean, over its local deviation (Eq. 1, C = 1)."""
    window = _pristine()[2]
    mean = cv2.filter2D(grey, cv2.CV_64F, window, borderType=cv2.BORDER_REPLICATE)
    square = cv2.filter2D(grey * grey, cv2.CV_64F, window, borderType=cv2.BORDER_REPLICATE)
    return (grey - mean) / (np.sqrt(np.abs(square - mean * mean)) + 1)


def _row_features(blocks: np.ndarray) -> np.ndarray:
    shape, left, right = _asymmetric_gaussian(blocks)
    features = [shape, (left + right) / 2]
    for shift in _SHIFTS:
        shape, left, right = _asymmetric_gaussian(blocks * np.roll(blocks, shift, axis=(1, 2)))
        with np.errstate(divide="ignore", invalid="ignore"):
            centre = (right - left) * np.exp(special.gammaln(2 / shape) - special.gammaln(1 / shape))
        features += [shape, centre, left, right]
    return np.stack(features, axis=1)


def _asymmetric_gaussian(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits an asymmetric generalised Gaussian to each block by moments: shape, left scale, right scale."""
    values = blocks.reshape(len(blocks), -1)
    # Rounding leaves about 1e-13 where a block is flat; counted as texture it would give meaningless shapes.
    values = np.where(np.abs(values) < 1e-9, 0, values)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.sqrt(np.square(np.minimum(values, 0)).sum(axis=1) / (values < 0).sum(axis=1))
        right = np.sqrt(np.square(np.maximum(values, 0)).sum(axis=1) / (values > 0).sum(axis=1))
        ratio = left / right
        moment = np.square(np.abs(values).mean(axis=1)) / np.square(values).mean(axis=1)
        target = moment * (ratio**3 + 1) * (ratio + 1) / np.square(ratio**2 + 1)
    shapes, table = _shape_table()
    after = np.clip(np.searchsorted(table, target), 1, len(table) - 1)
    nearest = np.where(np.abs(table[after] - target) < np.abs(table[after - 1] - target), after, after - 1)
    shape = np.where(np.isfinite(target), shapes[nearest], np.nan)
    scale = np.exp((special.gammaln(1 / shape) - special.gammaln(3 / shape)) / 2)
    return shape, left * scale, right * scale


def _halve(grey: np.ndarray) -> np.ndarray:
    """Halves an image of even sides by the cubic kernel (a = -0.5) stretched to 8 taps, as MATLAB's imresize."""
    distance = np.abs(np.arange(8) - 3.5) / 2
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    taps = np.where(distance <= 1, near, far)
    # Output k is centred between pixels 2k and 2k + 1 and spans 2k - 3 ... 2k + 4: anchor 3, every second pixel.
    kernel = taps / taps.sum()
    full = cv2.sepFilter2D(grey, cv2.CV_64F, kernel, kernel, anchor=(3, 3), borderType=cv2.BORDER_REFLECT)
    return np.ascontiguousarray(full[::2, ::2])
