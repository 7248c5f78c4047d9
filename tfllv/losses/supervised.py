"""Losses that compare a restored picture with its truth.

Pictures are float32 [B, H, W, C], about [0, 1]; every loss is a scalar, unweighted. All but `log_mse` are at least 0,
and 0 where the pictures are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

CHARBONNIER_EPSILON = 1e-3
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5


def charbonnier(prediction: Any, truth: Any, *, epsilon: float = CHARBONNIER_EPSILON) -> Any:
    """Returns the mean of sqrt(d^2 + epsilon^2) - epsilon: the absolute error, smooth at 0.

    Eq. 8 of MIRNet (Zamir et al., ECCV 2020, arXiv:2003.06792), less its constant: so perfection is 0, and no gradient
    changes.

    Args:
      prediction: [B, H, W, C].
      truth: [B, H, W, C].
      epsilon: where the absolute value is rounded off, > 0.

    Raises:
      ValueError: if the shapes differ or `epsilon` is not above 0.
    """
    if not epsilon > 0:
        raise ValueError(f"`epsilon` must be > 0. Received: epsilon={epsilon}.")
    difference = _difference(prediction, truth)
    return ops.mean(ops.sqrt(ops.square(difference) + epsilon**2)) - epsilon


def l1(prediction: Any, truth: Any) -> Any:
    """Returns the mean absolute error."""
    return ops.mean(ops.abs(_difference(prediction, truth)))


def mse(prediction: Any, truth: Any) -> Any:
    """Returns the mean squared error."""
    return ops.mean(ops.square(_difference(prediction, truth)))


def log_mse(prediction: Any, truth: Any, *, epsilon: float = 1e-8) -> Any:
    """Returns 10 log10(mean squared error + epsilon) of each picture, averaged: minus the mean PSNR in dB.

    What a table of mean PSNR asks for, so that a hard picture weighs no more than an easy one (HINet, Chen et al.,
    CVPRW 2021, arXiv:2105.06086). Between -10 log10(1 / epsilon) and about 0.

    Args:
      prediction: [B, H, W, C].
      truth: [B, H, W, C].
      epsilon: keeps the gradient finite at perfection.
    """
    errors = ops.mean(ops.square(_difference(prediction, truth)), axis=(1, 2, 3))
    return ops.mean(ops.log(errors + epsilon)) * (10 / np.log(10))


def ssim(prediction: Any, truth: Any) -> Any:
    """Returns 1 - the structural similarity, averaged over channels and over the windows inside the picture.

    Eq. 13 of Wang et al. 2004 (doi:10.1109/TIP.2003.819861): a Gaussian window of 11 x 11, sigma 1.5, K1 = 0.01,
    K2 = 0.03, white 1. In [0, 2]. `tfllv.metrics.structure.ssim` is the metric.

    Args:
      prediction: [B, H, W, C], sides at least 11.
      truth: [B, H, W, C].

    Raises:
      ValueError: if the shapes differ or a side is shorter than the window.
    """
    _difference(prediction, truth)
    if any(side is not None and side < SSIM_WINDOW for side in prediction.shape[1:3]):
        raise ValueError(f"`prediction` must have sides >= {SSIM_WINDOW}. Received: shape={tuple(prediction.shape)}.")
    a, b = ops.cast(prediction, "float32"), ops.cast(truth, "float32")
    planes = _average(ops.concatenate([a, b, a * a, b * b, a * b], axis=-1))
    mean_a, mean_b, square_a, square_b, product = ops.split(planes, 5, axis=-1)
    c1, c2 = 0.01**2, 0.03**2
    score = (2 * mean_a * mean_b + c1) * (2 * (product - mean_a * mean_b) + c2)
    score = score / ((mean_a**2 + mean_b**2 + c1) * (square_a - mean_a**2 + square_b - mean_b**2 + c2))
    return 1 - ops.mean(score)


def perceptual(prediction: Sequence[Any], truth: Sequence[Any]) -> Any:
    """Returns the mean absolute difference of features, averaged over layers (Johnson et al. 2016, arXiv:1603.08155).

    Each layer is divided by the mean size of the truth's features, so that none outweighs the others.

    Args:
      prediction: features of the restored picture, [B, H, W, C] of each layer, as `tfllv.models.vgg.VGG16` gives.
      truth: those of the truth.

    Raises:
      ValueError: if the numbers of layers differ or are 0.
    """
    if len(prediction) != len(truth) or not prediction:
        raise ValueError(f"`prediction` must have the layers of `truth`. Received: {len(prediction)}, {len(truth)}.")
    terms = [ops.mean(ops.abs(a - b)) / (ops.mean(ops.abs(b)) + 1e-6) for a, b in zip(prediction, truth, strict=True)]
    return sum(terms) / len(terms)


def _difference(prediction: Any, truth: Any) -> Any:
    """Returns prediction - truth, of Keras's float type; shapes must agree, for broadcasting would hide a mistake."""
    if len(prediction.shape) != 4 or len(truth.shape) != 4:
        raise ValueError(
            "`prediction` and `truth` must be [B, H, W, C]. "
            f"Received: prediction.shape={tuple(prediction.shape)}, truth.shape={tuple(truth.shape)}."
        )
    if any(None not in sides and sides[0] != sides[1] for sides in zip(prediction.shape, truth.shape, strict=True)):
        raise ValueError(
            "`truth` must have the shape of `prediction`. "
            f"Received: prediction.shape={tuple(prediction.shape)}, truth.shape={tuple(truth.shape)}."
        )
    return ops.cast(prediction, keras.config.floatx()) - ops.cast(truth, keras.config.floatx())


def _average(planes: Any) -> Any:
    """Applies the Gaussian window to every channel, where it lies wholly inside: rows, then columns."""
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    taps = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    taps = np.tile((taps / taps.sum()).astype(np.float32)[:, None, None, None], (1, 1, planes.shape[-1], 1))
    for kernel in (taps, taps.transpose(1, 0, 2, 3)):
        planes = ops.depthwise_conv(planes, kernel, padding="valid", data_format="channels_last")
    return planes
