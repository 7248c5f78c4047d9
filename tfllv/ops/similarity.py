"""Tells whether two pictures show one scene, however bright each is: for leaks between training and test sets.

A picture is reduced to where its edges lie and which way they point, and every edge is made about as strong as the
next. Brightness, gamma, contrast, size and compression change little of that, so the dark and the bright picture of a
pair are alike. Two such maps are compared by their correlation, coarsely over the whole picture first, then finely at
the best relative scale and place, which allows for cropping. The method is ours; `THRESHOLD` states what it was set by.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

# Measured on SICE (438 frames of 140 scenes, less two of one place): of 190,000 pairs of different scenes the best has
# 0.29; one scene in two exposures gives 0.73 or more; 500 copies of bright frames, cut by up to 8 % a side, resized,
# darkened or brightened, with noise and compressed, give 0.51 or more with the dark frame of their scene.
THRESHOLD = 0.4

_SIDE = 64
_SIDES = [round(_SIDE * scale) for scale in np.geomspace(0.88, 1 / 0.88, 7).tolist()]
# The sizes at which one picture is laid over the other, unchanged first.
_SIZES = sorted(itertools.product(_SIDES, _SIDES), key=lambda size: abs(size[0] - _SIDE) + abs(size[1] - _SIDE))
_SURE = 0.9
_SLACK = 3  # thumbnail pixels by which one picture may stand out over the other on either side
# Correlation of whole coarse maps from which a pair is looked at closely: one pair in 500 of different scenes on SICE.
_CANDIDATE = 0.4
_ROWS = 1024  # coarse maps compared at once, so that the table of all correlations is never held


class Fingerprint(NamedTuple):
    """What is kept of a picture; 24 KB.

    Attributes:
      coarse: [2048] float32 of norm 1, or all 0 where the picture has no edge.
      fine: [64, 64, 2] float16, the edges across and down.
    """

    coarse: np.ndarray
    fine: np.ndarray

    @property
    def textured(self) -> bool:
        """Whether the picture has any edge; one without is like no other."""
        return bool(self.coarse.any())


class Match(NamedTuple):
    """Two pictures of one scene: their places in the two sets, the score, and whether one is mirrored."""

    a: int
    b: int
    score: float
    flipped: bool


def fingerprint(image: np.ndarray) -> Fingerprint:
    """Returns a picture's fingerprint.

    Args:
      image: [H, W, 3] or [H, W], uint8, uint16, or float32 in [0, 1].

    Raises:
      ValueError: if it is not such a picture.
    """
    if image.ndim not in (2, 3) or 0 in image.shape or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(f"`image` must be [H, W, 3] or [H, W]. Received: shape={image.shape}.")
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        raise ValueError(f"`image` must be uint8, uint16 or float32. Received: dtype={image.dtype}.")
    white = 1.0 if image.dtype == np.float32 else float(np.iinfo(image.dtype).max)
    grey = np.asarray(image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32) / white
    # Area averaging shrinks without aliasing; enlarging by it would draw the edges of pixels.
    shrinks = min(grey.shape) >= _SIDE
    small = np.asarray(cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))
    coarse = _edges(small.reshape(_SIDE // 2, 2, _SIDE // 2, 2).mean(axis=(1, 3)), blur=1.5, shading=4.0).ravel()
    norm = float(np.linalg.norm(coarse))
    if norm < 1:  # of about 45 in a photograph: rounding errors, no edges
        return Fingerprint(np.zeros_like(coarse), np.zeros((_SIDE, _SIDE, 2), np.float16))
    return Fingerprint(coarse / norm, _edges(small, blur=1.0, shading=3.0).astype(np.float16))


def _edges(small: np.ndarray, *, blur: float, shading: float) -> np.ndarray:
    """Returns the gradient of the log of a thumbnail without its slow shading, evened out: [n, n, 2] float32."""
    # The median makes a gain disappear under the logarithm; the small constant bounds the noise of black.
    level = np.log(small + (0.005 + 0.1 * float(np.median(small))))
    level = cv2.GaussianBlur(level, (0, 0), blur)
    level = level - cv2.GaussianBlur(level, (0, 0), shading)  # else two skies that darken upwards would be alike
    gradient = np.stack([cv2.Sobel(level, cv2.CV_32F, 1, 0), cv2.Sobel(level, cv2.CV_32F, 0, 1)], axis=-1)
    strength = cv2.GaussianBlur(np.square(gradient).sum(axis=-1), (0, 0), 3.0)
    return gradient / np.sqrt(strength + 0.3**2)[..., None]


def mirror(print_: Fingerprint) -> Fingerprint:
    """Returns the fingerprint that the picture has when flipped left to right."""
    turn = np.array([-1, 1])
    half = _SIDE // 2
    coarse = print_.coarse.reshape(half, half, 2)[:, ::-1] * turn
    return Fingerprint(coarse.ravel().astype(np.float32), (print_.fine[:, ::-1] * turn).astype(np.float16))


def scene_similarity(a: Fingerprint, b: Fingerprint) -> float:
    """Returns how alike two pictures are: 1 for the same one, under `THRESHOLD` for different scenes.

    It is the highest correlation of the two maps of edges over 7 x 7 relative scales of width and height from 0.88 to
    1.14 and over all shifts; what lies outside either picture counts as unlike. The search ends at 0.9.

    Returns:
      A number in [-1, 1]; 0 where one of them has no edges.
    """
    if not (a.textured and b.textured):
        return 0.0
    left, right = a.fine.astype(np.float32), b.fine.astype(np.float32)
    norm = float(np.linalg.norm(left) * np.linalg.norm(right))
    best = -1.0
    for height, width in _SIZES:
        best = max(best, _correlate(left, right, height, width) / norm)
        if best >= _SURE:
            break
    return min(best, 1.0)


def _correlate(left: np.ndarray, right: np.ndarray, height: int, width: int) -> float:
    """Returns the highest inner product of `right` with `left` made [height, width], over shifts."""
    resized = cv2.resize(left, (width, height), interpolation=cv2.INTER_LINEAR)
    # Scaling by area would change the norm; this keeps an inner product comparable between scales.
    resized *= _SIDE / np.sqrt(height * width)
    y, x = max(0, _SIDE - height) + _SLACK, max(0, _SIDE - width) + _SLACK
    padded = cv2.copyMakeBorder(resized, y, y, x, x, cv2.BORDER_CONSTANT)
    return float(cv2.matchTemplate(padded, right, cv2.TM_CCORR).max())


def find_same_scenes(
    a: Sequence[Fingerprint], b: Sequence[Fingerprint], *, threshold: float = THRESHOLD, flip: bool = False
) -> list[Match]:
    """Finds the pictures of two sets that show one scene.

    Every pair is compared coarsely (one product of matrices), and those that may be alike finely (about 5 ms each).

    Args:
      a: the fingerprints of one set.
      b: those of the other.
      threshold: the least `scene_similarity`, in (0, 1].
      flip: look for mirrored pictures too.

    Returns:
      The matches in order of `a`, then of `b`.

    Raises:
      ValueError: if `threshold` is out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"`threshold` must be in (0, 1]. Received: threshold={threshold}.")
    found: dict[tuple[int, int], Match] = {}
    for flipped in (False, True) if flip else (False,):
        others = [mirror(each) for each in b] if flipped else b
        for i, j in _candidates(a, others):
            score = scene_similarity(a[i], others[j])
            if score >= threshold and ((i, j) not in found or score > found[i, j].score):
                found[i, j] = Match(i, j, score, flipped)
    return [found[key] for key in sorted(found)]


def _candidates(a: Sequence[Fingerprint], b: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    if not a or not b:
        return []
    columns = np.stack([each.coarse for each in b]).T
    pairs = []
    for start in range(0, len(a), _ROWS):
        rows = np.stack([each.coarse for each in a[start : start + _ROWS]])
        for row, column in zip(*np.nonzero(rows @ columns >= _CANDIDATE), strict=True):
            pairs.append((start + int(row), int(column)))
    return pairs
