"""The table of enhancers, and what every enhancer must do."""

from __future__ import annotations

import numpy as np
import pytest

from tfllv import enhancers

CLASSICAL = [name for name, method in enhancers.METHODS.items() if method.kind == "classical"]
FAST = [*CLASSICAL, "sgz", "mirnet_small"]


@pytest.fixture(scope="module")
def enhancer():
    made = {}

    def get(name):
        if name not in made:
            made[name] = enhancers.get(name)
        return made[name]

    return get


def dark(rng, *shape):
    return (rng.random(shape, dtype=np.float32) * 0.3).astype(np.float32)


def test_the_table_holds_the_eight_classical_methods_and_the_networks():
    assert len(CLASSICAL) == 8
    assert {"sgz", "zero_dce", "zero_dce_pp"} <= set(enhancers.METHODS)


@pytest.mark.parametrize("name", FAST)
def test_shape_type_and_range_are_kept(name, enhancer, rng):
    image = dark(rng, 33, 47, 3)
    result = enhancer(name)(image)
    assert result.shape == image.shape and result.dtype == np.float32
    assert result.min() >= 0 and result.max() <= 1
    assert result.mean() > image.mean()


@pytest.mark.parametrize("name", FAST)
def test_uint8_is_the_rounded_float_result(name, enhancer, rng):
    image = (dark(rng, 20, 31, 3) * 255).astype(np.uint8)
    result = enhancer(name)(image)
    exact = enhancer(name)(image.astype(np.float32) / 255)
    assert result.dtype == np.uint8
    assert np.abs(result - exact * 255).max() <= 0.51


@pytest.mark.parametrize("name", FAST)
def test_a_batch_is_its_images(name, enhancer, rng):
    batch = dark(rng, 2, 24, 25, 3)
    single = np.stack([enhancer(name)(image) for image in batch])
    np.testing.assert_allclose(enhancer(name)(batch), single, atol=1e-6)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiled_equals_whole_within_one_level(name, dtype, enhancer, rng):
    top = np.iinfo(dtype).max
    image = (dark(rng, 130, 71, 3) * top).astype(dtype)
    whole = enhancer(name).tiled(image, 0)
    assert whole.dtype == dtype
    for tile in (None, 32):
        difference = np.abs(enhancer(name).tiled(image, tile).astype(float) - whole)
        assert difference.max() <= top / 255


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3)])
def test_the_smallest_images_work(name, size, enhancer, rng):
    image = dark(rng, *size, 3)
    assert enhancer(name)(image).shape == image.shape
    assert np.isfinite(enhancer(name)(image)).all()


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.zeros((4, 4, 4)), np.zeros((4, 4, 3), np.int32), np.full((2, 2, 3), np.nan)]
)
def test_a_wrong_image_is_one_clear_error(image, enhancer):
    with pytest.raises(ValueError, match="`image` must be"):
        enhancer("gamma")(image)


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'clahe'"):
        enhancers.get("clahee")


def test_a_network_without_weights_says_how_to_get_them():
    with pytest.raises(ValueError, match="tfllv import-weights zero_dce"):
        enhancers.get("zero_dce")
