"""Finds pictures that show one scene, so that none of them is in the training set and in the test set.

LOL-v1's training set holds LOL-v2's test set, and pictures of one scene stand in both parts of LOL-v1 itself: scores
on such a test say little. What one scene is, `tfllv.ops.similarity` decides, as for `tfllv evaluate leakage`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import numpy as np

from tfllv.ops import similarity
from tfllv.records import files, images
from tfllv.records.pairs import Pair
from tfllv.records.problems import Report, Where

_NOTHING = np.zeros((9, 9), np.uint8)  # a flat picture is like no other


def similar(left: Sequence[str], right: Sequence[str]) -> list[tuple[int, int]]:
    """Finds pictures of `left` and of `right` that show one scene.

    Args:
      left: paths; what cannot be read is like nothing (the builder reports it).
      right: paths.

    Returns:
      Pairs of indices, sorted; each path of `left` with every one of `right` that it is like.
    """

    @functools.cache
    def read(path: str) -> similarity.Fingerprint:
        try:
            return similarity.fingerprint(images.decode(files.read(path)))
        except (OSError, ValueError):
            return similarity.fingerprint(_NOTHING)

    found = similarity.find_same_scenes([read(path) for path in left], [read(path) for path in right])
    return sorted((match.a, match.b) for match in found)


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
