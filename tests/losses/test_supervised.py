from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfllv.losses import supervised
from tfllv.metrics import fidelity, structure

LOSSES = {name: getattr(supervised, name) for name in ("charbonnier", "l1", "mse", "log_mse", "ssim")}


@pytest.fixture
def pair(rng):
    truth = rng.uniform(0, 1, (2, 16, 20, 3)).astype(np.float32)
    return np.clip(truth + rng.normal(0, 0.1, truth.shape), 0, 1).astype(np.float32), truth


def flat(level, shape=(1, 12, 12, 3)):
    return np.full(shape, level, np.float32)


def test_hand_values():
    low, high = flat(0.25), flat(0.75)
    assert float(supervised.l1(low, high)) == pytest.approx(0.5)
    assert float(supervised.mse(low, high)) == pytest.approx(0.25)
    assert float(supervised.charbonnier(low, high)) == pytest.approx(np.sqrt(0.25 + 1e-6) - 1e-3, abs=1e-7)
    assert float(supervised.charbonnier(low, high, epsilon=0.5)) == pytest.approx(np.sqrt(0.5) - 0.5, abs=1e-6)
    assert float(supervised.log_mse(low, high)) == pytest.approx(10 * np.log10(0.25), abs=1e-5)
    # Flat pictures: only the luminance factor differs from 1. 5e-4: in float32 the variances, differences of squares,
    # are off by 1e-7, against K2^2 = 9e-4.
    expected = 1 - (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)
    assert float(supervised.ssim(low, high)) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("name", ["charbonnier", "l1", "mse", "ssim"])
def test_perfection_costs_nothing(pair, name):
    assert float(LOSSES[name](pair[1], pair[1])) == pytest.approx(0, abs=1e-6)


def test_log_mse_is_minus_the_mean_psnr(pair):
    expected = -np.mean([fidelity.psnr(a, b) for a, b in zip(*pair, strict=True)])
    assert float(supervised.log_mse(*pair)) == pytest.approx(expected, abs=1e-4)


def test_ssim_is_that_of_the_metric(pair):
    scores = [structure.ssim(a, b, window="gaussian", channels="rgb") for a, b in zip(*pair, strict=True)]
    # 1e-5: the metric runs in float64.
    assert float(supervised.ssim(*pair)) == pytest.approx(1 - np.mean(scores), abs=1e-5)


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("levels", [(0.5, 0.5), (0, 0), (0, 1)])
def test_gradient_is_finite_on_flat_pictures(name, levels):
    image, truth = tf.Variable(flat(levels[0])), flat(levels[1])
    with tf.GradientTape() as tape:
        loss = LOSSES[name](image, truth)
    assert np.isfinite(tape.gradient(loss, image)).all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradient_points_to_the_truth(pair, name):
    image, truth = tf.Variable(pair[0]), pair[1]
    with tf.GradientTape() as tape:
        loss = LOSSES[name](image, truth)
    step = 1e-3 * tf.math.l2_normalize(tape.gradient(loss, image))
    assert LOSSES[name](image - step, truth) < loss


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_pictures_of_two_shapes_are_refused(name):
    with pytest.raises(ValueError, match="`truth` must have the shape of `prediction`"):
        LOSSES[name](flat(0), flat(0, (1, 12, 12, 1)))
    with pytest.raises(ValueError, match=r"must be \[B, H, W, C\]"):
        LOSSES[name](flat(0)[0], flat(0)[0])


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="`epsilon` must be > 0"):
        supervised.charbonnier(flat(0), flat(0), epsilon=0)
    with pytest.raises(ValueError, match="sides >= 11"):
        supervised.ssim(flat(0, (1, 10, 12, 3)), flat(0, (1, 10, 12, 3)))
    with pytest.raises(ValueError, match="must have the layers"):
        supervised.perceptual([flat(0)], [])


def test_perceptual_weighs_layers_alike(rng):
    features = [
        rng.uniform(0.5, 1, (1, 4, 4, 8)).astype(np.float32),
        rng.uniform(50, 100, (1, 2, 2, 8)).astype(np.float32),
    ]
    assert float(supervised.perceptual(features, features)) == 0
    assert float(supervised.perceptual([1.1 * layer for layer in features], features)) == pytest.approx(0.1, rel=1e-4)
