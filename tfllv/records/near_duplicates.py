"""Finds pictures that show one scene, so that none of them is in the training set and in the test set.

LOL-v1's training set holds LOL-v2's test set, and pictures of one scene stand in both parts of LOL-v1 itself: scores
on such a test say little. Two pictures count as one scene where their 16x16 grey thumbnails, less their mean, correlate
by 0.95 or more. Measured on SICE (140 scenes): the same picture at another size, brightness or JPEG quality 0.9999,
cut by 2 % at each edge 0.94; different scenes at most 0.90.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tfllv.records import files, images
from tfllv.records.pairs import Pair
from tfllv.records.problems import Report, Where

THRESHOLD = 0.95
_SIDE = 16
_STRIP = 2048  # rows compared at once


def signature(path: str) -> np.ndarray | None:
    """Returns a signature, [256] float32 of norm 1 (0 for a flat picture), or None where it cannot be read."""
    try:
        small = images.thumbnail(files.read(path), _SIDE).ravel()
    except (OSError, ValueError):
        return None  # the builder reports it
    small -= small.mean()
    norm = float(np.linalg.norm(small))
    return small / norm if norm > 1e-3 else np.zeros_like(small)


def similar(left: Sequence[str], right: Sequence[str], *, threshold: float = THRESHOLD) -> list[tuple[int, int]]:
    """Finds pictures of `left` and of `right` that show one scene.

    Args:
      left: paths.
      right: paths.
      threshold: the least correlation.

    Returns:
      Pairs of indices, sorted; each path of `left` with every one of `right` that it is like.
    """
    cache: dict[str, np.ndarray] = {}
    for path in (*left, *right):
        if path not in cache:
            found = signature(path)
            cache[path] = np.zeros(_SIDE * _SIDE, np.float32) if found is None else found
    if not left or not right:
        return []
    columns = np.stack([cache[path] for path in right]).T
    result: list[tuple[int, int]] = []
    for start in range(0, len(left), _STRIP):
        rows = np.stack([cache[path] for path in left[start : start + _STRIP]])
        for row, column in zip(*np.nonzero(rows @ columns >= threshold), strict=True):
            result.append((start + int(row), int(column)))
    return result


def scenes_of(pairs: Sequence[Pair]) -> list[str]:
    """Groups pairs whose bright pictures show one scene; a scene that the source names joins its pairs as well.

    Returns:
      A scene's name a pair, in order: that of the group's first pair.
    """
    parent = list(range(len(pairs)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    highs = [pair.high for pair in pairs]
    joined = similar(highs, highs)
    first: dict[str, int] = {}
    for index, pair in enumerate(pairs):
        if pair.scene:
            joined.append((index, first.setdefault(pair.scene, index)))
    for left, right in joined:
        low, high = sorted((root(left), root(right)))
        parent[high] = low
    return [pairs[root(index)].scene or pairs[root(index)].key for index in range(len(pairs))]


def guard(
    train: Sequence[Pair], held_out: Iterable[tuple[str, Where]], report: Report, *, drop: bool
) -> tuple[list[Pair], int]:
    """Looks for pictures of the training set that are also held out for tests.

    Args:
      train: the training pairs.
      held_out: (path, place) of pictures that must not be trained on.
      report: each training pair that is one of them is added to it.
      drop: leave such pairs out.

    Returns:
      The training pairs that are left, and how many were found.
    """
    others = list(held_out)
    twins = dict(reversed(similar([pair.high for pair in train], [path for path, _ in others])))
    for index, other in sorted(twins.items()):
        kind = "pair skipped: near-duplicate" if drop else "near-duplicate of a test picture"
        report.add(train[index].where, "high", kind, f"{train[index].high} shows the scene of {others[other][0]}")
    kept = [pair for index, pair in enumerate(train) if not (drop and index in twins)]
    return kept, len(twins)
