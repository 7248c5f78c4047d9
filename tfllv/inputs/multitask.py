"""Bright pictures with maps of classes, and their dark versions: what a network of two tasks is trained on."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfllv import contracts
from tfllv.inputs import labels, transforms
from tfllv.ops import darken

# Maps that are counted for class weights; more change them by little.
COUNTED_MAPS = 2000


class MultitaskSource(labels.SegmentationSource):
    """An example has `low` and `high`, [H, W, 3], and `mask`, [H, W] int32 with `IGNORE_LABEL` for no class.

    The dark picture is made of the bright one by a recipe of `tfllv.ops.darken`, anew in each epoch, or is read beside
    it. What is done to an example depends on (seed, number of the example) alone.
    """

    def __init__(
        self,
        images: Sequence[pathlib.Path],
        masks: Sequence[pathlib.Path],
        dark: Sequence[pathlib.Path] = (),
        *,
        recipe: str = "statistical",
        num_classes: int,
        void: Sequence[int] = (),
        size: int,
        fit: str = "resize",
        cache_mb: int = 2000,
        flip: bool = False,
        seed: int = 0,
    ):
        """Checks every file's header and the recipe.

        Args:
          images: N bright pictures.
          masks: N maps of classes, as `SegmentationSource`.
          dark: N dark pictures, or none: they are made.
          recipe: a key of `darken.RECIPES`; not read where dark pictures are given.
          num_classes: as `SegmentationSource`.
          void: as `SegmentationSource`.
          size: as `ImageSource`.
          fit: as `ImageSource`. Validation sees whole pictures: squeezed to the square by `resize`, at their own size
            by `crop`.
          cache_mb: as `ImageSource`.
          flip: mirrors half of the examples, left to right.
          seed: of the dark pictures that validation sees, the same in every run; training draws its own.

        Raises:
          ValueError: naming the file, if one is no image, or of another size than its map; or for the recipe.
        """
        beside = {contracts.LOW: dark} if dark else {}
        super().__init__(
            images,
            masks,
            num_classes=num_classes,
            void=void,
            size=size,
            fit=fit,
            cache_mb=cache_mb,
            picture=contracts.HIGH,
            beside=beside,
        )
        self.changes = [transforms.random_mirror()] if flip else []
        self.keys = (contracts.LOW, contracts.HIGH, contracts.MASK)
        self._recipe, self._seed, self._made = recipe, seed, not dark
        if self._made:
            darken.check_options(recipe, {})
            self.changes.append(self._make_dark)

    def _make_dark(self, example: transforms.Example, seed: tf.Tensor) -> transforms.Example:
        high = tf.cast(example[contracts.HIGH], tf.float32) * (1 / 255)
        return example | {contracts.LOW: darken.darken(high, self._recipe, seed), contracts.HIGH: high}

    def read_centre(self, key: str, index: int) -> np.ndarray:
        """Returns the whole picture or map (int32); the dark picture is made by the source's own seed."""
        if key == contracts.LOW and self._made:
            return darken.darken(self.read(contracts.HIGH, index), self._recipe, (self._seed, index))
        found = self.read(key, index)
        return found.astype(np.int32) if key == contracts.MASK else found

    def count_classes(self) -> np.ndarray:
        """Returns the pixels of each class in each map, [N, C] int64; of many maps, `COUNTED_MAPS` evenly spread."""
        spread = np.linspace(0, len(self) - 1, min(len(self), COUNTED_MAPS)).round().astype(int).tolist()
        rows = [np.bincount(self.read(contracts.MASK, index).reshape(-1), minlength=256) for index in spread]
        return np.stack(rows)[:, : self.num_classes]
