"""NIQE, and the table of metrics."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from skimage import data

from tfllv import metrics
from tfllv.metrics import naturalness


@pytest.fixture(scope="module")
def photo():
    return data.astronaut()[:288, :288]


@pytest.mark.parametrize(("name", "value"), [("I04", 3.6549), ("I06", 3.2355), ("I19", 8.6352)])
def test_niqe_is_within_half_a_percent_of_the_original(shared, name, value):
    with Image.open(shared / "data/calibration/dist_dir" / f"{name}.bmp") as picture:
        image = np.asarray(picture.convert("RGB"))
    assert metrics.niqe(image) == pytest.approx(value, rel=0.005)


def test_niqe_rises_with_noise_and_with_blur(photo, rng):
    noisy = np.clip(photo + rng.normal(0, 40, photo.shape), 0, 255).astype(np.uint8)
    averaged = photo.reshape(36, 8, 36, 8, 3).mean(axis=(1, 3), keepdims=True)
    blocky = np.broadcast_to(averaged, (36, 8, 36, 8, 3)).reshape(photo.shape).astype(np.uint8)
    assert metrics.niqe(photo) < min(metrics.niqe(noisy), metrics.niqe(blocky))


def test_float_and_uint8_images_score_alike(photo):
    assert metrics.niqe((photo / 255).astype(np.float32)) == metrics.niqe(photo)
    assert metrics.niqe(photo.astype(np.float32), max_value=255) == metrics.niqe(photo)


def test_grey_images_score_as_their_three_equal_channels(photo):
    grey = photo[..., 1]
    assert metrics.niqe(grey) == metrics.niqe(np.repeat(grey[..., None], 3, axis=2))
    assert metrics.niqe(grey[..., None]) == metrics.niqe(grey)


def test_pixels_beyond_the_last_block_do_not_count(photo):
    assert metrics.niqe(photo[:192, :250]) == metrics.niqe(photo[:192, :192])


def test_small_and_flat_images_and_batches_are_refused(photo):
    with pytest.raises(ValueError, match=r"at least two blocks of 96x96 pixels. Received: 96x191"):
        metrics.niqe(photo[:191, :96])
    with pytest.raises(ValueError, match=r"two blocks with texture. Received: 0 of 4"):
        metrics.niqe(np.full((192, 192, 3), 77, np.uint8))
    with pytest.raises(ValueError, match="not a batch"):
        metrics.niqe(photo[None])


def test_rows_of_blocks_see_the_rows_around_them(photo):
    # Three rows of blocks in one picture: the middle row's features must not depend on where the work is cut.
    features = naturalness._features(np.float64(photo[..., 1]), naturalness.BLOCK)
    whole = naturalness._contrast(np.float64(photo[..., 1]))[96:192]
    middle = naturalness._row_features(whole.reshape(96, 3, 96).swapaxes(0, 1))
    np.testing.assert_allclose(features[3:6], middle, rtol=1e-9)


def test_a_flat_part_is_left_out_not_spread(photo):
    half = photo.copy()
    half[:96] = 50
    assert np.isfinite(metrics.niqe(half))


def test_every_metric_keeps_to_its_declared_range_and_direction(photo, rng):
    truth = photo[:96, :192]
    near = np.clip(truth + rng.normal(0, 5, truth.shape), 0, 255).astype(np.uint8)
    far = np.clip(truth + rng.normal(0, 60, truth.shape), 0, 255).astype(np.uint8)
    for name, metric in metrics.METRICS.items():
        values = [metrics.measure(name, image, truth) for image in (near, far)]
        assert all(metric.range[0] <= value <= metric.range[1] for value in values), name
        assert metric.protocol and metric.name, name
        assert (values[0] > values[1]) == metric.higher_is_better, name


def test_no_two_metrics_share_a_name_and_variant():
    rows = [(metric.name, metric.variant) for metric in (*metrics.METRICS.values(), *metrics.OPTIONAL.values())]
    assert len(set(rows)) == len(rows)


def test_measure_names_the_nearest_metric_and_the_missing_truth():
    with pytest.raises(ValueError, match="did you mean 'psnr'"):
        metrics.measure("psnrr", np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="did you mean 'lpips'"):
        metrics.measure("lpip", np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="`truth` must be given for ssim"):
        metrics.measure("ssim", np.zeros((16, 16, 3)))
