from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy.ndimage

from tfllv.ops import filters


@pytest.mark.parametrize("sigma", [2, 15, 80, 250])
@pytest.mark.parametrize("shape", [(64, 97), (1, 1), (2, 3), (1, 40)])
def test_blur_is_scipys_with_reflected_borders(sigma, shape, rng):
    channel = rng.random(shape)
    expected = scipy.ndimage.gaussian_filter(channel, sigma, mode="reflect", truncate=6)
    np.testing.assert_allclose(filters.blur_gaussian(channel.astype(np.float32), sigma=sigma), expected, atol=1e-5)


def test_blur_keeps_the_mean_and_a_flat_channel(rng):
    channel = rng.random((50, 60), np.float32)
    assert filters.blur_gaussian(channel, sigma=30).mean() == pytest.approx(channel.mean(), rel=1e-5)
    flat = np.full((50, 60), 200, np.float32)
    np.testing.assert_allclose(filters.blur_gaussian(flat, sigma=30), flat, rtol=1e-5)


@pytest.mark.parametrize("sigma", [0, 0.5, -1, float("nan")])
def test_a_sigma_below_a_pixel_is_refused(sigma):
    with pytest.raises(ValueError, match="`sigma` must be >= 1"):
        filters.blur_gaussian(np.zeros((4, 4), np.float32), sigma=sigma)


def test_a_target_that_is_linear_in_the_guide_is_fitted(rng):
    guide = rng.random((40, 50), np.float32)
    slope, offset = filters.fit_guided(guide, 3 * guide + np.float32(0.5), radius=3, epsilon=1e-9)
    np.testing.assert_allclose(slope, 3, atol=1e-3)
    np.testing.assert_allclose(offset, 0.5, atol=1e-3)


def test_the_fit_is_the_guided_filter_written_out(rng):
    guide, target = rng.random((2, 12, 15)).astype(np.float32)
    radius, epsilon = 2, 0.01
    padded = np.pad(np.stack([guide, target]), ((0, 0), (4, 4), (4, 4)), "symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded.astype(np.float64), (5, 5), axis=(1, 2))
    mean = windows.mean((-1, -2))
    covariance = (windows[0] * windows[1]).mean((-1, -2)) - mean[0] * mean[1]
    slope = covariance / (windows[0].var((-1, -2)) + epsilon)
    offset = mean[1] - slope * mean[0]
    expected = [np.lib.stride_tricks.sliding_window_view(part, (5, 5)).mean((-1, -2)) for part in (slope, offset)]
    actual = filters.fit_guided(guide, target, radius=radius, epsilon=epsilon)
    # The window's own border differs by a pixel (mirrored coefficients against mirrored pixels): compare inside.
    for got, wanted in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got[2:-2, 2:-2], wanted[2:-2, 2:-2], atol=1e-5)


def test_an_enlarged_fit_keeps_the_edge_of_a_large_guide():
    guide = np.full((120, 160), 0.1, np.float32)
    guide[:, 83:] = 0.8
    small = cv2.resize(guide, (40, 30), interpolation=cv2.INTER_AREA)
    slope, offset = filters.fit_guided(small, small, radius=2, epsilon=1e-4)
    enlarged = guide * cv2.resize(slope, (160, 120)) + cv2.resize(offset, (160, 120))
    # 3 % of the step; plain enlargement below is off by a third of it.
    np.testing.assert_allclose(enlarged, guide, atol=0.02)
    assert np.abs(cv2.resize(small, (160, 120)) - guide).max() > 0.2
