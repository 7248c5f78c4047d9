import json

import numpy as np
import pytest
import tensorflow as tf

from tfllv.losses import semantic


def test_focal_self_label_equals_the_reference(shared):
    values = json.loads((shared / "goldens" / "sgz_losses.json").read_text())
    with np.load(shared / "goldens" / "sgz_losses.npz") as arrays:
        logits = np.moveaxis(arrays["focal_logits"], 1, -1)
    np.testing.assert_allclose(float(semantic.focal_self_label(logits)), values["focal_selflabel_seed0"], rtol=1e-5)


def test_focal_self_label_by_hand():
    # Two positions with p = 0.8 and p = 0.5 for the likelier of two classes.
    logits = np.log(np.float32([[[[0.2, 0.8], [0.5, 0.5]]]]))
    want = (0.2**2 * -np.log(0.8) + 0.5**2 * -np.log(0.5)) / 2
    np.testing.assert_allclose(float(semantic.focal_self_label(logits)), want, rtol=1e-5)
    cross_entropy = (-np.log(0.8) - np.log(0.5)) / 2
    np.testing.assert_allclose(float(semantic.focal_self_label(logits, gamma=0)), cross_entropy, rtol=1e-5)


def test_focal_self_label_is_zero_where_the_network_is_sure():
    logits = np.float32(200) * np.eye(21, dtype=np.float32)[None, :, None]
    assert float(semantic.focal_self_label(logits)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("gamma", [0, 1, 2])
@pytest.mark.parametrize("scale", [0, 1, 1000])
def test_focal_self_label_gradient_is_finite(gamma, scale):
    logits = tf.constant(scale * np.eye(5, dtype=np.float32)[None, :, None])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = semantic.focal_self_label(logits, gamma=gamma)
    assert np.isfinite(tape.gradient(value, logits).numpy()).all()


def test_focal_self_label_pushes_the_likeliest_class_up():
    logits = tf.constant(np.float32([[[[0.1, 0.7, 0.2]]]]))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = semantic.focal_self_label(logits)
    gradient = tape.gradient(value, logits).numpy().ravel()
    assert gradient[1] < 0 < min(gradient[0], gradient[2])


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((2, 3, 4), {}, "`logits` must be"),
        ((1, 2, 3, 4), {"gamma": -1}, "`gamma` must be >= 0"),
        ((1, 2, 3, 4), {"epsilon": 0}, "`epsilon` must be in"),
    ],
)
def test_wrong_arguments_are_named(shape, options, words):
    with pytest.raises(ValueError, match=words):
        semantic.focal_self_label(np.zeros(shape, np.float32), **options)
