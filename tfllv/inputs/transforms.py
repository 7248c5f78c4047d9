"""Paired transforms: dict -> dict, the same change to every picture-like entry.

A transform is a function (example, seed) -> example for `tf.data`. `example` holds [H, W, C] tensors under the keys of
`contracts`; `seed` is an int64 [2] tensor. Randomness comes from `seed` alone, so image, target and mask are cut and
turned alike, and a step's data does not depend on what ran before.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import tensorflow as tf

from tfllv import contracts

Example = dict[str, tf.Tensor]
Transform = Callable[[Example, tf.Tensor], Example]

PICTURES = (contracts.LOW, contracts.HIGH, contracts.MASK)


def _map_pictures(example: Example, function: Callable[[tf.Tensor], tf.Tensor]) -> Example:
    return {key: function(value) if key in PICTURES else value for key, value in example.items()}


def _draw(seed: tf.Tensor, salt: int, limit: tf.Tensor | int) -> tf.Tensor:
    """Returns a whole number in [0, limit), from (seed, salt) alone."""
    seed = seed + tf.constant([0, salt], tf.int64) * 7919
    return tf.random.stateless_uniform([], seed, minval=0, maxval=limit, dtype=tf.int32, alg="philox")


def random_crop(size: int) -> Transform:
    """Cuts one random [size, size] square out of every picture; sides must be at least `size` and equal in a pair."""

    def apply(example: Example, seed: tf.Tensor) -> Example:
        shape = tf.shape(next(example[key] for key in PICTURES if key in example))
        top = _draw(seed, 1, shape[0] - size + 1)
        left = _draw(seed, 2, shape[1] - size + 1)

        def cut(picture: tf.Tensor) -> tf.Tensor:
            part = picture[top : top + size, left : left + size]
            return tf.ensure_shape(part, [size, size, *picture.shape[2:]])

        return _map_pictures(example, cut)

    return apply


def random_mirror() -> Transform:
    """Flips every picture left to right, or leaves it."""

    def apply(example: Example, seed: tf.Tensor) -> Example:
        mirror = _draw(seed, 5, 2)
        return _map_pictures(example, lambda picture: tf.where(mirror > 0, tf.reverse(picture, [1]), picture))

    return apply


def random_zoom(strength: float) -> Transform:
    """Enlarges one random square of every picture to the whole, bilinearly; masks, which have classes, are refused.

    The square's side is drawn evenly from [1 - strength, 1] of the picture's; images become float32 in [0, 1].
    """

    def apply(example: Example, seed: tf.Tensor) -> Example:
        if contracts.MASK in example:
            raise ValueError("`random_zoom` must get images. Received: a mask.")
        draws = tf.random.stateless_uniform([3], seed + tf.constant([0, 8 * 7919], tf.int64), alg="philox")
        side = 1.0 - strength * draws[0]
        top, left = (1.0 - side) * draws[1], (1.0 - side) * draws[2]
        box = tf.stack([[top, left, top + side, left + side]])

        def enlarge(picture: tf.Tensor) -> tf.Tensor:
            images = to_float({contracts.LOW: picture[tf.newaxis]})[contracts.LOW]
            with tf.device("/CPU:0"):
                zoomed = tf.image.crop_and_resize(images, box, [0], tf.shape(picture)[:2])
            return tf.ensure_shape(zoomed[0], picture.shape)

        return _map_pictures(example, enlarge)

    return apply


def random_exposure(strength: float) -> Transform:
    """Scales the dark picture by e^u, u drawn evenly from [-strength, strength / 2], and rounds it to levels again.

    The truth stays: so a network learns to find the level itself. Rounding is dithered, which keeps the mean.
    """

    def apply(example: Example, seed: tf.Tensor) -> Example:
        low = tf.cast(example[contracts.LOW], tf.float32)
        low = low * (1 / 255) if example[contracts.LOW].dtype == tf.uint8 else low
        power = tf.random.stateless_uniform(
            [], seed + tf.constant([0, 6 * 7919], tf.int64), -strength, strength / 2, alg="philox"
        )
        dither = tf.random.stateless_uniform(tf.shape(low), seed + tf.constant([0, 7 * 7919], tf.int64), alg="philox")
        levels = tf.floor(tf.clip_by_value(low * tf.exp(power), 0.0, 1.0) * 255 + dither)
        return example | {contracts.LOW: tf.minimum(levels, 255.0) * (1 / 255)}

    return apply


def _turn(picture: np.ndarray, turns: int, mirror: int) -> np.ndarray:
    """Turns by quarters counter-clockwise, then flips left to right; OpenCV is much faster at it than the graph."""
    rotations = (None, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)
    rotation = rotations[turns]
    turned = picture if rotation is None else cv2.rotate(picture, rotation)
    return np.ascontiguousarray(cv2.flip(turned, 1) if mirror else turned)


def random_dihedral() -> Transform:
    """Flips and turns every picture by one of the eight symmetries of the square."""

    def apply(example: Example, seed: tf.Tensor) -> Example:
        turns, mirror = _draw(seed, 3, 4), _draw(seed, 4, 2)

        def turn(picture: tf.Tensor) -> tf.Tensor:
            result = tf.numpy_function(_turn, [picture, turns, mirror], picture.dtype, stateful=False)
            return tf.ensure_shape(result, picture.shape)

        return _map_pictures(example, turn)

    return apply


def to_float(example: Example) -> Example:
    """Turns uint8 images (not masks) of an example or a batch into float32 in [0, 1]."""
    return {
        key: tf.cast(value, tf.float32) * (1 / 255) if key != contracts.NAME and value.dtype == tf.uint8 else value
        for key, value in example.items()
    }


def without_name(batch: Example) -> Example:
    """Leaves a batch's names away, which are text and stay on the host."""
    return {key: value for key, value in batch.items() if key != contracts.NAME}
