"""Which pictures to look at first: where a detector misses most, and what it makes up."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfllv.detection import results
from tfllv.detection.results import Detections, ImageDetections
from tfllv.detection.truth import Truth, TruthImage

OVERLAP = 0.5
MIN_SCORE = 0.3


@dataclasses.dataclass(frozen=True)
class Example:
    """One picture, its objects, and what was found of them.

    Attributes:
      truth: the picture.
      found: the detections of at least the score asked for, best first.
      missed: [G] bool of the picture's objects: none of its class overlaps it by half. Crowds are never missed.
      false: [D] bool of the detections: they overlap no object of their class by half, nor lie in a crowd.
      missed_share: area of the missed objects together, in parts of the picture: the order of the worst.
    """

    truth: TruthImage
    found: ImageDetections
    missed: np.ndarray
    false: np.ndarray
    missed_share: float


def find_worst(truth: Truth, detections: Detections, *, count: int = 24, min_score: float = MIN_SCORE) -> list[Example]:
    """Returns the pictures with missed objects, worst misses first.

    Args:
      truth: the ground truth.
      detections: of the same pictures in the same order, as `coco_metrics.align` gives.
      count: the most that are returned.
      min_score: what a detection must score to count as one.

    Raises:
      ValueError: if `count` or `min_score` is out of range.
    """
    if count < 0 or not 0 <= min_score <= 1:
        raise ValueError(
            f"`count` must be >= 0 and `min_score` in [0, 1]. Received: count={count}, min_score={min_score}."
        )
    pairs = zip(truth.images, detections.images, strict=True)
    compared = [compare(image, found, min_score=min_score) for image, found in pairs]
    worst = [example for example in compared if example.missed.any()]
    return sorted(worst, key=lambda example: -example.missed_share)[:count]


def find_false(truth: Truth, detections: Detections, *, count: int = 6, min_score: float = MIN_SCORE) -> list[Example]:
    """Returns the pictures with false detections, the most confident first; arguments as `find_worst`."""
    pairs = zip(truth.images, detections.images, strict=True)
    compared = [compare(image, found, min_score=min_score) for image, found in pairs]
    wrong = [example for example in compared if example.false.any()]
    return sorted(wrong, key=lambda example: -example.found.scores[example.false].max())[:count]


def compare(truth: TruthImage, found: ImageDetections, *, min_score: float = MIN_SCORE) -> Example:
    """Matches one picture's detections with its objects as COCO's evaluation does at an overlap of .5."""
    order = [i for i in np.argsort(-found.scores, kind="stable") if found.scores[i] >= min_score]
    kept = ImageDetections(
        found.file,
        found.width,
        found.height,
        found.boxes[order],
        found.classes[order],
        found.scores[order],
        None if found.masks is None else tuple(found.masks[i] for i in order),
    )
    boxes = results.to_pixels(kept.boxes, truth.width, truth.height)
    matched, false = np.zeros(len(truth.boxes), bool), np.ones(len(boxes), bool)
    for number in np.unique(kept.classes):
        mine, theirs = np.flatnonzero(kept.classes == number), np.flatnonzero(truth.classes == number)
        overlaps = _overlaps(boxes[mine], truth.boxes[theirs], truth.crowd[theirs])
        for row, index in zip(overlaps, mine, strict=True):
            place = _partner(row, matched[theirs], truth.crowd[theirs])
            if place is not None:
                false[index] = False
                matched[theirs[place]] = True
    missed = ~matched & ~truth.crowd
    areas = truth.boxes[:, 2] * truth.boxes[:, 3]
    return Example(truth, kept, missed, false, float(areas[missed].sum() / (truth.width * truth.height)))


def _partner(row: np.ndarray, matched: np.ndarray, crowd: np.ndarray) -> int | None:
    """The free object that overlaps most, the last of equals; else the crowd that does."""
    for candidates in (~crowd & ~matched, crowd):
        best = np.where(candidates & (row >= OVERLAP), row, -1)
        if len(best) and best.max() >= 0:
            return int(np.flatnonzero(best == best.max())[-1])
    return None


def _overlaps(found: np.ndarray, objects: np.ndarray, crowd: Sequence[bool] | np.ndarray) -> np.ndarray:
    """Intersection over union, [D, G]; over the detection's own area where the object is a crowd."""
    low = np.maximum(found[:, None, :2], objects[None, :, :2])
    high = np.minimum((found[:, :2] + found[:, 2:])[:, None], (objects[:, :2] + objects[:, 2:])[None])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    own = found[:, 2] * found[:, 3]
    union = own[:, None] + objects[:, 2] * objects[:, 3] - shared
    return shared / np.maximum(np.where(crowd, own[:, None], union), 1e-12)
