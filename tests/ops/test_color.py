from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.color

from tfllv import contracts
from tfllv.ops import color


def test_luma_is_bt601(rng):
    image = rng.random((9, 7, 3), np.float32)
    np.testing.assert_allclose(color.luma(image), image @ np.array(contracts.BT601_LUMA), atol=1e-6)


def test_channel_mean_and_max_are_numpys(rng):
    image = rng.random((9, 7, 3), np.float32)
    np.testing.assert_allclose(color.channel_mean(image), image.mean(-1), atol=1e-6)
    np.testing.assert_array_equal(color.channel_max(image), image.max(-1))


def test_lightness_is_that_of_scikit_image(rng):
    image = rng.random((40, 30, 3), np.float32) ** 3
    np.testing.assert_allclose(color.lightness(image), skimage.color.rgb2lab(image)[..., 0] / 100, atol=1e-5)


def test_shifted_lightness_is_that_of_scikit_image_and_keeps_a_and_b(rng):
    image = 0.3 + 0.3 * rng.random((40, 30, 3), np.float32)
    shift = rng.random((40, 30)).astype(np.float32) * np.float32(0.2) - np.float32(0.1)
    lab = skimage.color.rgb2lab(image)
    lab[..., 0] += 100 * shift
    np.testing.assert_allclose(color.shift_lightness(image, shift), skimage.color.lab2rgb(lab), atol=1e-4)


def test_no_shift_gives_the_image_back(rng):
    image = rng.random((40, 30, 3), np.float32)
    image[0, 0], image[0, 1] = 0, 1
    np.testing.assert_allclose(color.shift_lightness(image, np.zeros((40, 30), np.float32)), image, atol=2e-5)


def test_shifted_luma_keeps_cr_and_cb(rng):
    image = 0.4 + 0.2 * rng.random((8, 8, 3), np.float32)
    old = color.luma(image)
    result = color.shift_intensity(image, old, old + np.float32(0.2))
    before, after = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb), cv2.cvtColor(result, cv2.COLOR_RGB2YCrCb)
    np.testing.assert_allclose(after[..., 1:], before[..., 1:], atol=1e-6)
    np.testing.assert_allclose(after[..., 0], before[..., 0] + 0.2, atol=1e-6)


def test_scaled_intensity_keeps_the_ratios_and_never_leaves_the_range(rng):
    image = 0.01 + 0.9 * rng.random((8, 8, 3), np.float32)
    old = color.channel_mean(image)
    result = color.scale_intensity(image, old, np.ones_like(old))
    assert result.max() <= 1
    ratio = result / image
    np.testing.assert_allclose(ratio, np.repeat(ratio[..., :1], 3, 2), rtol=1e-5)


def test_a_black_pixel_becomes_the_grey_asked_for():
    black = np.zeros((2, 2, 3), np.float32)
    result = color.scale_intensity(black, black[..., 0], np.full((2, 2), 0.25, np.float32))
    np.testing.assert_array_equal(result, np.full((2, 2, 3), 0.25, np.float32))


@pytest.mark.parametrize("value", [1e-40, 1e-8])
def test_a_nearly_black_pixel_stays_finite(value):
    image = np.full((1, 1, 3), value, np.float32)
    assert np.isfinite(color.scale_intensity(image, image[..., 0], np.full((1, 1), 0.25, np.float32))).all()
