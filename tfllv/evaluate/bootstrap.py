"""How far a mean over images may be off, and whether two differ: bootstrap intervals, a paired test."""

from __future__ import annotations

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
# Numbers drawn at once: 16 MB of them.
_BLOCK = 2**21


def mean_interval(
    values: np.ndarray,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> tuple[float, float] | None:
    """Returns the percentile bootstrap interval of the mean (Efron 1979, doi:10.1214/aos/1176344552).

    Args:
      values: [N] one finite number an image; the images are what is drawn, with replacement.
      level: of confidence, in (0, 1).
      resamples: how often N images are drawn.
      seed: of the draws; the same seed gives the same interval.
      groups: [N] which values belong together, such as parts of one picture; whole groups are drawn then.

    Returns:
      The lower and the upper end, or None for fewer than two values (groups), which tell nothing about the spread.

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
    sums, counts = values, np.ones(len(values))
    if groups is not None:
        sums, counts = group_sums(values, groups)
    if len(sums) < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(sums))
    means = []
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, len(sums), (min(rows, resamples - start), len(sums)))
        means.append(sums[drawn].mean(axis=1) / counts[drawn].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def sign_flip_p(
    differences: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0, groups: np.ndarray | None = None
) -> float:
    """Returns the two-sided p-value of the paired sign-flip permutation test that a mean difference is zero.

    Fisher 1935, The Design of Experiments, 21, by random draws (McNemar's test, where answers are right or wrong).

    Args:
      differences: [N] of two scores of one image each.
      resamples: number of random signs; the least p-value is 1 / (resamples + 1).
      seed: of the draws.
      groups: [N] which differences belong together; they change sign together.

    Raises:
      ValueError: if `differences` is not a list of finite numbers.
    """
    differences = np.asarray(differences, np.float64)
    if differences.ndim != 1 or not len(differences) or not np.isfinite(differences).all():
        raise ValueError(f"`differences` must be [N], N >= 1, and finite. Received: shape={differences.shape}.")
    sums = differences if groups is None else group_sums(differences, groups)[0]
    observed = abs(sums.sum()) - 1e-9  # rounding must not turn equal into smaller
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(sums))
    reached = 0
    for start in range(0, resamples, rows):
        signs = rng.integers(0, 2, (min(rows, resamples - start), len(sums)), dtype=np.int8) * 2.0 - 1
        reached += int((np.abs(signs @ sums) >= observed).sum())
    return (reached + 1) / (resamples + 1)


def group_sums(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sum of each group's values, and how many they are."""
    if len(groups) != len(values):
        raise ValueError(f"`groups` must be as many as values. Received: {len(groups)} for {len(values)}.")
    _, index = np.unique(groups, return_inverse=True)
    return np.bincount(index, weights=values), np.bincount(index).astype(np.float64)
