"""Single- and multi-scale Retinex: the log ratio of a picture to its blurred self, stretched to [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfllv.ops import batches, color, filters

# Percentiles are read from at most about this many pixels, on a regular grid: a 24-megapixel sort would cost seconds.
SAMPLES = 2**18


@batches.per_image
def apply_ssr(
    image: np.ndarray,
    *,
    sigma: float = 15.0,
    clip: tuple[float, float] = (5.0, 0.1),
    chromaticity: float = 0.5,
    reference: bool = False,
) -> np.ndarray:
    """Applies single-scale Retinex: log(I + 1) - log(G * (I + 1)), I in levels of 255, then a contrast stretch.

    Jobson, Rahman and Woodell 1997 (https://doi.org/10.1109/83.557356), Eq. 1. What differs from the usual code, which
    stretches from the smallest to the largest value of the three channels: the stretch goes from one percentile to
    another, so that a single bright or dead pixel does not wash the picture out, and a share of the picture's own
    colours is kept (`chromaticity`), where Retinex alone turns a large patch of one colour grey.

    Args:
      image: [H, W, 3] or [B, H, W, 3], float32 in [0, 1] (values outside are clipped) or uint8.
      sigma: standard deviation of the surround G in pixels, >= 1. Borders are reflected.
      clip: percent of the values that become 0, and that become 1, each in [0, 50).
      chromaticity: 0 treats every channel alone, as in the paper; 1 treats the intensity (R + G + B) / 3 alone and
        scales the three channels with it, as in MSRCP (Petro, Sbert and Morel 2014,
        https://doi.org/10.5201/ipol.2014.107); between them the two pictures are averaged.
      reference: the paper's channels and the min-max stretch: `clip=(0, 0), chromaticity=0`.

    Returns:
      float32 of the same shape in [0, 1]. An image whose every channel is flat is returned as it came: there is no
      contrast to stretch.

    Raises:
      ValueError: if an option is out of range, or by `contracts.check_image`.
    """
    return _apply(image, (sigma,), (0, 0) if reference else clip, 0 if reference else chromaticity)


@batches.per_image
def apply_msr(
    image: np.ndarray,
    *,
    sigmas: Sequence[float] = (15.0, 80.0, 250.0),
    clip: tuple[float, float] = (5.0, 0.1),
    chromaticity: float = 0.5,
    reference: bool = False,
) -> np.ndarray:
    """Applies multi-scale Retinex: the mean of single-scale Retinex over `sigmas`, then a contrast stretch.

    Jobson, Rahman and Woodell 1997 (https://doi.org/10.1109/83.597272), Eq. 2 with equal weights. The stretch and the
    colours are those of `apply_ssr`, and so are all arguments but `sigmas`. The stretch comes once, after the mean.

    Args:
      image: [H, W, 3] or [B, H, W, 3], float32 in [0, 1] (values outside are clipped) or uint8.
      sigmas: standard deviations of the surrounds in pixels, each >= 1, at least one.
      clip: percent of the values that become 0, and that become 1, each in [0, 50).
      chromaticity: share of the picture's own colours, in [0, 1].
      reference: the paper's channels and the min-max stretch: `clip=(0, 0), chromaticity=0`.

    Returns:
      float32 of the same shape in [0, 1].

    Raises:
      ValueError: if an option is out of range, or by `contracts.check_image`.
    """
    if len(sigmas) == 0:
        raise ValueError("`sigmas` must hold at least one standard deviation. Received: sigmas=().")
    return _apply(image, sigmas, (0, 0) if reference else clip, 0 if reference else chromaticity)


def log_ratios(image: np.ndarray, *, sigmas: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean over `sigmas` of log(I + 1) - log(G * (I + 1)), of the channels and of the intensity.

    Args:
      image: [H, W, 3] float32 in [0, 1]; I is this in levels of 255.
      sigmas: standard deviations in pixels, each >= 1.

    Returns:
      ([H, W, 3], [H, W]) float32, natural logarithm, in [-5.6, 5.6]; zero where a channel is flat.
    """
    blurs = filters.GaussianBlurs(image, sigmas)
    of_channels = np.empty_like(image)
    of_intensity = np.empty(image.shape[:2], np.float32)
    for rows in batches.row_strips(*image.shape[:2]):
        of_channels[rows], of_intensity[rows] = _log_levels(image[rows])
        for index in range(len(sigmas)):
            # A blur is linear, so the blurred intensity is the intensity of the blurred channels.
            channels, intensity = _log_levels(blurs.rows(rows, index))
            of_channels[rows] -= channels * np.float32(1 / len(sigmas))
            of_intensity[rows] -= intensity * np.float32(1 / len(sigmas))
    return of_channels, of_intensity


def _log_levels(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns log(I + 1) of the channels and of their mean, I in levels of 255."""
    levels = image * np.float32(255)
    levels += 1
    return np.log(levels), np.log(color.channel_mean(levels))


def stretch(values: np.ndarray, *, clip: tuple[float, float]) -> bool:
    """Stretches `values`, in place, so that percentile clip[0] becomes 0 and percentile 100 - clip[1] becomes 1.

    Args:
      values: [H, W] or [H, W, 3] float32.
      clip: percent at each end, in [0, 50). Above `SAMPLES` pixels they are read from a regular grid of the pixels;
        (0, 0) always reads every pixel.

    Returns:
      Whether there was any contrast; if not, `values` is as before.
    """
    low, high = (float(values.min()), float(values.max()))
    if any(clip) and high - low > 1e-4:
        step = int(np.ceil(np.sqrt(values.shape[0] * values.shape[1] / SAMPLES)))
        low_clip, high_clip = np.percentile(values[::step, ::step], (clip[0], 100 - clip[1]))
        # A few bright dots on a flat ground: the percentiles meet, the whole range does not.
        if high_clip - low_clip > 1e-4:
            low, high = float(low_clip), float(high_clip)
    # Below float32 rounding of a blur of values up to 256 there is no contrast, only noise of the arithmetic.
    if high - low <= 1e-4:
        return False
    values -= np.float32(low)
    values *= np.float32(1 / (high - low))
    np.clip(values, 0, 1, out=values)
    return True


def _apply(image: np.ndarray, sigmas: Sequence[float], clip: tuple[float, float], chromaticity: float) -> np.ndarray:
    """Retinex on every channel and on the intensity, averaged by `chromaticity`."""
    if len(clip) != 2 or not all(0 <= percent < 50 for percent in clip):
        raise ValueError(f"`clip` must be two percentages in [0, 50). Received: clip={clip}.")
    if not 0 <= chromaticity <= 1:
        raise ValueError(f"`chromaticity` must be in [0, 1]. Received: chromaticity={chromaticity}.")
    result, new = log_ratios(image, sigmas=sigmas)
    if not stretch(result, clip=clip):
        return image.copy()
    if chromaticity == 0:
        return result
    old = color.channel_mean(image)
    if not stretch(new, clip=clip):
        new = old
    for rows in batches.row_strips(*old.shape):
        part = color.scale_intensity(image[rows], old[rows], new[rows])
        result[rows] += np.float32(chromaticity) * (part - result[rows])
    return result
