from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfllv import models
from tfllv.objectives import adversarial

WEIGHTS = {"charbonnier": 0.0, "l1": 100.0}


@pytest.fixture
def batch(rng):
    high = rng.uniform(0, 1, (2, 32, 32, 3)).astype(np.float32)
    return {"low": tf.constant(high * 0.2), "high": tf.constant(high)}


@pytest.fixture
def net():
    return models.build("pix2pix", n_feat=4, depth=3)


def make():
    return adversarial.Adversarial(weights=WEIGHTS, discriminator_features=4)


def test_terms_have_their_hand_values(net, batch):
    objective = make()
    terms, outputs = objective(net, batch)
    assert set(terms) == {"l1", "adversarial", "discriminator"}
    image = outputs["image"].numpy()
    real = objective.discriminator(np.concatenate([batch["low"], batch["high"]], -1)).numpy()
    fake = objective.discriminator(np.concatenate([batch["low"], image], -1)).numpy()
    expected = 0.5 * (np.log1p(np.exp(-real)).mean() + np.log1p(np.exp(fake)).mean())
    assert float(terms["discriminator"]) == pytest.approx(expected, rel=1e-4)
    assert float(terms["adversarial"]) == pytest.approx(np.log1p(np.exp(-fake)).mean(), rel=1e-4)


def test_each_network_is_trained_by_its_own_terms_alone(net, batch):
    objective = make()
    with tf.GradientTape(persistent=True) as tape:
        terms, _ = objective(net, batch)
        generator_loss = terms["l1"] + terms["adversarial"]
    mine = [variable.value for variable in net.trainable_variables]
    others = [variable.value for variable in objective.trainable_variables]
    assert all(gradient is None for gradient in tape.gradient(generator_loss, others))
    assert all(gradient is None for gradient in tape.gradient(terms["discriminator"], mine))
    assert all(np.abs(gradient).max() > 0 for gradient in tape.gradient(terms["adversarial"], mine))
    assert all(np.abs(gradient).max() > 0 for gradient in tape.gradient(terms["discriminator"], others))


def test_validation_asks_for_the_supervised_terms_alone(net, batch):
    terms, _ = make()(net, batch, training=False)
    assert set(terms) == {"l1"}


def test_a_weight_of_nothing_is_refused():
    with pytest.raises(ValueError, match="`adversarial` must be finite and > 0"):
        adversarial.Adversarial(adversarial=0)
