import json

import numpy as np
import pytest
import tensorflow as tf

from tfllv.losses import zero_reference


@pytest.fixture(scope="module")
def reference(shared):
    folder = shared / "goldens"
    with np.load(folder / "sgz_losses.npz") as arrays:
        channels_last = {name: np.moveaxis(array, 1, -1) for name, array in arrays.items()}
    return channels_last, json.loads((folder / "sgz_losses.json").read_text())


def flat(value, shape=(2, 32, 32, 3)):
    return np.full(shape, value, np.float32)


def gradient(loss, *tensors):
    variables = [tf.Variable(tensor) for tensor in tensors]
    with tf.GradientTape() as tape:
        value = loss(*variables)
    return [grad.numpy() for grad in tape.gradient(value, variables)]


def total(x, enhanced, curve):
    return (
        1600 * zero_reference.total_variation(curve)
        + zero_reference.spatial_consistency(x, enhanced)
        + 5 * zero_reference.color_constancy(enhanced)
        + 10 * zero_reference.exposure_control(enhanced)
    )


def test_every_term_equals_the_reference(reference):
    arrays, values = reference
    got = {
        "tv": zero_reference.total_variation(arrays["x_r"]),
        "spa": zero_reference.spatial_consistency(arrays["x"], arrays["enhanced"]),
        "col": zero_reference.color_constancy(arrays["enhanced"]),
        "exp": zero_reference.exposure_control(arrays["enhanced"]),
        "weighted_no_seg": total(arrays["x"], arrays["enhanced"], arrays["x_r"]),
    }
    for name, value in got.items():
        np.testing.assert_allclose(float(value), values[name], rtol=1e-5, err_msg=name)


def test_spatial_consistency_map_equals_the_reference(reference):
    arrays, _ = reference
    got = np.asarray(zero_reference.spatial_consistency_map(arrays["x"], arrays["enhanced"]))
    # The map's values reach 0.58; float32 pooling in another order moves them by a few units in the last place.
    np.testing.assert_allclose(got, arrays["spa_map"], rtol=1e-5, atol=2e-6)


def test_spatial_consistency_of_one_changed_region_by_hand():
    low, enhanced = flat(0.2, (1, 12, 12, 3)), flat(0.2, (1, 12, 12, 3))
    enhanced[:, 4:8, 4:8] += 0.4
    # The region differs from its 4 neighbours by 0.4, and each of them from it: 8 x 0.16; diagonals: 8 x 0.16 / 2.
    four = zero_reference.spatial_consistency(low, enhanced, neighbours=4)
    eight = zero_reference.spatial_consistency(low, enhanced, neighbours=8)
    np.testing.assert_allclose(float(four), 8 * 0.16 / 9, rtol=1e-5)
    np.testing.assert_allclose(float(eight), 12 * 0.16 / 9, rtol=1e-5)


def test_spatial_consistency_pads_with_zeros():
    # A single region changed by 0.5 is compared with 4 (and 4 half-weighted) zeros around it.
    low, enhanced = flat(0.25, (1, 4, 4, 3)), flat(0.75, (1, 4, 4, 3))
    assert float(zero_reference.spatial_consistency(low, enhanced, neighbours=4)) == pytest.approx(4 * 0.25)
    assert float(zero_reference.spatial_consistency(low, enhanced)) == pytest.approx(6 * 0.25)


def test_color_constancy_by_hand():
    image = np.broadcast_to(np.float32([0.2, 0.4, 0.8]), (2, 5, 7, 3))
    want = np.sqrt(0.2**4 + 0.6**4 + 0.4**4)
    np.testing.assert_allclose(float(zero_reference.color_constancy(image)), want, rtol=1e-5)


def test_exposure_control_by_hand_leaves_out_incomplete_regions():
    image = flat(0.1, (1, 40, 20, 3))
    image[:, 16:32] = 0.9
    image[:, 32:] = 1.0
    image[:, :, 16:] = 1.0
    np.testing.assert_allclose(float(zero_reference.exposure_control(image)), (0.25 + 0.09) / 2, rtol=1e-5)
    np.testing.assert_allclose(float(zero_reference.exposure_control(image, level=0.5)), 0.16, rtol=1e-5)


def test_total_variation_by_hand_sums_over_channels():
    curve = np.zeros((2, 3, 4, 3), np.float32)
    curve[:, 1:] = 0.5
    # One step of 0.5 in each column: 4 squares of 0.25 a channel, of 2 x 4 vertical positions.
    np.testing.assert_allclose(float(zero_reference.total_variation(curve)), 2 * 3 * 4 * 0.25 / 8, rtol=1e-6)
    np.testing.assert_allclose(
        float(zero_reference.total_variation(curve.transpose(0, 2, 1, 3))), 2 * 3 * 4 * 0.25 / 8, rtol=1e-6
    )


def test_every_loss_is_zero_at_perfection(rng):
    image = rng.uniform(size=(2, 32, 48, 3)).astype(np.float32)
    assert float(zero_reference.spatial_consistency(image, image)) == 0
    assert float(zero_reference.color_constancy(flat(0.3))) == 0
    assert float(zero_reference.exposure_control(flat(0.6))) == pytest.approx(0, abs=1e-12)
    assert float(zero_reference.total_variation(flat(-0.3))) == 0


@pytest.mark.parametrize("value", [0.0, 0.5, 0.6, 1.0])
def test_every_gradient_is_finite_on_flat_grey_images(value):
    low, enhanced, curve = flat(0.1), flat(value), flat(-0.3)
    for grad in gradient(total, low, enhanced, curve):
        assert np.isfinite(grad).all()
    np.testing.assert_array_equal(gradient(zero_reference.color_constancy, enhanced)[0], 0)


def test_color_constancy_gradient_is_finite_when_only_one_picture_of_the_batch_is_grey():
    image = flat(0.5)
    image[1, ..., 0] = 0.9
    (grad,) = gradient(zero_reference.color_constancy, image)
    assert np.isfinite(grad).all()
    assert (grad[0] == 0).all()
    assert (grad[1, ..., 0] > 0).all()


@pytest.mark.parametrize("side", [(1, 1), (1, 9), (3, 2), (5, 17)])
def test_tiny_images_have_finite_values_and_gradients(side, rng):
    low, enhanced, curve = (rng.uniform(size=(2, *side, 3)).astype(np.float32) for _ in range(3))
    assert np.isfinite(float(total(low, enhanced, curve)))
    for grad in gradient(total, low, enhanced, curve):
        assert np.isfinite(grad).all()


def test_a_graph_of_unknown_size_gives_the_same_value(rng):
    low, enhanced, curve = (rng.uniform(size=(2, 33, 47, 3)).astype(np.float32) for _ in range(3))
    signature = [tf.TensorSpec([None, None, None, 3])] * 3
    in_graph = tf.function(total, input_signature=signature)(low, enhanced, curve)
    np.testing.assert_allclose(in_graph, total(low, enhanced, curve), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: zero_reference.total_variation(np.zeros((4, 4, 3))), "`curve` must be"),
        (
            lambda: zero_reference.spatial_consistency(flat(0), flat(0)[:, 1:]),
            "`enhanced` must have the shape of `low`",
        ),
        (lambda: zero_reference.spatial_consistency(flat(0), flat(0), neighbours=6), "`neighbours` must be 4 or 8"),
        (lambda: zero_reference.spatial_consistency(flat(0), flat(0), patch_size=0), "`patch_size` must be >= 1"),
        (lambda: zero_reference.exposure_control(flat(0), level=1.5), "`level` must be in"),
        (lambda: zero_reference.color_constancy(flat(0)[..., :2]), "`enhanced` must have 3 channels"),
    ],
)
def test_wrong_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
