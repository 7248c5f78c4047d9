from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfllv import models

ODD_SIZES = [(1, 1), (7, 5), (13, 25), (1, 30)]


def interpolate(values: np.ndarray, count: int) -> np.ndarray:
    """Linear interpolation with aligned corners along axis 0, in float64, by NumPy."""
    points = np.linspace(0, len(values) - 1, count)
    flat = values.reshape(len(values), -1)
    columns = [np.interp(points, np.arange(len(values)), column) for column in flat.T]
    return np.stack(columns, axis=-1).reshape(count, *values.shape[1:])


@pytest.mark.parametrize("scale", [2, 3, 12])
@pytest.mark.parametrize(("low", "narrow"), [(1, 1), (5, 7), (33, 20)])
def test_enlarging_is_linear_interpolation_with_aligned_corners(rng, scale, low, narrow):
    network = models.build("sgz", scale_factor=scale)
    curve = rng.uniform(-1, 1, (2, low, narrow, 3)).astype(np.float32)
    height, width = low * scale, narrow * scale
    expected = np.stack([interpolate(image.astype(np.float64), height) for image in curve])
    expected = np.stack([interpolate(image.swapaxes(0, 1), width).swapaxes(0, 1) for image in expected])
    # 1e-6: two float32 products of values in [-1, 1].
    np.testing.assert_allclose(network.enlarge(curve, height, width), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2, 5, 12])
def test_strips_equal_the_rows_of_the_whole(rng, scale):
    network = models.build("sgz", scale_factor=scale)
    height, width = 61, 37
    curve = rng.uniform(-1, 1, (1, -(-height // scale), -(-width // scale), 3)).astype(np.float32)
    whole = np.asarray(network.enlarge(curve, height, width))
    assert whole.shape == (1, height, width, 3)
    for top in range(0, height, 7):
        rows = min(7, height - top)
        strip = network.enlarge(curve, height, width, top=top, rows=rows)
        np.testing.assert_allclose(strip, whole[:, top : top + rows], rtol=0, atol=1e-6)
    np.testing.assert_allclose(network.enlarge(curve, height, width, top=50), whole[:, 50:], rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 7, 12])
@pytest.mark.parametrize("size", [*ODD_SIZES, (24, 84)])
def test_shrinking_takes_the_centre_of_each_group_and_continues_the_border(rng, scale, size):
    image = rng.uniform(0, 1, (2, *size, 3)).astype(np.float32)
    height, width = (-(-side // scale) * scale for side in size)
    padded = np.pad(image, ((0, 0), (0, height - size[0]), (0, width - size[1]), (0, 0)), mode="edge")
    before, after = (scale - 1) // 2, scale // 2
    rows = (padded[:, before::scale] + padded[:, after::scale]) / 2
    expected = (rows[:, :, before::scale] + rows[:, :, after::scale]) / 2
    small = models.build("sgz", scale_factor=scale).shrink(image)
    np.testing.assert_allclose(small, expected, rtol=0, atol=1e-6)


def test_shrinking_a_strip_gives_the_rows_of_the_whole(rng):
    network = models.build("sgz", scale_factor=4)
    image = rng.uniform(0, 1, (1, 30, 18, 3)).astype(np.float32)
    whole = np.asarray(network.shrink(image))
    np.testing.assert_array_equal(network.shrink(image[:, 8:24]), whole[:, 2:6])
    np.testing.assert_array_equal(network.shrink(image[:, 24:]), whole[:, 6:])


def test_curve_map_depends_on_the_halo_and_on_no_pixel_beyond(rng):
    network = models.build("sgz")
    small = rng.uniform(0, 1, (1, 33, 33, 3)).astype(np.float32)
    changed = small.copy()
    changed[:, 16, 16] = 1 - changed[:, 16, 16]
    moved = np.argwhere(np.abs(network.curve_map(small) - network.curve_map(changed)).max((0, 3)) > 0)
    assert moved.min() == 16 - network.halo
    assert moved.max() == 16 + network.halo


def test_tiles_with_the_halo_equal_the_whole_map(rng):
    network = models.build("zero_dce_pp")
    small = rng.uniform(0, 1, (1, 40, 30, 3)).astype(np.float32)
    whole = np.asarray(network.curve_map(small))
    tile = np.asarray(network.curve_map(small[:, 10 - network.halo : 20 + network.halo]))
    np.testing.assert_allclose(tile[:, network.halo : network.halo + 10], whole[:, 10:20], rtol=0, atol=1e-6)


def test_curve_keeps_the_unit_interval_and_its_ends_and_follows_its_sign():
    network = models.build("sgz")
    image = np.broadcast_to(np.linspace(0, 1, 51, dtype=np.float32)[:, None], (1, 5, 51, 3))
    for value in (-1.0, -0.3, 0.0, 0.4, 1.0):
        bent = np.asarray(network.apply_curve(image, np.full(image.shape, value, np.float32)))
        assert bent.min() >= 0
        assert bent.max() <= 1 + 1e-6
        np.testing.assert_array_equal(bent[:, :, 0], 0)
        np.testing.assert_allclose(bent[:, :, -1], 1, rtol=0, atol=1e-6)
        assert np.sign((bent - image)[0, 0, 20, 0]) == -np.sign(value)
        assert (np.diff(bent[0, 0, :, 0]) >= -1e-6).all()  # never turns the order of two levels


def test_one_step_of_the_curve_has_its_value_by_hand():
    network = models.build("zero_dce")
    curve = np.zeros((1, 1, 1, 24), np.float32)
    curve[..., 3] = -0.5  # the second step, red
    bent = network.apply_curve(np.full((1, 1, 1, 3), 0.4, np.float32), curve)
    np.testing.assert_allclose(np.ravel(bent), [0.4 - 0.5 * (0.16 - 0.4), 0.4, 0.4], rtol=1e-6)


@pytest.mark.parametrize("name", ["sgz", "zero_dce_pp"])
@pytest.mark.parametrize("size", ODD_SIZES)
def test_odd_sizes_keep_their_shape_at_scale_12(rng, name, size):
    image = rng.uniform(0, 1, (1, *size, 3)).astype(np.float32)
    output = models.build(name, scale_factor=12)(image)
    assert output["image"].shape == image.shape
    assert output["curve"].shape == image.shape


def test_multiples_are_not_changed_by_the_padding(rng):
    network = models.build("sgz", scale_factor=12)
    image = rng.uniform(0, 1, (1, 24, 36, 3)).astype(np.float32)
    larger = np.pad(image, ((0, 0), (0, 12), (0, 0), (0, 0)), mode="edge")
    assert network.shrink(image).shape == (1, 2, 3, 3)
    np.testing.assert_array_equal(network.shrink(larger)[:, :2], network.shrink(image))


def test_eager_equals_a_graph_with_unknown_sizes(rng):
    network = models.build("sgz", scale_factor=3)
    graph = tf.function(network, input_signature=[tf.TensorSpec([None, None, None, 3])])
    for size in ODD_SIZES:
        image = rng.uniform(0, 1, (2, *size, 3)).astype(np.float32)
        for key, value in network(image).items():
            np.testing.assert_allclose(graph(image)[key], value, rtol=0, atol=1e-6)
    assert graph.experimental_get_tracing_count() == 1


def test_strips_work_in_a_graph_with_unknown_sizes(rng):
    network = models.build("sgz", scale_factor=3)
    whole = rng.uniform(-1, 1, (1, 5, 9, 3)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])] + [tf.TensorSpec([], tf.int32)] * 4)
    def strip(curve, height, width, top, rows):
        return network.enlarge(curve, height, width, top=top, rows=rows)

    expected = np.asarray(network.enlarge(whole, 14, 26))[:, 4:9]
    np.testing.assert_allclose(strip(whole, 14, 26, 4, 5), expected, rtol=0, atol=1e-6)


def test_mixed_precision_keeps_the_map_and_the_image_in_float32(rng):
    image = rng.uniform(0, 1, (1, 16, 16, 3)).astype(np.float32)
    exact, mixed = models.build("sgz"), models.build("sgz", dtype="mixed_bfloat16")
    assert mixed.conv1.compute_dtype == "bfloat16"
    assert mixed.conv7.compute_dtype == "float32"
    for key, value in mixed(image).items():
        assert value.dtype == tf.float32
        np.testing.assert_allclose(value, exact(image)[key], rtol=0, atol=0.02)  # 8 bits of mantissa
        assert np.any(value != exact(image)[key])


def test_seed_decides_the_initial_weights():
    first, again, other = (models.build("sgz", seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_initial_weights_are_uniform_within_the_fan_in():
    block = models.build("sgz").conv5
    for variable, bound in [
        (block.depthwise.kernel, 1 / 3),
        (block.depthwise.bias, 1 / 3),
        (block.pointwise.kernel, 1 / 8),
        (block.pointwise.bias, 1 / 8),
    ]:
        values = np.asarray(variable)
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.8 * bound
    plain = models.build("zero_dce").conv4
    assert np.std(plain.kernel) == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale_factor": 0}, "`scale_factor` must be a whole number >= 1"),
        ({"scale_factor": 1.5}, "`scale_factor` must be a whole number >= 1"),
        ({"conv_type": "dc"}, "`conv_type` must be one of dsc, tc"),
        ({"scale_fctor": 2}, "did you mean 'scale_factor'"),
    ],
)
def test_wrong_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        models.build("sgz", **options)


def test_wrong_images_are_refused():
    network = models.build("sgz")
    with pytest.raises(ValueError, match="divide by its maximum"):
        network(np.zeros((1, 4, 4, 3), np.uint8))
    for shape in ((4, 4, 3), (1, 4, 4, 1)):
        with pytest.raises(ValueError, match="incompatible"):
            network(np.zeros(shape, np.float32))


JAX_SCRIPT = """
import sys, jax, numpy as np
from tfllv import models
network = models.build("sgz", scale_factor=3)
network.load_weights(sys.argv[1])
image = np.load(sys.argv[2])
np.save(sys.argv[3], jax.jit(lambda image: network(image)["image"])(image))
"""


def test_jax_runs_the_same_code_and_weights(tmp_path, rng):
    pytest.importorskip("jax", reason="JAX is not installed")
    network = models.build("sgz", scale_factor=3)
    network.save_weights(tmp_path / "a.weights.h5")
    image = rng.uniform(0, 1, (2, 13, 25, 3)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    files = [tmp_path / "a.weights.h5", tmp_path / "image.npy", tmp_path / "result.npy"]
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", JAX_SCRIPT, *map(str, files)], env=environment, check=True, timeout=120)
    np.testing.assert_allclose(np.load(files[2]), network(image)["image"], rtol=0, atol=1e-5)


def test_networks_are_keras_models_with_the_published_parameter_counts():
    for name, count in {"sgz": 10_561, "zero_dce": 79_416, "zero_dce_pp": 10_561}.items():
        network = models.build(name)
        assert isinstance(network, keras.Model)
        assert network.count_params() == count
    assert models.build("sgz", conv_type="tc").count_params() == 67_299
