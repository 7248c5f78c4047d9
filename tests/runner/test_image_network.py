from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfllv import enhancers, models
from tfllv.runner import image_network

SMALL = {"n_feat": 8, "height": 2, "knots": 4, "work_size": 16}


@pytest.fixture(autouse=True)
def method_rows(monkeypatch):
    """The networks as methods, whether or not weights are shipped for them yet."""
    row = dataclasses.replace(enhancers.METHODS["sgz"], module=image_network.__name__, function="image_enhancer")
    for name in ("mirnet", "mirnet_small"):
        monkeypatch.setitem(enhancers.METHODS, name, row)


@pytest.fixture(scope="module")
def small_model():
    """Random weights, large enough for curves that differ from place to place."""
    model = models.build("mirnet_small", **SMALL)
    rng = np.random.default_rng(5)
    model.conv_out.kernel.assign(rng.normal(0, 0.2, model.conv_out.kernel.shape))
    return model


@pytest.fixture
def small(small_model):
    return image_network.ImageEnhancer("mirnet_small", small_model)


def picture(rng, height, width, dtype=np.uint8):
    top = np.iinfo(dtype).max
    return (rng.random((height, width, 3)) ** 2 * 0.4 * top).astype(dtype)


@pytest.mark.parametrize("size", [(1, 1), (37, 23), (90, 130)])
def test_the_graph_gives_what_the_model_gives(small, small_model, rng, size):
    image = picture(rng, *size).astype(np.float32) / 255
    expected = np.clip(small_model(image[None])["image"][0], 0, 1)
    np.testing.assert_allclose(small(image), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("strip_pixels", [1, 64, 400, 10_000])
def test_the_graph_s_strips_equal_the_loops_within_rounding(small, rng, dtype, strip_pixels):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = (rng.random((1, 97, 61, 3)) ** 2 * 0.4 * top).astype(dtype)
    strips, array = small.graph.enhance(tf.constant(image), strip_pixels).numpy(), small.graph.enhance_array(image)
    assert strips.dtype == array.dtype == dtype and strips.shape == array.shape == image.shape
    assert np.abs(strips.astype(np.float64) - array).max() <= (2e-6 if dtype == np.float32 else 1)
    np.testing.assert_array_equal(small.tiled(image[0], 8), array[0])


def test_a_batch_is_its_pictures(small, rng):
    batch = np.stack([picture(rng, 40, 33) for _ in range(3)])
    np.testing.assert_array_equal(small(batch), [small(image) for image in batch])


def test_a_network_that_pools_over_the_picture_is_run_whole(rng):
    model = models.build("mirnet", n_feat=8, n_RRG=1, n_MSRB=1, height=2)
    enhancer = image_network.ImageEnhancer("mirnet", model)
    assert enhancer.graph.split is None
    image = picture(rng, 21, 18)
    expected = np.clip(model(image[None] / np.float32(255))["image"][0], 0, 1) * 255
    assert np.abs(enhancer(image) - expected).max() <= 0.51
    np.testing.assert_array_equal(enhancer.tiled(image, 8), enhancer(image))
    np.testing.assert_array_equal(enhancer.stream()(image), enhancer(image))


def test_video_is_smoothed_but_for_cuts(small, rng):
    frame = picture(rng, 48, 64)
    step = small.stream(smoothing=0.9)
    np.testing.assert_array_equal(step(frame), small(frame))
    darker = (frame * 0.97).astype(np.uint8)
    past = small(frame).mean()
    assert abs(step(darker).mean() - past * 0.97) < abs(small(darker).mean() - past * 0.97)
    cut = frame // 8
    np.testing.assert_array_equal(step(cut), small(cut))
    with pytest.raises(ValueError, match="`smoothing` must be in"):
        small.stream(smoothing=1.0)


def test_get_loads_weights_and_says_where_they_come_from(tmp_path, small_model, rng):
    small_model.save_weights(tmp_path / "a.weights.h5")
    options = {**SMALL, "weights": str(tmp_path / "a.weights.h5")}
    image = picture(rng, 30, 40)
    exact = enhancers.get("mirnet_small", **options)(image)
    np.testing.assert_array_equal(exact, image_network.ImageEnhancer("mirnet_small", small_model)(image))
    fast = enhancers.get("mirnet_small", precision="bfloat16", **options)(image)
    assert 0 < np.abs(fast.astype(int) - exact).max() <= 12  # 8 bits of precision in the body
    with pytest.raises(ValueError, match="`precision` must be one of"):
        enhancers.get("mirnet_small", precision="int8", **options)
    with pytest.raises(ValueError, match="`weights` must be given"):
        enhancers.get("mirnet", n_feat=8)
