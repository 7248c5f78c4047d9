"""PSNR, MAE and the mean-matching protocol."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import metrics as skimage_metrics

from tfllv import metrics
from tfllv.metrics import fidelity


@pytest.fixture
def pair(rng):
    truth = rng.random((21, 34, 3)).astype(np.float32)
    return np.clip(truth + rng.normal(0, 0.1, truth.shape), 0, 1).astype(np.float32), truth


def test_psnr_of_a_uniform_error_of_a_tenth_is_20_decibels():
    assert metrics.psnr(np.full((4, 5, 3), 0.5), np.full((4, 5, 3), 0.6)) == pytest.approx(20, abs=1e-9)


def test_identical_images_have_infinite_psnr_and_no_error(pair):
    image, _ = pair
    assert metrics.psnr(image, image) == float("inf")
    assert metrics.psnr_y(image, image) == float("inf")
    assert metrics.mae(image, image) == 0


def test_mae_of_a_uniform_error_is_that_error():
    assert metrics.mae(np.full((3, 3, 3), 0.25), np.full((3, 3, 3), 1.0)) == pytest.approx(0.75)


def test_psnr_agrees_with_scikit_image(pair):
    image, truth = pair
    expected = skimage_metrics.peak_signal_noise_ratio(truth.astype(float), image.astype(float), data_range=1)
    assert metrics.psnr(image, truth) == pytest.approx(expected, abs=1e-9)


def test_uint8_images_score_as_they_do_in_scikit_image(pair):
    image, truth = ((255 * x).astype(np.uint8) for x in pair)
    assert metrics.psnr(image, truth) == pytest.approx(skimage_metrics.peak_signal_noise_ratio(truth, image), abs=1e-9)


def test_another_white_level_changes_nothing_when_the_image_is_scaled_with_it(pair):
    image, truth = pair
    assert metrics.psnr(255 * image, 255 * truth, max_value=255) == pytest.approx(metrics.psnr(image, truth), abs=1e-5)


def test_quantize_scores_float_images_as_the_files_saved_from_them(pair):
    image, truth = pair
    saved = [np.floor(255 * x.astype(float) + 0.5).astype(np.uint8) for x in pair]
    assert metrics.psnr(image, truth, quantize=True) == pytest.approx(metrics.psnr(*saved), abs=1e-12)
    assert metrics.psnr(image, truth, quantize=True) != metrics.psnr(image, truth)


def test_psnr_y_sees_only_the_luma():
    grey = np.full((8, 8, 3), 0.5)
    tinted = grey + 0.1 * np.array([1, 0, -0.299 / 0.114])
    assert metrics.psnr_y(tinted, grey) > 200
    assert metrics.psnr(tinted, grey) < 20


def test_studio_levels_raise_the_luma_psnr_by_their_smaller_span(pair):
    gain = metrics.psnr_y(*pair, levels="studio") - metrics.psnr_y(*pair)
    assert gain == pytest.approx(20 * np.log10(255 / 219), abs=1e-9)


def test_studio_luma_runs_from_16_to_235():
    ends = metrics.luma(np.array([[[0.0, 0, 0], [1, 1, 1]]]), levels="studio")
    np.testing.assert_allclose(255 * ends, [[16, 235]], atol=1e-9)


def test_mean_matching_undoes_a_gain(pair):
    _, truth = pair
    matched = metrics.gt_mean(0.25 * truth, truth)
    np.testing.assert_allclose(matched, truth, atol=1e-6)
    assert metrics.psnr(matched, truth) > 100 > metrics.psnr(0.25 * truth, truth)


@pytest.mark.parametrize("levels", ["full", "studio"])
def test_psnr_after_mean_matching_is_that_of_the_matched_image(pair, levels):
    image, truth = 0.3 * pair[0], pair[1]
    matched = metrics.gt_mean(image, truth)
    assert metrics.psnr(image, truth, match_mean=True) == pytest.approx(metrics.psnr(matched, truth), abs=1e-9)
    expected = metrics.psnr_y(matched, truth, levels=levels)
    assert metrics.psnr_y(image, truth, match_mean=True, levels=levels) == pytest.approx(expected, abs=1e-9)


def test_strips_and_the_whole_give_one_number(pair, monkeypatch):
    image, truth = pair
    functions = (metrics.psnr, metrics.psnr_y, metrics.mae, metrics.ssim, metrics.gmsd)
    whole = [function(image, truth) for function in functions]
    matched = metrics.psnr(image, truth, match_mean=True)
    for values in (1, 34 * 3 * 4, 34 * 3 * 13):  # strips of 1, 4 and 13 of the 21 rows
        monkeypatch.setattr(fidelity, "STRIP_VALUES", values)
        assert [function(image, truth) for function in functions] == pytest.approx(whole, abs=1e-12)
        assert metrics.psnr(image, truth, match_mean=True) == pytest.approx(matched, abs=1e-12)


def test_a_batch_counts_all_its_pixels(pair):
    batch = np.stack([pair[0], pair[1]]), np.stack([pair[1], pair[1]])
    assert metrics.psnr(*batch) == pytest.approx(metrics.psnr(*pair) + 10 * np.log10(2), abs=1e-9)


def test_mean_matching_leaves_a_black_image_black():
    assert not metrics.gt_mean(np.zeros((4, 4, 3)), np.ones((4, 4, 3))).any()


@pytest.mark.parametrize("function", [metrics.psnr, metrics.psnr_y, metrics.mae, metrics.ssim, metrics.gmsd])
def test_images_of_two_sizes_are_refused_in_one_line(function):
    with pytest.raises(
        ValueError, match=r"`a` and `b` must have one shape; nothing is resized.*\(16, 16, 3\)"
    ) as caught:
        function(np.zeros((16, 16, 3)), np.zeros((16, 17, 3)))
    assert "\n" not in str(caught.value)


def test_an_image_in_255_levels_is_not_scored_as_if_it_were_in_the_unit_range():
    with pytest.raises(ValueError, match="pass max_value=255"):
        metrics.psnr(np.full((4, 4, 3), 200.0), np.full((4, 4, 3), 180.0))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.int32), "must be uint8 or float"),
        (np.full((4, 4, 3), np.nan), "must be finite"),
        (np.zeros((0, 4, 3)), r"must be \[H, W\]"),
        (np.zeros(4), r"must be \[H, W\]"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        metrics.psnr(image, image)


def test_wrong_options_are_refused(pair):
    with pytest.raises(ValueError, match="`max_value` must be > 0"):
        metrics.psnr(*pair, max_value=0)
    with pytest.raises(ValueError, match="`levels` must be one of full, studio"):
        metrics.psnr_y(*pair, levels="tv")
    with pytest.raises(ValueError, match="must be RGB"):
        metrics.psnr_y(pair[0][..., 0], pair[1][..., 0])


def test_rounded_luma_sends_ties_up():
    image = np.array([[[0, 0, 0], [10, 0, 0], [250, 250, 250], [0, 0, 250]]]) / 255  # lumas 0, 2.99, 250 and 28.5
    np.testing.assert_array_equal(np.rint(255 * fidelity.grey_or_same(image, True)), [[0, 3, 250, 29]])
