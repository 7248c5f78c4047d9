"""Image metrics in NumPy, SciPy and OpenCV. `METRICS` says what each number means; `measure` computes one by name.

Pictures are worked through in strips of rows, so that one of 24 megapixels takes under 0.5 GB, not several.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Callable

import numpy as np

from tfllv.contracts import nearest_name
from tfllv.metrics.fidelity import gt_mean, luma, mae, psnr, psnr_y
from tfllv.metrics.naturalness import niqe
from tfllv.metrics.perceptual import lpips
from tfllv.metrics.structure import gmsd, ssim

__all__ = [
    "METRICS",
    "OPTIONAL",
    "Metric",
    "gmsd",
    "gt_mean",
    "installed",
    "lpips",
    "luma",
    "mae",
    "measure",
    "niqe",
    "psnr",
    "psnr_y",
    "ssim",
]


@dataclasses.dataclass(frozen=True)
class Metric:
    """What one column of a results table means.

    Attributes:
      name: the column's heading.
      variant: which of the kinds of the metric, in a few words; with `name` it tells all rows of a table apart.
      unit: `dB`, or empty for a plain number.
      higher_is_better: the direction.
      range: lowest and highest value possible.
      protocol: exactly what is computed, for the text under the table.
      needs_reference: whether a truth is needed.
      function: (image, truth) -> float, or image -> float where no truth is needed.
      module: what must be installed beside the package, or empty.
    """

    name: str
    variant: str
    unit: str
    higher_is_better: bool
    range: tuple[float, float]
    protocol: str
    needs_reference: bool
    function: Callable[..., float]
    module: str = ""


_INFINITY = float("inf")
_WHOLE = "whole picture, both rounded to 256 levels, nothing resized"
_RAW = "no mean matching"
_MATCHED = (
    "GT-mean: the picture is first scaled so that its mean BT.601 luma is the truth's, clipped and rounded again, "
    "which forgives a wrong exposure"
)
_LUMAS = {
    "full": "BT.601 luma, full range 0 ... 255, not rounded",
    "studio": "BT.601 luma in 16 ... 235, peak 255, not rounded, as MATLAB's rgb2ycbcr (1.32 dB above full range)",
}
_WINDOWS = {
    "gaussian": ("Gaussian 11x11", "Gaussian window 11x11, sigma 1.5, valid windows only"),
    "uniform": ("uniform 7x7", "uniform window 7x7, sample variances (scikit-image's default), valid windows only"),
}
_CHANNELS = {
    "grey": ("grey", "BT.601 luma rounded to 256 levels"),
    "rgb": ("per channel", "mean over R, G and B"),
}


def _psnr(match_mean: bool) -> Metric:
    matching = _MATCHED if match_mean else _RAW
    return Metric(
        "PSNR",
        "RGB, GT-mean" if match_mean else "RGB, raw",
        "dB",
        True,
        (0, _INFINITY),
        f"RGB, one mean squared error over all pixels and channels; {_WHOLE}; {matching}.",
        True,
        functools.partial(psnr, quantize=True, match_mean=match_mean),
    )


def _psnr_y(levels: str, match_mean: bool) -> Metric:
    return Metric(
        "PSNR-Y",
        f"Y {levels} range, {'GT-mean' if match_mean else 'raw'}",
        "dB",
        True,
        (0, _INFINITY),
        f"{_LUMAS[levels]}; {_WHOLE}; {_MATCHED if match_mean else _RAW}.",
        True,
        functools.partial(psnr_y, quantize=True, match_mean=match_mean, levels=levels),
    )


def _ssim(name: str, window: str, channels: str) -> Metric:
    return Metric(
        name,
        f"{_WINDOWS[window][0]}, {_CHANNELS[channels][0]}",
        "",
        True,
        (-1, 1),
        f"{_CHANNELS[channels][1]}, {_WINDOWS[window][1]}; {_WHOLE}; {_RAW}.",
        True,
        functools.partial(ssim, window=window, channels=channels, quantize=True),
    )


METRICS: dict[str, Metric] = {
    "psnr": _psnr(False),
    "psnr_gt_mean": _psnr(True),
    "psnr_y": _psnr_y("full", False),
    "psnr_y_gt_mean": _psnr_y("full", True),
    "psnr_y_studio": _psnr_y("studio", False),
    "psnr_y_studio_gt_mean": _psnr_y("studio", True),
    "ssim": _ssim("SSIM", "gaussian", "grey"),
    "ssim_rgb": _ssim("SSIM-RGB", "gaussian", "rgb"),
    "ssim_uniform_grey": _ssim("SSIM 7x7 grey", "uniform", "grey"),
    "ssim_uniform": _ssim("SSIM 7x7", "uniform", "rgb"),
    "gmsd": Metric(
        "GMSD",
        "luma",
        "",
        False,
        (0, _INFINITY),
        f"luma rounded to 256 levels, halved, Prewitt gradients, c = 170; {_WHOLE}.",
        True,
        functools.partial(gmsd, quantize=True),
    ),
    "mae": Metric(
        "MAE",
        "RGB, raw",
        "",
        False,
        (0, 1),
        f"RGB, mean absolute error as a fraction of white; {_WHOLE}; {_RAW}.",
        True,
        functools.partial(mae, quantize=True),
    ),
    "niqe": Metric(
        "NIQE",
        "original",
        "",
        False,
        (0, _INFINITY),
        "the original NIQE with its original pristine model, on BT.601 luma rounded to 256 levels; blocks of 96x96.",
        False,
        niqe,
    ),
}

# Metrics that need packages beyond the project's own; `installed` tells whether they are there.
OPTIONAL: dict[str, Metric] = {
    "lpips": Metric(
        "LPIPS",
        "AlexNet 0.1",
        "",
        False,
        (0, _INFINITY),
        f"the authors' package lpips, AlexNet, version 0.1, without spatial weighting; {_WHOLE}; {_RAW}.",
        True,
        lpips,
        "lpips",
    ),
}


def installed(name: str) -> bool:
    """Whether what metric `name` needs is installed; true for all of `METRICS`."""
    return name in METRICS or (name in OPTIONAL and importlib.util.find_spec(OPTIONAL[name].module) is not None)


def measure(name: str, image: np.ndarray, truth: np.ndarray | None = None) -> float:
    """Returns metric `name` by the protocol of `METRICS`.

    Args:
      name: a key of `METRICS` or `OPTIONAL`.
      image: [H, W, 3] uint8 or float in [0, 1].
      truth: the reference, of the same shape; needed where the metric needs one, ignored otherwise.

    Raises:
      ValueError: if the name is unknown, the truth is missing, or the metric refuses the images.
      ImportError: if an optional metric's package is not installed.
    """
    table = {**METRICS, **OPTIONAL}
    if name not in table:
        raise ValueError(f"`name` must be a metric. Received: name='{name}'; {nearest_name(name, table)}")
    metric = table[name]
    if not metric.needs_reference:
        return metric.function(image)
    if truth is None:
        raise ValueError(f"`truth` must be given for {name}. Received: truth=None.")
    return metric.function(image, truth)
