from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfllv.inputs import transforms


def _pair(height=12, width=15):
    """A picture whose pixels tell their place, its target and its mask, all of the same content."""
    place = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    low = tf.constant(np.stack([place] * 3, -1))
    return {"low": low, "high": low, "mask": tf.constant(place.astype(np.int32)), "name": tf.constant("x")}


@pytest.mark.parametrize(
    ("transform", "shape"), [(transforms.random_crop(8), (8, 8)), (transforms.random_dihedral(), (12, 12))]
)
def test_a_pair_and_its_mask_are_changed_alike_and_by_the_seed_alone(transform, shape):
    results = []
    for number in range(12):
        seed = tf.constant([5, number], tf.int64)
        example = _pair(12, 15 if shape == (8, 8) else 12)
        changed, again = transform(example, seed), transform(example, seed)
        assert changed["low"].shape == (*shape, 3)
        np.testing.assert_array_equal(changed["low"], changed["high"])
        np.testing.assert_array_equal(changed["low"][..., 0], tf.cast(changed["mask"], tf.uint8))
        np.testing.assert_array_equal(changed["low"], again["low"])
        assert changed["name"] == b"x"
        results.append(changed["low"].numpy().tobytes())
    assert len(set(results)) > 5


def test_the_dihedral_transform_reaches_all_eight_symmetries():
    transform = transforms.random_dihedral()
    example = _pair(4, 4)
    seen = {transform(example, tf.constant([0, i], tf.int64))["low"].numpy().tobytes() for i in range(100)}
    square = example["low"].numpy()
    expected = {np.rot90(side, k).tobytes() for side in (square, square[:, ::-1]) for k in range(4)}
    assert seen == expected


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 3), (5, 5, 1)])
def test_squares_are_turned_counter_clockwise_then_mirrored(rng, shape):
    square = rng.integers(0, 256, shape, dtype=np.uint8)
    for turns in range(4):
        for mirror in range(2):
            turned = np.rot90(square, turns)
            found = transforms._turn(tf.constant(square), tf.constant(turns), tf.constant(mirror))
            np.testing.assert_array_equal(found, turned[:, ::-1] if mirror else turned)


def test_crops_reach_every_place():
    transform = transforms.random_crop(3)
    example = _pair(4, 5)
    seen = {transform(example, tf.constant([0, i], tf.int64))["mask"][0, 0].numpy() for i in range(200)}
    assert seen == {0, 1, 2, 5, 6, 7}


def test_float_images_are_in_the_unit_range_and_masks_stay():
    example = transforms.to_float({**_pair(), "low": tf.constant([[[0, 51, 255]]], tf.uint8)})
    np.testing.assert_allclose(example["low"], [[[0, 0.2, 1]]], atol=1e-7)
    assert example["mask"].dtype == tf.int32
    assert example["name"] == b"x"
