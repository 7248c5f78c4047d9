from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfllv.losses import supervised as losses
from tfllv.metrics import fidelity
from tfllv.objectives import supervised


@pytest.fixture
def batch(rng):
    high = rng.uniform(0, 1, (2, 16, 16, 3)).astype(np.float32)
    return {"low": tf.constant(high * 0.2), "high": tf.constant(high)}


def brighten(low, training=False):
    del training
    return {"image": low * 3}


def test_terms_are_the_weighted_losses(batch):
    objective = supervised.Supervised(weights={"charbonnier": 2.0, "ssim": 0.5, "mse": 1.0})
    terms, outputs = objective(brighten, batch)
    image = outputs["image"]
    assert set(terms) == {"charbonnier", "ssim", "mse"}
    assert float(terms["charbonnier"]) == pytest.approx(2 * float(losses.charbonnier(image, batch["high"])))
    assert float(terms["ssim"]) == pytest.approx(0.5 * float(losses.ssim(image, batch["high"])))


def test_the_default_is_charbonnier_alone(batch):
    terms, _ = supervised.Supervised()(brighten, batch)
    assert list(terms) == ["charbonnier"]


def test_measured_psnr_is_that_of_the_metric(batch):
    image = brighten(batch["low"])["image"] * 1.9  # beyond white in places
    measured = float(supervised.Supervised().measures(batch, {"image": image})["psnr"])
    pairs = zip(np.clip(image, 0, 1), batch["high"].numpy(), strict=True)
    expected = np.mean([fidelity.psnr(np.floor(a * 255 + 0.5) / 255, b) for a, b in pairs])
    assert measured == pytest.approx(expected, abs=1e-3)


def test_training_is_handed_to_the_network(batch):
    seen = []

    def network(low, training):
        seen.append(training)
        return {"image": low}

    for training in (True, False):
        supervised.Supervised()(network, batch, training=training)
    assert seen == [True, False]


def test_perceptual_term_compares_features(batch):
    objective = supervised.Supervised(weights={"charbonnier": 0.0, "perceptual": 1.0}, features="random", seed=1)
    terms, _ = objective(brighten, batch)
    assert float(terms["perceptual"]) > 0
    terms, _ = objective(lambda low, training: {"image": batch["high"]}, batch)
    assert float(terms["perceptual"]) == 0
    with tf.GradientTape() as tape:
        tape.watch(batch["low"])
        terms, _ = objective(brighten, batch)
    assert np.abs(tape.gradient(terms["perceptual"], batch["low"])).max() > 0


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"charbonier": 1}, "did you mean 'charbonnier'"),
        ({"l1": -1}, "finite and >= 0"),
        ({"charbonnier": 0}, "at least one term"),
    ],
)
def test_wrong_weights_are_one_clear_error(weights, message):
    with pytest.raises(ValueError, match=message):
        supervised.Supervised(weights=weights)


def test_missing_entries_are_named(batch):
    with pytest.raises(ValueError, match="`batch` must have the key 'high'"):
        supervised.Supervised()(brighten, {"low": batch["low"]})
    with pytest.raises(ValueError, match="`outputs` must have the key 'image'"):
        supervised.Supervised()(lambda low, training: {}, batch)
