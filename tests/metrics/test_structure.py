"""SSIM and GMSD."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from skimage import metrics as skimage_metrics

from tfllv import metrics


@pytest.fixture
def pair(rng):
    truth = rng.random((40, 31, 3))
    return np.clip(truth + rng.normal(0, 0.1, truth.shape), 0, 1), truth


def test_gaussian_ssim_on_grey_agrees_with_scikit_image(pair):
    image, truth = (x[..., 0] for x in pair)
    expected = skimage_metrics.structural_similarity(
        truth, image, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
    )
    assert metrics.ssim(image, truth) == pytest.approx(expected, abs=1e-12)


def test_gaussian_ssim_by_channel_agrees_with_scikit_image(pair):
    expected = skimage_metrics.structural_similarity(
        *pair, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=-1
    )
    assert metrics.ssim(*pair, channels="rgb") == pytest.approx(expected, abs=1e-12)


def test_uniform_ssim_agrees_with_scikit_image(pair):
    expected = skimage_metrics.structural_similarity(*pair, data_range=1, channel_axis=-1)
    assert metrics.ssim(*pair, window="uniform", channels="rgb") == pytest.approx(expected, abs=1e-12)
    grey = [metrics.luma(x) for x in pair]
    expected = skimage_metrics.structural_similarity(*grey, data_range=1)
    assert metrics.ssim(*pair, window="uniform") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("window", ["gaussian", "uniform"])
@pytest.mark.parametrize("channels", ["grey", "rgb"])
def test_identical_images_have_similarity_one(pair, window, channels):
    assert metrics.ssim(pair[0], pair[0], window=window, channels=channels) == pytest.approx(1, abs=1e-12)
    flat = np.full((12, 12, 3), 0.3)
    assert metrics.ssim(flat, flat, window=window, channels=channels) == pytest.approx(1, abs=1e-12)


def test_ssim_of_two_flat_images_is_its_luminance_term():
    a, b = np.full((11, 11), 0.2), np.full((11, 11), 0.6)
    assert metrics.ssim(a, b) == pytest.approx((2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4), abs=1e-9)


def test_ssim_is_symmetric(pair):
    assert metrics.ssim(*pair) == pytest.approx(metrics.ssim(*pair[::-1]), abs=1e-12)


def test_gmsd_of_identical_images_is_zero_and_grows_with_the_error(pair):
    image, truth = pair
    assert metrics.gmsd(truth, truth) == 0
    assert 0 < metrics.gmsd(0.9 * truth + 0.1 * image, truth) < metrics.gmsd(image, truth) < 0.36


def test_wrong_options_and_small_images_are_refused(pair):
    with pytest.raises(ValueError, match="`window` must be one of gaussian, uniform"):
        metrics.ssim(*pair, window="box")
    with pytest.raises(ValueError, match="`channels` must be one of grey, rgb"):
        metrics.ssim(*pair, channels="y")
    with pytest.raises(ValueError, match="at least 11x11"):
        metrics.ssim(np.zeros((10, 40, 3)), np.zeros((10, 40, 3)))
    with pytest.raises(ValueError, match="at least 4x4"):
        metrics.gmsd(np.zeros((3, 9)), np.zeros((3, 9)))


@pytest.mark.parametrize(
    ("name", "psnr", "ssim", "gmsd"),
    [("I04", 20.99, 0.9978, 0.0005), ("I06", 27.01, 0.9989, 0.0004), ("I19", 21.62, 0.6519, 0.2050)],
)
def test_the_original_implementations_values_are_reached(shared, name, psnr, ssim, gmsd):
    image, truth = (
        np.asarray(Image.open(shared / "data/calibration" / folder / f"{name}.bmp").convert("RGB"))
        for folder in ("dist_dir", "ref_dir")
    )
    assert metrics.measure("psnr", image, truth) == pytest.approx(psnr, abs=0.005)
    assert metrics.measure("ssim", image, truth) == pytest.approx(ssim, abs=5e-5)
    assert metrics.measure("gmsd", image, truth) == pytest.approx(gmsd, abs=5e-5)
