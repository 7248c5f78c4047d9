"""The statistics that batch normalisation uses after training, computed anew when the weights are final.

While a network trains, its moving means lag behind weights that move, and average a few small batches. What is computed
here is of the whole: mean and variance over many batches under the final weights (Wu and Johnson 2021, "Rethinking
'Batch' in BatchNorm", https://arxiv.org/abs/2105.07576).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfllv.train.learner import Learner


def refresh(learner: Learner, batches: Iterable[Mapping[str, tf.Tensor]]) -> int:
    """Computes the statistics of every trained batch normalisation over some batches; no weight changes.

    The variance is that of all values together: the mean of the batches' own, and the variance of their means.

    Args:
      learner: network and objective, with the final weights.
      batches: as in training; each counts alike.

    Returns:
      The number of layers; 0 if the network has none that is trained.

    Raises:
      ValueError: if there is no batch.
    """
    every = [layer for layer in learner.net._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    layers = [layer for layer in every if layer.trainable]
    if not layers:
        return 0
    momenta = [layer.momentum for layer in layers]
    means: list[list[np.ndarray]] = [[] for _ in layers]
    variances: list[list[np.ndarray]] = [[] for _ in layers]

    @tf.function(autograph=False, reduce_retracing=True)
    def run(batch: Mapping[str, tf.Tensor]) -> Any:
        return list(learner.terms(batch, training=True)[0].values())

    try:
        for layer in layers:
            layer.momentum = 0.0  # what is kept then is a batch's own
        for batch in batches:
            run(batch)
            for index, layer in enumerate(layers):
                means[index].append(np.asarray(layer.moving_mean, np.float64))
                variances[index].append(np.asarray(layer.moving_variance, np.float64))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    if not means[0]:
        raise ValueError("`batches` must hold a batch. Received: none.")
    for layer, mean, variance in zip(layers, means, variances, strict=True):
        layer.moving_mean.assign(np.mean(mean, axis=0))
        layer.moving_variance.assign(np.mean(variance, axis=0) + np.var(mean, axis=0))
    return len(layers)
