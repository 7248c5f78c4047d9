from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfllv import models
from tfllv.models import mirnet_small

TINY = {"n_feat": 8, "work_size": 32, "knots": 4}


@pytest.fixture(scope="module")
def network():
    return models.build("mirnet_small", **TINY)


def test_it_is_small_enough_to_ship():
    assert models.build("mirnet_small").count_params() <= 1_500_000


@pytest.mark.parametrize(
    ("size", "factor"), [((1, 1), 1), ((32, 20), 1), ((20, 47), 1), ((48, 8), 2), ((79, 5), 2), ((400, 640), 20)]
)
def test_the_longer_side_comes_near_the_work_size(network, size, factor):
    assert network.factor(*size) == factor
    assert int(network.factor(*map(tf.constant, size))) == factor


@pytest.mark.parametrize("factor", [1, 2, 5])
@pytest.mark.parametrize("size", [(1, 1), (10, 20), (13, 7)])
def test_shrinking_is_the_mean_of_squares(network, rng, size, factor):
    image = rng.uniform(0, 1, (2, *size, 3)).astype(np.float32)
    added = [(-side) % factor for side in size]
    padded = np.pad(image, ((0, 0), (0, added[0]), (0, added[1]), (0, 0)), mode="edge")
    rows, columns = padded.shape[1] // factor, padded.shape[2] // factor
    expected = padded.reshape(2, rows, factor, columns, factor, 3).mean((2, 4))
    np.testing.assert_allclose(network.shrink(image, factor), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", [0.01, 0.1, 0.4])
def test_the_guess_of_a_flat_picture_is_mid_grey(network, level):
    image = np.full((1, 8, 8, 3), level, np.float32)
    exponent = network.exponent(image)
    assert float(np.mean(image ** np.asarray(exponent))) == pytest.approx(mirnet_small.MID_GREY, abs=1e-3)


def test_the_exponent_is_bounded(network):
    exponents = [float(network.exponent(np.full((1, 4, 4, 3), level, np.float32))[0, 0, 0, 0]) for level in (0, 1)]
    assert exponents == pytest.approx([mirnet_small.STRONGEST, 1.0])


@pytest.mark.parametrize("factor", [1, 3])
def test_enlarging_is_bilinear_with_centres_aligned(network, rng, factor):
    curve = rng.standard_normal((2, 5, 7, 12)).astype(np.float32)
    side = mirnet_small.UNSHUFFLE * factor
    expected = tf.image.resize(curve, (5 * side, 7 * side), "bilinear")
    np.testing.assert_allclose(network.enlarge(curve, factor, 5 * side, 7 * side), expected, rtol=0, atol=1e-5)
    # A picture that ends inside a place sees the same map.
    cut = network.enlarge(curve, factor, 4 * side + 1, 6 * side + 2)
    np.testing.assert_allclose(cut, expected[:, : 4 * side + 1, : 6 * side + 2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [1, 3])
def test_strips_equal_the_rows_of_the_whole(network, rng, factor):
    curve = rng.standard_normal((1, 6, 4, 12)).astype(np.float32)
    height, width = 6 * 4 * factor - 5, 4 * 4 * factor - 1
    whole = np.asarray(network.enlarge(curve, factor, height, width))
    for top in range(0, height, 7):
        rows = min(7, height - top)
        strip = network.enlarge(curve, factor, height, width, top=top, rows=rows)
        np.testing.assert_allclose(strip, whole[:, top : top + rows], rtol=0, atol=1e-6)


def test_a_curve_is_linear_between_its_knots(network):
    x = np.linspace(0, 1, 31, dtype=np.float32).reshape(1, 1, 31, 1).repeat(3, -1)
    heights = np.array([[0.3, -0.1, 0.2, 0.0], [0.0, 0.1, 0.0, -0.2], [0.5, 0.5, 0.5, 0.5]], np.float32)
    curve = np.broadcast_to(heights.T.reshape(1, 1, 1, -1), (1, 1, 31, 12))
    result = np.asarray(network.apply_curve(x, np.ones((1, 1, 1, 1), np.float32), curve))
    for channel in range(3):
        expected = x[0, 0, :, 0] + np.interp(x[0, 0, :, 0], np.linspace(0, 1, 4), heights[channel])
        np.testing.assert_allclose(result[0, 0, :, channel], expected, rtol=0, atol=2e-4)  # DARKEST instead of 0


def test_a_large_picture_is_judged_as_its_small_copy(network, rng):
    small = rng.uniform(0, 0.3, (1, 32, 32, 3)).astype(np.float32)
    large = small.repeat(4, 1).repeat(4, 2)
    expected = network.curve_map(small, network.exponent(small))
    shrunk = network.shrink(large, network.factor(128, 128))
    np.testing.assert_allclose(network.curve_map(shrunk, network.exponent(shrunk)), expected, rtol=0, atol=1e-5)


def test_one_gradient_step_lowers_the_error(rng):
    network = models.build("mirnet_small", **TINY)
    low = rng.uniform(0, 0.2, (2, 32, 32, 3)).astype(np.float32)
    high = np.sqrt(low)

    def error():
        return tf.reduce_mean(tf.square(network(low, training=True)["image"] - high))

    with tf.GradientTape() as tape:
        before = error()
    values = [variable.value for variable in network.trainable_variables]
    for value, gradient in zip(values, tape.gradient(before, values), strict=True):
        value.assign_sub(0.05 * gradient)
    assert error() < before


@pytest.mark.parametrize("option", [{"knots": 1}, {"work_size": 8}, {"height": 1}, {"n_feat": 2.5}])
def test_a_wrong_option_is_one_clear_error(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number >= "):
        models.build("mirnet_small", **option)
