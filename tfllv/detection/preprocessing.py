"""Enhancing or darkening the pictures of a detector on the fly, in training and evaluation."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np

from tfllv import contracts, enhancers
from tfllv.ops import darken as darkening
from tfllv.records.detection import seed_of


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What is done to a picture before anything else; darkening first, then enhancement.

    Attributes:
      enhance: a method of `tfllv list`, or ''.
      darken: a recipe of `tfllv darken`, or ''.
      seed: of the darkening. Each picture draws from (seed, its source id), so it is equally dark in every epoch, run
        and order, and as dark as the records converter makes it from the same seed.
    """

    enhance: str = ""
    darken: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.enhance and self.enhance not in enhancers.METHODS:
            hint = contracts.nearest_name(self.enhance, enhancers.METHODS)
            raise ValueError(f"--enhance must be a method of `tfllv list`. Received: '{self.enhance}'; {hint}")
        if self.darken and self.darken not in darkening.RECIPES:
            hint = contracts.nearest_name(self.darken, darkening.RECIPES)
            raise ValueError(f"--darken must be a recipe of `tfllv darken`. Received: '{self.darken}'; {hint}")

    def picture_function(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Returns [H, W, 3] uint8 -> the same, where pictures have no source id: they draw from their pixels."""
        function = self.function()
        if function is None:
            return None
        return lambda pixels: function(pixels, hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest().encode())

    def function(self) -> Callable[[np.ndarray, bytes], np.ndarray] | None:
        """Returns ([H, W, 3] uint8, source id) -> [H, W, 3] uint8; None where nothing is to be done."""
        if not self.enhance and not self.darken:
            return None
        enhance = enhancers.get(self.enhance) if self.enhance else None

        def apply(pixels: np.ndarray, key: bytes) -> np.ndarray:
            if self.darken:
                seed = seed_of(self.seed, key.decode("utf-8", "surrogateescape"))
                dark = darkening.darken(contracts.to_float(pixels), self.darken, seed)
                pixels = contracts.to_uint8(np.asarray(dark))
            return contracts.to_uint8(np.asarray(enhance(pixels))) if enhance is not None else pixels

        return apply
