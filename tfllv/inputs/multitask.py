"""Bright pictures with maps of classes, and their dark versions: what a network of two tasks is trained on."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
import tensorflow as tf

from tfllv import contracts
from tfllv.inputs import labels, transforms
from tfllv.ops import darken

# Maps that are counted for class weights; more change them by little.
COUNTED_MAPS = 2000
_SALT = 7919  # as in `transforms`: each draw has a stream of its own


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
        crop_from: int = 0,
        crop_to: int = 0,
        flip: bool = False,
        tint: float = 0.0,
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
          crop_from: with `fit='crop'`, least side of the square that is brought to `size`, drawn log-evenly; 0: `size`.
          crop_to: largest side; 0: `crop_from`. A smaller picture gives what it has.
          flip: mirrors half of the examples, left to right.
          tint: multiplies each colour of the bright picture by e^u, u drawn evenly from [-tint, tint], before it is
            darkened; 0 leaves it.
          seed: of the dark pictures that validation sees, the same in every run; training draws its own.

        Raises:
          ValueError: naming the file, if one is no image, or of another size than its map; or for an option.
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
        self.changes: list[transforms.Transform] = []
        if crop_from or crop_to:
            self.changes.append(_random_square(fit, size, crop_from or size, crop_to or crop_from or size))
            self.fit = "keep"  # the pipeline must not cut by itself
        self.changes += [transforms.random_mirror()] if flip else []
        self.changes += [_random_tint(tint)] if tint else []
        self.keys = (contracts.LOW, contracts.HIGH, contracts.MASK)
        self._recipe, self._seed, self._made = recipe, seed, not dark
        if self._made:
            darken.check_options(recipe, {})
            self.changes.append(self._make_dark)

    def _make_dark(self, example: transforms.Example, seed: tf.Tensor) -> transforms.Example:
        high = _to_float(example[contracts.HIGH])
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


def _to_float(picture: tf.Tensor) -> tf.Tensor:
    return tf.cast(picture, tf.float32) * (1 / 255) if picture.dtype == tf.uint8 else picture


def _random_tint(strength: float) -> transforms.Transform:
    """Multiplies the colours of the pictures by one factor each; they become float32 in [0, 1]."""

    def apply(example: transforms.Example, seed: tf.Tensor) -> transforms.Example:
        salted = seed + tf.constant([0, 10 * _SALT], tf.int64)
        factors = tf.exp(tf.random.stateless_uniform([3], salted, -strength, strength, alg="philox"))
        pictures = {key: example[key] for key in (contracts.LOW, contracts.HIGH) if key in example}
        return example | {key: tf.clip_by_value(_to_float(value) * factors, 0, 1) for key, value in pictures.items()}

    return apply


def _random_square(fit: str, size: int, least: int, most: int) -> transforms.Transform:
    """Cuts one random square out of pictures and map, and brings it to [size, size]; its side is drawn log-evenly."""
    if fit != "crop" or not 8 <= least <= most:
        raise ValueError(
            "`crop_from` and `crop_to` must be at least 8, in this order, and with image_fit=crop. Received: "
            f"crop_from={least}, crop_to={most}, image_fit={fit}."
        )

    def cut(draws: np.ndarray, *pictures: np.ndarray) -> list[np.ndarray]:
        sides = pictures[0].shape[:2]
        longest = min(most, *sides)
        shortest = min(least, longest)
        side = round(shortest * (longest / shortest) ** float(draws[0]))
        top, left = (int(draw * (length - side + 1)) for draw, length in zip(draws[1:], sides, strict=True))
        way = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        return [
            # Maps are of whole numbers, which must not be mixed.
            cv2.resize(
                picture[top : top + side, left : left + side],
                (size, size),
                interpolation=way if picture.ndim == 3 else cv2.INTER_NEAREST_EXACT,
            )
            for picture in pictures
        ]

    def apply(example: transforms.Example, seed: tf.Tensor) -> transforms.Example:
        draws = tf.random.stateless_uniform([3], seed + tf.constant([0, 9 * _SALT], tf.int64), alg="philox")
        keys = [key for key in transforms.PICTURES if key in example]
        pictures = [tf.cast(example[key], tf.uint8) for key in keys]
        found = tf.numpy_function(cut, [draws, *pictures], [tf.uint8] * len(keys), stateful=False)
        for key, picture in zip(keys, found, strict=True):
            square = tf.ensure_shape(picture, [size, size, *example[key].shape[2:]])
            example = example | {key: tf.cast(square, example[key].dtype)}
        return example

    return apply
