"""Batch normalisation that is right at inference: the configured decay in every layer, and a refresh before saving.

Training normalises with the statistics of the batch; inference with running averages, of which a share of 1 - decay is
renewed a step. TFOD's EfficientNet ignores the decay of the configuration and keeps 0.99, so a run of a few hundred
steps ends with averages of weights long gone: a detector that scores .96 on its training images in training mode gave
them .02 in evaluation mode. Two things mend it: `apply_decay`, and `Refresh`, which replaces the averages by the plain
mean over a number of batches with the weights as they are (Wu and Johnson 2021, "Rethinking Batch in BatchNorm",
arXiv:2105.07576, section 3: PreciseBN). Neither touches a trained weight; frozen layers are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def layers(model: Any) -> list[Any]:
    """Returns the batch-normalisation layers of a TFOD model whose averages training renews.

    Args:
      model: a TFOD `DetectionModel`.
    """
    from tf_keras.src.layers.normalization import batch_normalization

    found: list[Any] = [
        layer for layer in model.submodules if isinstance(layer, batch_normalization.BatchNormalizationBase)
    ]
    # `_training` is how TFOD's `FreezableBatchNorm` is frozen.
    return [layer for layer in found if layer.trainable and getattr(layer, "_training", None) is not False]


def decay_of(config: Any) -> float | None:
    """Returns the decay that a configuration gives its feature extractor's batch normalisation, or None."""
    architecture = getattr(config.model, config.model.WhichOneof("model"))
    if not hasattr(architecture, "feature_extractor"):
        return None
    extractor = architecture.feature_extractor
    if not extractor.HasField("conv_hyperparams") or not extractor.conv_hyperparams.HasField("batch_norm"):
        return None
    return float(extractor.conv_hyperparams.batch_norm.decay)


def apply_decay(model: Any, decay: float) -> int:
    """Gives every layer of `layers` the decay; to be called before the first trace.

    Returns:
      The number of layers that had another.
    """
    changed = 0
    for layer in layers(model):
        if abs(layer.momentum - decay) > 1e-6:
            layer.momentum = decay
            changed += 1
    return changed


class Refresh:
    """Replaces the running averages by the mean statistics of some training batches.

    Args:
      model: a TFOD `DetectionModel` whose variables exist.
      forward: (features, labels) -> anything: the forward pass in training mode, as a replica runs it.
    """

    def __init__(self, model: Any, forward: Callable[[Any, Any], Any]):
        import tensorflow as tf

        self._tf = tf
        self.layers = layers(model)
        self._forward = forward
        # The share that is kept: after batch i, counted from 0, i / (i + 1), which makes the average a plain mean.
        self._decay = tf.Variable(0.0, trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
        self._step = tf.function(self._replicas, autograph=False)

    def run(self, batches: Iterator[Any], count: int) -> None:
        """Runs `count` batches forward; takes about a third of as many training steps."""
        if not self.layers:
            return
        for index in range(count):
            self._decay.assign(index / (index + 1))
            self._step(batches)

    def _replicas(self, batches: Any) -> None:
        """One batch on every replica. The decay is a Python number in the training step's graph and a variable here."""
        tf = self._tf
        before = [layer.momentum for layer in self.layers]
        for layer in self.layers:
            layer.momentum = self._decay
        try:
            tf.distribute.get_strategy().run(self._forward, args=batches.get_next())
        finally:
            for layer, momentum in zip(self.layers, before, strict=True):
                layer.momentum = momentum
