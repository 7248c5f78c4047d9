from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from tfllv.ops import retinex


@pytest.fixture
def image(rng) -> np.ndarray:
    y, x = np.mgrid[:70, :90]
    light = 0.04 + 0.3 * np.exp(-((x - 20) ** 2 + (y - 15) ** 2) / 400)
    picture = light[..., None] * np.array([1.0, 0.8, 0.5]) * rng.uniform(0.5, 1, (70, 90, 3))
    picture[30:50, 40:70] *= 2
    return picture.astype(np.float32)


def retinex_by_the_paper(image: np.ndarray, sigmas: tuple[float, ...]) -> np.ndarray:
    """Mean over the scales of log(I + 1) - log(G * (I + 1)) per channel, then the range to [0, 1]; in float64."""
    levels = image.astype(np.float64) * 255 + 1
    ratios = [
        np.log(levels) - np.log(scipy.ndimage.gaussian_filter(levels, (sigma, sigma, 0), mode="reflect", truncate=6))
        for sigma in sigmas
    ]
    ratio = np.mean(ratios, axis=0)
    return (ratio - ratio.min()) / (ratio.max() - ratio.min())


@pytest.mark.parametrize("sigma", [2.0, 15.0, 80.0])
def test_ssr_is_the_papers_formula(sigma, image):
    result = retinex.apply_ssr(image, sigma=sigma, reference=True)
    np.testing.assert_allclose(result, retinex_by_the_paper(image, (sigma,)), atol=1e-4)


def test_msr_is_the_papers_mean_of_three_scales(image):
    result = retinex.apply_msr(image, reference=True)
    np.testing.assert_allclose(result, retinex_by_the_paper(image, (15, 80, 250)), atol=1e-4)


def test_ssr_is_near_the_reference_with_scipys_own_truncation(image):
    levels = image.astype(np.float64) * 255 + 1
    ratio = np.log(levels) - np.log(scipy.ndimage.gaussian_filter(levels, (15, 15, 0)))
    expected = (ratio - ratio.min()) / np.ptp(ratio)
    np.testing.assert_allclose(retinex.apply_ssr(image, reference=True), expected, atol=1 / 255 / 2)


def test_msr_of_one_scale_is_ssr(image):
    np.testing.assert_array_equal(retinex.apply_msr(image, sigmas=(15.0,)), retinex.apply_ssr(image))


def test_the_defaults_without_chromaticity_are_the_formula_between_percentiles(image):
    ratio = retinex_by_the_paper(image, (15, 80, 250))
    low, high = np.percentile(ratio, (5, 99.9))
    expected = np.clip((ratio - low) / (high - low), 0, 1)
    np.testing.assert_allclose(retinex.apply_msr(image, chromaticity=0), expected, atol=2e-3)


def test_full_chromaticity_keeps_the_ratios_of_the_channels(image):
    result = retinex.apply_msr(image, chromaticity=1)
    lit = result.min(-1) > 0.01
    ratio = result[lit] / image[lit]
    np.testing.assert_allclose(ratio, np.repeat(ratio[:, :1], 3, 1), rtol=1e-4)


def test_half_chromaticity_is_the_mean_of_both(image):
    alone, ratios = (retinex.apply_ssr(image, chromaticity=share) for share in (0, 1))
    np.testing.assert_allclose(retinex.apply_ssr(image, chromaticity=0.5), (alone + ratios) / 2, atol=1e-6)


def test_the_surround_removes_a_slow_change_of_light(rng):
    texture = rng.uniform(0.4, 0.8, (80, 120)).astype(np.float32)
    lit = texture * np.linspace(0.2, 1, 120, dtype=np.float32)
    _, ratio = retinex.log_ratios(np.repeat(lit[..., None], 3, -1), sigmas=(15,))
    left, right = (ratio[:, part].mean() for part in (slice(20, 50), slice(70, 100)))
    assert abs(left - right) < 0.02 < abs(np.log(lit[:, 20:50].mean() / lit[:, 70:100].mean()))


def test_one_bright_pixel_spoils_the_reference_and_not_the_default(image):
    spoiled = image.copy()
    spoiled[60, 80] = 1
    moved = {
        reference: np.median(
            np.abs(retinex.apply_ssr(spoiled, reference=reference) - retinex.apply_ssr(image, reference=reference))
        )
        for reference in (False, True)
    }
    assert moved[False] < 0.02 < moved[True]


def test_a_dot_on_a_flat_ground_is_stretched_by_the_whole_range():
    values = np.full((60, 60), 0.1, np.float32)
    values[30, 30] = 0.9
    assert retinex.stretch(values, clip=(5, 0.01))
    assert values[30, 30] == 1 and (np.delete(values.ravel(), 30 * 60 + 30) == 0).all()


def test_no_contrast_is_reported_and_left():
    values = np.full((60, 60), 0.1, np.float32)
    assert not retinex.stretch(values, clip=(5, 0.1))
    assert (values == np.float32(0.1)).all()


def test_stretching_a_large_map_reads_a_grid_of_it(rng, monkeypatch):
    monkeypatch.setattr(retinex, "SAMPLES", 1000)
    values = rng.normal(size=(200, 300)).astype(np.float32)
    low, high = np.percentile(values, (5, 99))
    expected = np.clip((values - low) / (high - low), 0, 1)
    assert retinex.stretch(values, clip=(5, 1))
    assert np.abs(values - expected).mean() < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigmas": ()}, "`sigmas` must hold at least one"),
        ({"sigmas": (15, 0.1)}, "`sigma` must be >= 1"),
        ({"clip": (50, 1)}, "`clip` must be two percentages"),
        ({"clip": (1,)}, "`clip` must be two percentages"),
        ({"chromaticity": -0.1}, "`chromaticity` must be in"),
    ],
)
def test_a_wrong_option_is_named(options, message, image):
    with pytest.raises(ValueError, match=message):
        retinex.apply_msr(image, **options)
