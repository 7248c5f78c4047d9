"""Image metrics in NumPy, SciPy and OpenCV. `METRICS` says what each number means; `measure` computes one by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tfllv.contracts import nearest_name
from tfllv.metrics.fidelity import gt_mean, luma, mae, psnr, psnr_y
from tfllv.metrics.naturalness import niqe
from tfllv.metrics.structure import gmsd, ssim

__all__ = ["METRICS", "Metric", "gmsd", "gt_mean", "luma", "mae", "measure", "niqe", "psnr", "psnr_y", "ssim"]


@dataclasses.dataclass(frozen=True)
class Metric:
    """What one column of a results table means.

    Attributes:
      name: the column's heading.
      unit: `dB`, or empty for a plain number.
      higher_is_better: the direction.
      range: lowest and highest value possible.
      protocol: exactly what is computed, for the text under the table.
      needs_reference: whether a truth is needed.
      function: (image, truth) -> float, or image -> float where no truth is needed.
    """

    name: str
    unit: str
    higher_is_better: bool
    range: tuple[float, float]
    protocol: str
    needs_reference: bool
    function: Callable[..., float]


_INFINITY = float("inf")
_WHOLE = "whole picture, both rounded to 256 levels, nothing resized"

METRICS: dict[str, Metric] = {
    "psnr": Metric(
        "PSNR",
        "dB",
        True,
        (0, _INFINITY),
        f"RGB, one mean squared error over all pixels and channels; {_WHOLE}; no mean matching.",
        True,
        lambda image, truth: psnr(image, truth, quantize=True),
    ),
    "psnr_y": Metric(
        "PSNR-Y",
        "dB",
        True,
        (0, _INFINITY),
        f"BT.601 luma, full range; {_WHOLE}; no mean matching.",
        True,
        lambda image, truth: psnr_y(image, truth, quantize=True),
    ),
    "ssim": Metric(
        "SSIM",
        "",
        True,
        (-1, 1),
        f"BT.601 luma rounded to 256 levels, Gaussian window 11x11, sigma 1.5, valid windows only; {_WHOLE}.",
        True,
        lambda image, truth: ssim(image, truth, quantize=True),
    ),
    "ssim_rgb": Metric(
        "SSIM-RGB",
        "",
        True,
        (-1, 1),
        f"mean over R, G and B, Gaussian window 11x11, sigma 1.5, valid windows only; {_WHOLE}.",
        True,
        lambda image, truth: ssim(image, truth, channels="rgb", quantize=True),
    ),
    "ssim_uniform": Metric(
        "SSIM 7x7",
        "",
        True,
        (-1, 1),
        f"mean over R, G and B, uniform window 7x7, sample variances (scikit-image's default); {_WHOLE}.",
        True,
        lambda image, truth: ssim(image, truth, window="uniform", channels="rgb", quantize=True),
    ),
    "gmsd": Metric(
        "GMSD",
        "",
        False,
        (0, _INFINITY),
        f"luma rounded to 256 levels, halved, Prewitt gradients, c = 170; {_WHOLE}.",
        True,
        lambda image, truth: gmsd(image, truth, quantize=True),
    ),
    "mae": Metric(
        "MAE",
        "",
        False,
        (0, 1),
        f"RGB, mean absolute error as a fraction of white; {_WHOLE}.",
        True,
        lambda image, truth: mae(image, truth, quantize=True),
    ),
    "niqe": Metric(
        "NIQE",
        "",
        False,
        (0, _INFINITY),
        "the original NIQE with its original pristine model, on BT.601 luma rounded to 256 levels; blocks of 96x96.",
        False,
        niqe,
    ),
}


def measure(name: str, image: np.ndarray, truth: np.ndarray | None = None) -> float:
    """Returns metric `name` by the protocol of `METRICS`.

    Args:
      name: a key of `METRICS`.
      image: [H, W, 3] uint8 or float in [0, 1].
      truth: the reference, of the same shape; needed where the metric needs one, ignored otherwise.

    Raises:
      ValueError: if the name is unknown, the truth is missing, or the metric refuses the images.
    """
    if name not in METRICS:
        raise ValueError(f"`name` must be a metric. Received: name='{name}'; {nearest_name(name, METRICS)}")
    metric = METRICS[name]
    if not metric.needs_reference:
        return metric.function(image)
    if truth is None:
        raise ValueError(f"`truth` must be given for {name}. Received: truth=None.")
    return metric.function(image, truth)
