"""What all eight classical methods of the table promise alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tfllv import enhancers

NAMES = [name for name, method in enhancers.METHODS.items() if method.kind == "classical"]
FLAT_STAYS_FLAT_AT = {
    "histogram_equalization": 0.2,
    "clahe": 0.2,
    "gamma": 0.2**0.5,
    "exposure": 0.3,
    "adaptive_gamma": 0.5,
    "ssr": 0.2,
    "msr": 0.2,
    "lime": 0.2**0.2,
}


@pytest.fixture(params=NAMES)
def enhancer(request) -> enhancers.Enhancer:
    return enhancers.get(request.param)


def dark_scene(rng: np.random.Generator, height: int = 60, width: int = 84) -> np.ndarray:
    """A dim picture with a lamp, coloured boxes and sensor noise."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    light = 0.05 + 0.3 * np.exp(-((x - 20) ** 2 + (y - 15) ** 2) / 300)
    image = np.repeat(light[..., None], 3, 2)
    image[30:50, 10:30] *= (1.0, 0.5, 0.3)
    image[10:40, 50:70] *= (0.3, 0.6, 1.0)
    return np.clip(image + rng.normal(0, 0.004, image.shape), 0, 1).astype(np.float32)


def test_the_table_holds_eight_classical_methods():
    assert set(NAMES) == set(FLAT_STAYS_FLAT_AT)


def test_a_dark_scene_becomes_brighter(enhancer, rng):
    low = dark_scene(rng)
    high = enhancer(low)
    assert high.shape == low.shape and high.dtype == np.float32
    assert high.mean() > 1.2 * low.mean()


def test_real_dark_photos_become_brighter(enhancer, shared):
    paths = [*sorted((shared / "data/lol/eval15/low").glob("*.png"))[:3], shared / "data/lime/10.bmp"]
    for path in paths:
        low = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        low = cv2.resize(low, (300, 200), interpolation=cv2.INTER_AREA)
        high = enhancer(low)
        assert high.dtype == np.uint8
        assert high.mean() > 1.2 * low.mean(), path.name


def test_a_batch_equals_its_images(enhancer, rng):
    batch = np.stack([dark_scene(rng), dark_scene(rng) * np.float32(0.5), np.zeros((60, 84, 3), np.float32)])
    np.testing.assert_array_equal(enhancer(batch), np.stack([enhancer(image) for image in batch]))


def test_black_stays_black_and_white_stays_white(enhancer):
    for level in (0.0, 1.0):
        image = np.full((12, 20, 3), level, np.float32)
        np.testing.assert_allclose(enhancer(image), image, atol=1e-6)


def test_a_flat_image_stays_flat_at_the_known_level(enhancer):
    result = enhancer(np.full((21, 34, 3), 0.2, np.float32))
    np.testing.assert_allclose(result, FLAT_STAYS_FLAT_AT[enhancer.name], atol=2e-4)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (1, 9), (9, 1), (3, 2), (33, 17)])
def test_every_small_size_works(enhancer, shape, rng):
    for image in (rng.random((*shape, 3), np.float32), np.zeros((*shape, 3), np.float32)):
        image[0, 0] = 1
        result = enhancer(image)
        assert result.shape == image.shape
        assert np.isfinite(result).all() and result.min() >= 0 and result.max() <= 1


def test_values_outside_the_range_count_as_clipped(enhancer, rng):
    image = dark_scene(rng)
    image[0, 0], image[5, 5] = -3.0, 7.0
    np.testing.assert_array_equal(enhancer(image), enhancer(np.clip(image, 0, 1)))


def test_the_input_is_not_written_to(enhancer, rng):
    image = dark_scene(rng)
    before = image.copy()
    image.setflags(write=False)
    enhancer(image)
    np.testing.assert_array_equal(image, before)


def test_a_view_that_is_not_contiguous_gives_the_same(enhancer, rng):
    image = dark_scene(rng)
    np.testing.assert_array_equal(enhancer(image[:, ::-1][::2]), enhancer(np.ascontiguousarray(image[:, ::-1][::2])))


def test_one_white_pixel_does_not_spoil_the_rest(enhancer, rng):
    low = dark_scene(rng)
    spoiled = low.copy()
    spoiled[-2, -2] = 1
    difference = np.abs(enhancer(spoiled) - enhancer(low))
    # Away from the pixel itself: a stretch to the range of the result would move every value by tens of levels.
    assert np.median(difference) < 2 / 255


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.float32), "shape="),
        (np.zeros((4, 4, 4), np.float32), "shape="),
        (np.zeros((0, 4, 3), np.float32), "no empty side"),
        (np.zeros((4, 4, 3), np.int32), "dtype=int32"),
        (np.full((4, 4, 3), np.nan, np.float32), "finite"),
    ],
)
def test_a_wrong_image_is_named(enhancer, image, message):
    with pytest.raises(ValueError, match=message):
        enhancer(image)
