from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import skimage.exposure

from tfllv.ops import color, exposure


@pytest.fixture
def levels(rng) -> np.ndarray:
    """A dark 8-bit picture with a gradient, edges and noise; sides that 8 tiles do not divide."""
    y, x = np.mgrid[:75, :101]
    image = np.stack([20 + x // 3, 12 + y // 2, 30 + (x + y) // 6], -1) + rng.integers(-4, 5, (75, 101, 3))
    image[20:40, 30:60] += 90
    return image.astype(np.uint8)


def in_levels(image: np.ndarray) -> np.ndarray:
    return image * np.float64(255)


# Histogram equalisation.


def test_equalizing_a_grey_image_is_opencvs_equalize_hist(levels):
    grey = levels[..., 1]
    result = exposure.equalize_histogram(np.repeat(grey[..., None], 3, -1))
    np.testing.assert_allclose(in_levels(result), np.repeat(cv2.equalizeHist(grey)[..., None], 3, -1), atol=0.51)


def test_equalizing_by_the_reference_is_opencv_on_y_of_ycrcb_bit_for_bit(levels):
    planes = cv2.cvtColor(levels, cv2.COLOR_RGB2YCrCb)
    planes[..., 0] = cv2.equalizeHist(planes[..., 0])
    expected = cv2.cvtColor(planes, cv2.COLOR_YCrCb2RGB)
    result = in_levels(exposure.equalize_histogram(levels, reference=True))
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_without_chromaticity_only_the_rounding_of_the_reference_is_gone(levels):
    luma = levels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    rounded = np.floor(luma + 0.5).astype(np.uint8)
    occupied, first = np.unique(rounded, return_index=True)
    curve = cv2.equalizeHist(rounded).ravel()[first]
    shift = np.interp(luma, occupied, curve) - luma
    expected = np.clip(levels + shift[..., None], 0, 255)
    # Half a level for the rounding of OpenCV's curve; a little more where the curve is steep.
    np.testing.assert_allclose(in_levels(exposure.equalize_histogram(levels, chromaticity=0)), expected, atol=0.6)


def test_equalizing_keeps_the_order_of_levels():
    ramp = np.repeat(np.linspace(0, 0.2, 4000, dtype=np.float32).reshape(40, 100, 1), 3, -1)
    result = exposure.equalize_histogram(ramp)[..., 0].ravel()
    assert (np.diff(result) >= -1e-6).all()
    assert result[0] == 0 and result[-1] == pytest.approx(1)
    # The picture spans 52 of 256 levels; stepwise look-up would leave no more than 52 different values.
    assert len(np.unique(result.round(5))) > 1000


def test_chromaticity_keeps_colour(levels):
    pale, vivid = (exposure.equalize_histogram(levels, chromaticity=share) for share in (0, 1))
    assert np.ptp(vivid, axis=-1).mean() > 1.5 * np.ptp(pale, axis=-1).mean()


# CLAHE.


@pytest.mark.parametrize("shape", [(75, 101), (80, 101), (80, 104), (8, 9), (2, 3)])
@pytest.mark.parametrize(("clip_limit", "tiles"), [(3.0, (8, 8)), (40.0, (8, 8)), (2.0, (3, 5))])
def test_tiles_are_equalized_as_by_opencv(shape, clip_limit, tiles, rng):
    channel = rng.integers(0, 160, shape, np.uint8)
    expected = cv2.createCLAHE(clip_limit, tiles[::-1]).apply(channel)
    strips = exposure._equalize_tiles(channel.astype(np.float32) / 255, clip_limit, tiles)
    np.testing.assert_allclose(in_levels(np.concatenate([values for _, values in strips])), expected, atol=1.01)


def test_clahe_is_opencvs_on_l_of_lab(levels):
    planes = cv2.cvtColor(levels, cv2.COLOR_RGB2Lab)
    planes[..., 0] = cv2.createCLAHE(3.0, (8, 8)).apply(planes[..., 0])
    expected = cv2.cvtColor(planes, cv2.COLOR_Lab2RGB)
    np.testing.assert_allclose(in_levels(exposure.equalize_adaptive(levels, reference=True)), expected, atol=1e-4)
    # The float path is off by the rounding of L, a and b to 8 bits, which the curve's slope enlarges up to threefold.
    assert np.abs(in_levels(exposure.equalize_adaptive(levels)) - expected).mean() < 2.5


def test_clahe_leaves_a_constant_image_unchanged():
    for level in (0.0, 0.04, 0.5, 1.0):
        image = np.full((64, 64, 3), level, np.float32)
        np.testing.assert_array_equal(exposure.equalize_adaptive(image), image)


def test_clahe_limits_the_contrast(levels):
    gentle, strong = (exposure.equalize_adaptive(levels, clip_limit=limit) for limit in (1.0, 40.0))
    assert strong.std() > 1.5 * gentle.std()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_limit": 0}, "`clip_limit` must be finite and > 0"),
        ({"clip_limit": math.nan}, "`clip_limit` must be finite and > 0"),
        ({"tiles": (0, 8)}, "`tiles` must be"),
        ({"tiles": (8,)}, "`tiles` must be"),
    ],
)
def test_clahe_names_a_wrong_option(options, message, levels):
    with pytest.raises(ValueError, match=message):
        exposure.equalize_adaptive(levels, **options)


def test_equalizing_names_a_wrong_option(levels):
    with pytest.raises(ValueError, match="`chromaticity` must be in"):
        exposure.equalize_histogram(levels, chromaticity=1.5)


# Gamma.


@pytest.mark.parametrize("gamma", [0.3, 0.5, 1.0, 2.2])
def test_gamma_is_scikit_images(gamma, rng):
    image = rng.random((20, 30, 3), np.float32)
    image[0, 0], image[0, 1] = 0, 1
    np.testing.assert_allclose(
        exposure.adjust_gamma(image, gamma=gamma), skimage.exposure.adjust_gamma(image, gamma), atol=1e-6
    )


def test_gamma_and_its_inverse_cancel(rng):
    image = rng.random((20, 30, 3), np.float32)
    np.testing.assert_allclose(exposure.adjust_gamma(exposure.adjust_gamma(image), gamma=2.0), image, atol=1e-6)


@pytest.mark.parametrize("gamma", [0, -1, math.nan, math.inf])
def test_gamma_must_be_positive(gamma, levels):
    with pytest.raises(ValueError, match=r"`gamma` must be finite and > 0. Received: gamma="):
        exposure.adjust_gamma(levels, gamma=gamma)


# Exposure.


@pytest.mark.parametrize("gain", [0.5, 1.5, 4.0])
def test_exposure_is_opencvs_convert_scale_abs(gain, levels):
    expected = cv2.convertScaleAbs(levels, alpha=gain)
    np.testing.assert_allclose(in_levels(exposure.adjust_exposure(levels, gain=gain)), expected, atol=0.51)


def test_exposure_is_linear_below_white(rng):
    image = rng.random((20, 30, 3), np.float32) / 3
    np.testing.assert_allclose(exposure.adjust_exposure(image) / 1.5, image, atol=1e-6)


@pytest.mark.parametrize("gain", [0, -1, math.nan, math.inf])
def test_gain_must_be_positive(gain, levels):
    with pytest.raises(ValueError, match=r"`gain` must be finite and > 0. Received: gain="):
        exposure.adjust_exposure(levels, gain=gain)


# Adaptive gamma.


def test_adaptive_gamma_is_scikit_images_at_the_gamma_of_the_formula(levels):
    image = levels.astype(np.float32) / 255
    gamma = np.log(0.5) / np.log((image @ np.array([0.299, 0.587, 0.114])).mean())
    assert 0.2 < gamma < 1
    np.testing.assert_allclose(exposure.adapt_gamma(levels), skimage.exposure.adjust_gamma(image, gamma), atol=1e-5)


@pytest.mark.parametrize("level", [0.002, 0.05, 0.2, 0.49])
def test_adaptive_gamma_brightens_every_dark_image(level, rng):
    image = np.clip(rng.gamma(1.0, level, (40, 40, 3)), 0, 1).astype(np.float32)
    assert color.luma(image).mean() < 0.5
    result = exposure.adapt_gamma(image)
    assert (result >= image).all() and result.mean() > image.mean()


def test_adaptive_gamma_puts_a_flat_image_on_the_target():
    for level in (0.05, 0.3, 0.5, 0.6):
        result = exposure.adapt_gamma(np.full((4, 4, 3), level, np.float32), target=0.4)
        np.testing.assert_allclose(result, 0.4, atol=1e-5)


def test_the_chosen_gamma_is_within_limits_at_every_mean():
    assert exposure.choose_gamma(0.0) == exposure.choose_gamma(1e-30) == 0.2
    assert exposure.choose_gamma(1.0) == exposure.choose_gamma(0.9999) == 2.5
    assert exposure.choose_gamma(0.5) == pytest.approx(1)
    assert exposure.choose_gamma(0.9, limits=(0.2, 1)) == 1
    means = np.linspace(0, 1, 101)
    assert (np.diff([exposure.choose_gamma(mean) for mean in means]) >= 0).all()


def test_each_image_of_a_batch_has_its_own_gamma():
    batch = np.stack([np.full((4, 4, 3), level, np.float32) for level in (0.1, 0.3)])
    np.testing.assert_allclose(exposure.adapt_gamma(batch), 0.5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 0}, "`target` must be between 0 and 1"),
        ({"target": 1}, "`target` must be between 0 and 1"),
        ({"limits": (0, 1)}, "`limits` must be"),
        ({"limits": (1.1, 2)}, "`limits` must be"),
        ({"limits": (0.5, math.inf)}, "`limits` must be"),
    ],
)
def test_adaptive_gamma_names_a_wrong_option(options, message, levels):
    with pytest.raises(ValueError, match=message):
        exposure.adapt_gamma(levels, **options)
