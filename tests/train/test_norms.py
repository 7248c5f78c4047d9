from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfllv.config import ZeroReferenceConfig
from tfllv.inputs import pipeline
from tfllv.train import loop, norms
from tfllv.train.learner import Learner


class Net(keras.Model):
    """Two normalisations, of which the second may be frozen."""

    def __init__(self, *, frozen=False):
        super().__init__()
        self.first = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
        self.last = keras.layers.BatchNormalization(momentum=0.9, trainable=not frozen)
        self(np.zeros((1, 4, 4, 3), np.float32))

    def call(self, images, training=False):
        return {"image": self.last(self.first(images, training=training), training=training)}


def objective(net, batch, training=True):
    outputs = net(batch["low"], training=training)
    return {"mean": tf.reduce_mean(tf.square(outputs["image"]))}, outputs


def batches(count=6, seed=0):
    rng = np.random.default_rng(seed)
    # Batches of different means: the variance between them is part of the whole.
    return [{"low": (rng.normal(rng.normal(), 0.5, (4, 5, 6, 3))).astype(np.float32)} for _ in range(count)]


def test_the_statistics_are_those_of_all_batches_together():
    learner, data = Learner(Net(), objective), batches()
    weights = [variable.numpy() for variable in learner.net.trainable_variables]
    assert norms.refresh(learner, data) == 2
    whole = np.concatenate([batch["low"] for batch in data]).astype(np.float64)
    np.testing.assert_allclose(learner.net.first.moving_mean, whole.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(learner.net.first.moving_variance, whole.var((0, 1, 2)), rtol=1e-4)
    assert learner.net.first.momentum == 0.9
    for before, after in zip(weights, learner.net.trainable_variables, strict=True):
        np.testing.assert_array_equal(before, after)


def test_what_is_frozen_or_absent_is_left():
    learner = Learner(Net(frozen=True), objective)
    learner.net.last.moving_mean.assign([1.0, 2.0, 3.0])
    assert norms.refresh(learner, batches()) == 1
    np.testing.assert_array_equal(learner.net.last.moving_mean, [1.0, 2.0, 3.0])
    plain = keras.Sequential([keras.layers.Conv2D(3, 1)])
    assert norms.refresh(Learner(plain, objective), batches()) == 0
    with pytest.raises(ValueError, match="`batches` must hold a batch"):
        norms.refresh(learner, [])


def test_a_run_ends_with_the_statistics_of_the_batches_that_would_follow(images, tmp_path):
    config = ZeroReferenceConfig(image_size=16, train_batch_size=2, num_steps=3, refresh_norms=4, num_workers=1)

    def run(name, **changes):
        (tmp_path / name).mkdir(exist_ok=True)
        source = pipeline.ImageSource({"low": images}, size=16)
        trainer = loop.Loop(Learner(Net(), objective), source, config.replace(**changes), workdir=tmp_path / name)
        trainer.run()
        return trainer

    found, plain, again = run("a"), run("b", refresh_norms=0), run("a")
    (steps,) = [
        list(pipeline.training_batches(found.source, batch_size=2, seed=config.seed, start_step=3, stop_step=7))
    ]
    whole = np.concatenate([batch["low"] for batch in steps])
    np.testing.assert_allclose(found.learner.net.first.moving_mean, whole.mean((0, 1, 2)), rtol=1e-3, atol=1e-5)
    assert np.abs(found.learner.net.first.moving_mean - plain.learner.net.first.moving_mean).max() > 1e-3
    # The last checkpoint has them, so an ended run that is started again ends alike.
    for one, other in zip(found.learner.net.variables, again.learner.net.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
