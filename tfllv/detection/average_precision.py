"""Average precision of a part of the pictures, and of thousands of resamples of them, from one matching.

Which detection finds which object depends on one picture alone, so pictures are matched once. What remains for a part
of them, or for a bootstrap resample that takes picture i `w[i]` times, is sums along the list of detections, best
first. Over all pictures once this is COCO's average precision to the last bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

# Overlaps and recalls of COCO's protocol; linspace, because arange is not exact.
OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
_TINY = np.spacing(1)
# Numbers in work at once: 32 MB of each kind.
_BLOCK = 2**22


@dataclasses.dataclass(frozen=True)
class ClassMatches:
    """The detections of one class over N pictures, best first, matched at T overlaps.

    Attributes:
      label: the class id.
      truths: [N] objects to be found in each picture, crowds left out.
      image: [D] the picture of each detection.
      scores: [D], falling.
      hits: [T, D] whether a detection found an object.
      counted: [T, D] whether it counts: not so where it lies in a crowd.
    """

    label: int
    truths: np.ndarray
    image: np.ndarray
    scores: np.ndarray
    hits: np.ndarray
    counted: np.ndarray

    def part(self, images: np.ndarray) -> ClassMatches:
        """Returns the matches in a part of the pictures: [N] bool; the others keep their place, without content."""
        kept = images[self.image]
        return dataclasses.replace(
            self,
            truths=np.where(images, self.truths, 0),
            image=self.image[kept],
            scores=self.scores[kept],
            hits=self.hits[:, kept],
            counted=self.counted[:, kept],
        )


def precision_curves(matches: ClassMatches) -> np.ndarray | None:
    """Returns the precision at each overlap and recall, [T, R]; None where there is nothing to be found."""
    total = int(matches.truths.sum())
    if not total:
        return None
    curves = np.zeros((len(matches.hits), len(RECALLS)))
    for index, (hits, counted) in enumerate(zip(matches.hits, matches.counted, strict=True)):
        places = np.flatnonzero(hits)
        if not len(places):
            continue
        found = np.arange(1.0, len(places) + 1)
        # Between two objects found precision only falls, so the places where one is found say all.
        precision = found / (np.cumsum(counted)[places] + _TINY)
        best_from = np.maximum.accumulate(precision[::-1])[::-1]
        reached = np.searchsorted(found / total, RECALLS, side="left")
        within = reached < len(places)
        curves[index, within] = best_from[reached[within]]
    return curves


def mean_precision(matches: Sequence[ClassMatches]) -> tuple[float, float] | None:
    """Returns AP (over overlaps .5 to .95) and AP50, the mean over the classes that have objects; None without any."""
    curves = [curve for each in matches if (curve := precision_curves(each)) is not None]
    if not curves:
        return None
    stacked = np.stack(curves, axis=2)  # in pycocotools' order, because the last bit of a mean depends on it
    return float(np.mean(stacked.ravel())), float(np.mean(stacked[0].ravel()))


def resample_weights(images: int, resamples: int, seed: int) -> np.ndarray:
    """Returns how often each picture is drawn in each resample, [resamples, images] int32."""
    rng = np.random.default_rng(seed)
    rows = [np.bincount(rng.integers(0, images, images), minlength=images) for _ in range(resamples)]
    return np.array(rows, np.int32).reshape(resamples, images)


def resampled_precision(matches: ClassMatches, weights: np.ndarray) -> np.ndarray:
    """Returns the average precision of one class in each resample.

    Args:
      matches: of the class; of a part of the pictures, `part` first.
      weights: [B, N] how often each picture counts.

    Returns:
      [2, B] AP and AP50; NaN in a resample with nothing to be found.
    """
    result = np.full((2, len(weights)), np.nan)
    if not matches.truths.any():
        return result
    found = np.flatnonzero(matches.hits.any(axis=0))
    last = int(found[-1]) + 1 if len(found) else 0  # what comes after the last object found changes nothing
    rows = max(1, _BLOCK // max(last, 1))
    for start in range(0, len(weights), rows):
        block = weights[start : start + rows]
        total = block @ matches.truths
        known = total > 0
        if not last:
            result[:, start : start + rows][:, known] = 0.0
            continue
        precision = _block_precision(matches, block[known], total[known], last)
        result[:, start : start + rows][:, known] = np.stack([precision.mean(axis=0), precision[0]])
    return result


def _block_precision(matches: ClassMatches, weights: np.ndarray, total: np.ndarray, last: int) -> np.ndarray:
    """Returns the average precision at each overlap of some resamples, [T, b]."""
    drawn = weights[:, matches.image[:last]]
    seen = np.cumsum(drawn, axis=1, dtype=np.int32)  # all detections so far
    result = np.zeros((len(matches.hits), len(weights)))
    for index, (hits, counted) in enumerate(zip(matches.hits[:, :last], matches.counted[:, :last], strict=True)):
        places = np.flatnonzero(hits)
        if not len(places):
            continue
        below = seen if counted.all() else np.cumsum(drawn * counted, axis=1, dtype=np.int32)
        found = np.cumsum(drawn[:, places], axis=1, dtype=np.int32)
        precision = found / (below[:, places] + _TINY)
        best_from = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        # Each object found serves the recalls that it is the first to reach.
        reached = np.searchsorted(RECALLS, found / total[:, None], side="right")
        steps = np.diff(reached, axis=1, prepend=0)
        result[index] = (best_from * steps).sum(axis=1) / len(RECALLS)
    return result


def mean_over_classes(precisions: Sequence[np.ndarray]) -> np.ndarray:
    """Averages [2, B] of several classes to [2, B], in each resample over the classes with something to be found."""
    stacked = np.stack(precisions)
    known = ~np.isnan(stacked)
    count = known.sum(axis=0)
    total = np.where(known, stacked, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def interval(values: np.ndarray, estimate: float, *, level: float = 0.95) -> tuple[float, float] | None:
    """Returns the basic bootstrap interval (Davison and Hinkley 1997, equation 5.6).

    Few pictures flatter average precision a little, and repeated ones again: the percentiles of the resamples lie too
    high. Turned about the estimate, they lie where the value of a large set is.

    Args:
      values: of the resamples; those with nothing to be found (NaN) are left out.
      estimate: of all pictures once.
      level: of confidence, in (0, 1).

    Returns:
      The lower and the upper end, not cut to any range; None where half of the resamples or more have no value.
    """
    known = values[~np.isnan(values)]
    if 2 * len(known) <= len(values):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(2 * estimate - high), float(2 * estimate - low)


def merge(one: ClassMatches, other: ClassMatches) -> ClassMatches:
    """Lays two versions of the same N pictures side by side, as 2 N pictures: those of `one`, then those of `other`."""
    scores = np.concatenate([one.scores, other.scores])
    order = np.argsort(-scores, kind="stable")
    return ClassMatches(
        one.label,
        np.concatenate([one.truths, other.truths]),
        np.concatenate([one.image, other.image + len(one.truths)])[order],
        scores[order],
        np.concatenate([one.hits, other.hits], axis=1)[:, order],
        np.concatenate([one.counted, other.counted], axis=1)[:, order],
    )


def swapped_differences(before: Sequence[ClassMatches], after: Sequence[ClassMatches], swaps: np.ndarray) -> np.ndarray:
    """Returns the difference of the means over classes when the two versions of some pictures change places.

    Args:
      before: the matches of each class in one version of N pictures.
      after: in the other, classes in the same order.
      swaps: [B, N] bool, the pictures whose versions change places.

    Returns:
      [2, B] of AP and AP50, after less before.
    """
    merged = [merge(one, other) for one, other in zip(before, after, strict=True)]
    means = []
    for taken in (swaps, ~swaps):
        weights = np.concatenate([taken, ~taken], axis=1).astype(np.int32)
        means.append(mean_over_classes([resampled_precision(each, weights) for each in merged]))
    return means[0] - means[1]


def p_value(differences: np.ndarray, difference: float) -> float:
    """Returns the two-sided p-value of a paired difference by a randomisation test (Fisher 1935; Noreen 1989).

    If the versions of a picture are as good as each other, they may change places, and the difference is one of many
    alike. Unlike the bootstrap, this holds its level for any number of pictures.

    Args:
      differences: [B] after random changes of places.
      difference: as it is.
    """
    as_far = int((np.abs(differences) >= abs(difference) - 1e-12).sum())
    return (1 + as_far) / (len(differences) + 1)


def adjust(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values of several tests so that any false finding among them is rare (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
