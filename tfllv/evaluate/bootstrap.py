"""How far a mean over images may be off: bootstrap intervals."""

from __future__ import annotations

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
# Numbers drawn at once: 16 MB of them.
_BLOCK = 2**21


def mean_interval(
    values: np.ndarray, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float] | None:
    """Returns the percentile bootstrap interval of the mean (Efron 1979, doi:10.1214/aos/1176344552).

    Args:
      values: [N] one finite number an image; the images are what is drawn, with replacement.
      level: of confidence, in (0, 1).
      resamples: how often N images are drawn.
      seed: of the draws; the same seed gives the same interval.

    Returns:
      The lower and the upper end, or None for fewer than two values, which tell nothing about the spread.

    Raises:
      ValueError: if `values` is not a list of finite numbers, or an option is out of range.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"`values` must be [N] and finite. Received: shape={values.shape}.")
    if not 0 < level < 1:
        raise ValueError(f"`level` must be in (0, 1). Received: level={level}.")
    if resamples < 1:
        raise ValueError(f"`resamples` must be >= 1. Received: resamples={resamples}.")
    if len(values) < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(values))
    means = [
        values[rng.integers(0, len(values), (min(rows, resamples - start), len(values)))].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
