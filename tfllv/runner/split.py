"""Curve networks in two halves: the network, on a small copy, by a runtime, and the loops over all pixels, compiled.

An enhancer runs its own graph so, and the server an exported one, whose signature `estimate` is the first half.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfllv.models import mirnet_small
from tfllv.ops import curve_loops

# Of an export: the signature that is the first half, what it takes and gives, and where `tfllv.json` tells of it.
ESTIMATE, SMALL = "estimate", "small"
CURVE, EXPONENT = "curve", "exponent"
FACTS = "split"


@dataclasses.dataclass(frozen=True)
class CurveSplit:
    """Of `models.curve.CurveNetwork`: samples of the picture -> `curve` [B, h, w, 3 or 24].

    Attributes:
      scale_factor: >= 1, by which the copy is smaller.
    """

    scale_factor: int

    def shrink(self, images: np.ndarray) -> np.ndarray:
        """Makes the small copies: [B, H, W, 3] uint8, uint16 or float32 -> [B, h, w, 3] float32 in [0, 1]."""
        return curve_loops.sample(images, self.scale_factor)

    def bend(self, images: np.ndarray, found: Mapping[str, np.ndarray]) -> np.ndarray:
        """Applies an estimate, at a `scale_factor` above 1: [B, H, W, 3] -> the same shape and type."""
        return curve_loops.bend(images, found[CURVE], self.scale_factor)


@dataclasses.dataclass(frozen=True)
class ToneSplit:
    """Of `models.mirnet_small.MIRNetSmall`: means of squares -> `exponent` [B, 1, 1, 1] and `curve` [B, h, w, C].

    Attributes:
      work_size: of the copy's longer side, about.
    """

    work_size: int

    def shrink(self, images: np.ndarray) -> np.ndarray:
        """Makes the small copies; see `CurveSplit.shrink`."""
        return curve_loops.average(images, self._factor(images))

    def bend(self, images: np.ndarray, found: Mapping[str, np.ndarray]) -> np.ndarray:
        """Applies an estimate; see `CurveSplit.bend`."""
        side, darkest = mirnet_small.UNSHUFFLE * self._factor(images), mirnet_small.DARKEST
        return curve_loops.bend_tones(images, found[EXPONENT], found[CURVE], side, darkest=darkest)

    def _factor(self, images: np.ndarray) -> int:
        _, height, width, _ = images.shape
        return mirnet_small.shrinking(height, width, self.work_size)


Split = CurveSplit | ToneSplit
_KINDS: tuple[type[CurveSplit] | type[ToneSplit], ...] = (CurveSplit, ToneSplit)


def to_facts(split: Split) -> dict[str, int]:
    """What an export says of it."""
    return dataclasses.asdict(split)


def from_facts(facts: Any) -> Split | None:
    """Reads what `to_facts` wrote; None: it is something else."""
    for kind in _KINDS:
        names = {field.name for field in dataclasses.fields(kind)}
        if isinstance(facts, dict) and facts.keys() == names and all(type(value) is int for value in facts.values()):
            return kind(**facts)
    return None
