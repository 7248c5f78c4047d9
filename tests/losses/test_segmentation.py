from __future__ import annotations

import numpy as np
import pytest

from tfllv.losses import segmentation


def test_cross_entropy_has_its_hand_value():
    # Two pixels: probabilities 3/4 and 1/4 of the true class.
    logits = np.log([[[[3.0, 1.0], [1.0, 3.0]]]]).astype(np.float32)
    mask = np.array([[[0, 0]]])
    expected = (np.log(4 / 3) + np.log(4)) / 2
    assert float(segmentation.cross_entropy(logits, mask)) == pytest.approx(expected, rel=1e-6)
    weighted = float(segmentation.cross_entropy(logits, mask, class_weights=[3.0, 1.0]))
    assert weighted == pytest.approx(3 * expected, rel=1e-6)


def test_cross_entropy_is_zero_at_perfection_and_where_nothing_counts(rng):
    mask = rng.integers(0, 4, (2, 5, 6))
    sure = 50 * np.eye(4, dtype=np.float32)[mask]
    assert float(segmentation.cross_entropy(sure, mask)) == pytest.approx(0, abs=1e-6)
    assert float(segmentation.cross_entropy(-sure, np.full((2, 5, 6), 255))) == 0


def test_pixels_without_a_class_give_no_gradient(rng):
    import tensorflow as tf

    logits = tf.constant(rng.normal(size=(1, 4, 4, 3)).astype(np.float32))
    mask = rng.integers(0, 3, (1, 4, 4))
    mask[0, 1:3, 1:3] = 255
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = segmentation.cross_entropy(logits, mask)
    gradient = tape.gradient(loss, logits).numpy()
    np.testing.assert_array_equal(np.abs(gradient).max(-1) > 0, mask != 255)


def test_a_batch_is_the_mean_of_its_parts_whatever_is_in_them(rng):
    logits = rng.normal(size=(4, 6, 5, 3)).astype(np.float32)
    mask = rng.integers(0, 3, (4, 6, 5))
    mask[0] = 255
    mask[1, :3] = 255
    parts = [float(segmentation.cross_entropy(logits[i : i + 1], mask[i : i + 1])) for i in range(4)]
    assert float(segmentation.cross_entropy(logits, mask)) == pytest.approx(np.mean(parts), rel=1e-6)


def test_weights_of_classes_have_their_hand_values():
    # Class 0: 90 of 100 pixels; class 1: 10, all in the first of two pictures; class 2 never.
    counts = np.array([[40, 10, 0], [50, 0, 0]])
    share = np.array([0.9, 0.1, 0.0])
    frequency = np.array([90 / 100, 10 / 50])
    median = np.median(frequency) / frequency
    expected = {
        "none": np.ones(3),
        "median": np.append(median, median.max()),
        "log": 1 / np.log(1.02 + np.array([0.9, 0.1, 0.1])),
    }
    for rule, weights in expected.items():
        found = segmentation.balance(counts, rule)
        np.testing.assert_allclose(found, weights / (weights * share).sum(), rtol=1e-12)
        assert (found * share).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: segmentation.balance(np.ones((2, 3)), "mean"), "`rule` must be one of none, median, log"),
        (lambda: segmentation.balance(np.zeros((2, 3)), "log"), "`counts` must be"),
        (lambda: segmentation.cross_entropy(np.zeros((1, 2, 2, 3)), np.zeros((2, 2))), "`logits` must be"),
        (
            lambda: segmentation.cross_entropy(np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2)), class_weights=[1.0]),
            "`class_weights` must have one value for each of 3 classes",
        ),
    ],
)
def test_wrong_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
