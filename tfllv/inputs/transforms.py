"""Paired transforms: dict -> dict, the same change to every picture-like entry.

A transform is a function (example, seed) -> example for `tf.data`. `example` holds [H, W, C] tensors under the keys of
`contracts`; `seed` is an int64 [2] tensor. Randomness comes from `seed` alone, so image, target and mask are cut and
turned alike, and a step's data does not depend on what ran before.
"""

from __future__ import annotations

from collections.abc import Callable

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


def draw_corner(seed: tf.Tensor, height: tf.Tensor, width: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where `random_crop` cuts a picture of [height, width]: top and left, int32."""
    return _draw(seed, 1, height - size + 1), _draw(seed, 2, width - size + 1)


def random_crop(size: int) -> Transform:
    """Cuts one random [size, size] square out of every picture; sides must be at least `size` and equal in a pair."""

    def apply(example: Example, seed: tf.Tensor) -> Example:
        shape = tf.shape(next(example[key] for key in PICTURES if key in example))
        top, left = draw_corner(seed, shape[0], shape[1], size)

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


def random_cast(strength: float) -> Transform:
    """Gives dark and bright picture the cast of one light: red by e^a, blue by e^-a, green by e^b, others against it.

    a is strength times the cube of an even number in [-1, 1], b a quarter of that of another: most lights are nearly
    white, few are strongly coloured, as lamps at night, whose orange a network that never saw it turns into yellow.
    Images become float32 in [0, 1].
    """

    def apply(example: Example, seed: tf.Tensor) -> Example:
        salted = seed + tf.constant([0, 11 * 7919], tf.int64)  # a diffusion's time takes other bits of the same word
        draws = strength * tf.random.stateless_uniform([2], salted, -1.0, 1.0, alg="philox") ** 3
        warm, green = draws[0], draws[1] / 4
        factors = tf.exp(tf.stack([warm - green / 2, green, -warm - green / 2]))
        pictures = to_float({key: example[key] for key in (contracts.LOW, contracts.HIGH)})
        return example | {key: tf.clip_by_value(value * factors, 0.0, 1.0) for key, value in pictures.items()}

    return apply


def _turn(picture: tf.Tensor, turns: tf.Tensor, mirror: tf.Tensor) -> tf.Tensor:
    """Turns a square by quarters counter-clockwise, then flips it left to right.

    In the graph: calling OpenCV is no more work, but its callers wait for Python's lock and so for each other.
    """
    order = [1, 0, *range(2, len(picture.shape))]
    rows = tf.range(tf.shape(picture)[0] - 1, -1, -1)

    def swap(square: tf.Tensor) -> tf.Tensor:
        return tf.transpose(square, order)

    def flip_up(square: tf.Tensor) -> tf.Tensor:
        return tf.gather(square, rows)  # of whole rows: faster than `tf.reverse`

    def flip_left(square: tf.Tensor) -> tf.Tensor:
        return tf.reverse(square, [1])

    ways: list[Callable[[], tf.Tensor]] = [
        lambda: picture,
        lambda: flip_left(picture),
        lambda: flip_up(swap(picture)),
        lambda: flip_left(flip_up(swap(picture))),
        lambda: flip_left(flip_up(picture)),
        lambda: flip_up(picture),
        lambda: flip_left(swap(picture)),
        lambda: swap(picture),
    ]
    return tf.ensure_shape(tf.switch_case(2 * turns + mirror, ways), picture.shape)


def random_dihedral() -> Transform:
    """Flips and turns every picture, which must be square, by one of the eight symmetries."""

    def apply(example: Example, seed: tf.Tensor) -> Example:
        turns, mirror = _draw(seed, 3, 4), _draw(seed, 4, 2)
        return _map_pictures(example, lambda picture: _turn(picture, turns, mirror))

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
