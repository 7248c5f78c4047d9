"""Fine-tuning an encoder on pictures with one class each, for probes."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfllv import contracts
from tfllv.config import TrainConfig
from tfllv.inputs import labels
from tfllv.models.classifier import Classifier
from tfllv.objectives.classification import Classification
from tfllv.train import loop
from tfllv.train.learner import Learner


def train_classifier(
    backbone: Any,
    paths: Sequence[pathlib.Path],
    numbers: Sequence[int],
    classes: int,
    *,
    size: int = 224,
    epochs: int = 10,
    lr: float = 1e-4,
    batch_size: int = 32,
    seed: int = 0,
) -> Classifier:
    """Trains encoder and linear head together: Adam, a cosine to 0, pictures resized whole, nothing augmented.

    Args:
      backbone: the encoder; it is changed.
      paths: N pictures.
      numbers: N class numbers.
      classes: their number.
      size: side in pixels.
      epochs: passes over the pictures.
      lr: learning rate.
      batch_size: images a step.
      seed: of the order.

    Returns:
      The trained network.

    Raises:
      ValueError, OSError: by the training engine.
    """
    network = Classifier(backbone, classes)
    source = labels.ClassificationSource(paths, numbers, size=size)
    batch_size = min(batch_size, len(paths))
    config = TrainConfig(
        lr=lr,
        weight_decay=1e-4,
        decoupled_weight_decay=True,
        grad_clip_norm=1.0,
        schedule="cosine",
        num_epochs=epochs,
        train_batch_size=batch_size,
        # A short training ends before moving statistics have come near what the weights give.
        refresh_norms=min(50, -(-len(paths) // batch_size)),
        val_batch_size=1,
        snapshot_iter=epochs,
        checkpoint_steps=10**9,
        image_size=size,
        num_workers=2,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        validation = labels.ClassificationSource(paths[:1], numbers[:1], size=size)
        trainer = loop.Loop(
            Learner(network, Classification()), source, config, workdir=pathlib.Path(folder), validation=validation
        )
        trainer.run()
    return network


def predict(network: Classifier, pictures: np.ndarray) -> np.ndarray:
    """Returns the logits of [N, H, W, 3] uint8 pictures: [N, C] float32."""
    batch = tf.constant(pictures, tf.float32) / 255
    return np.asarray(network(batch, training=False)[contracts.LOGITS])
