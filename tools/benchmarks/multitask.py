"""The multi-task network: one step on two tasks against two steps on one each, and its encoder against Keras' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import timing

_CLASSES = 11
_STEP = (8, 128)  # batch, side in pixels
_FORWARD = (8, 224)


def multitask() -> list[dict]:
    """A training step of the default width, and the five maps of a batch by graphs that are called alike."""
    return [*_steps(), *_encoders()]


def _steps() -> list[dict]:
    import tensorflow as tf

    from tfllv import contracts, models
    from tfllv.models import resnet_unet
    from tfllv.objectives.multitask import Multitask
    from tfllv.train import optimizer, step
    from tfllv.train.learner import Learner

    size, side = _STEP
    rng = np.random.default_rng(0)
    high = rng.random((size, side, side, 3), dtype=np.float32)
    batch = {contracts.LOW: tf.constant(high * 0.2), contracts.HIGH: tf.constant(high)}
    batch[contracts.MASK] = tf.constant(rng.integers(0, _CLASSES, (size, side, side)), tf.int32)

    def one(tasks: str) -> Callable[[], Any]:
        learner = Learner(models.build("resnet_unet", num_classes=_CLASSES, tasks=tasks), Multitask())
        trained = [variable.value for variable in learner.trained]
        run = step.TrainStep(learner, optimizer.Adam(trained, optimizer.Schedule(1e-4)), tf.distribute.get_strategy())
        return lambda: run(batch).numpy()

    runs = {tasks: one(tasks) for tasks in resnet_unet.TASKS}
    sides = {
        "two single-task steps": lambda: (runs["enhancement"](), runs["segmentation"]()),
        "one multi-task step": runs["both"],
    }
    with step.reproducible_sums():
        found = timing.rows(timing.interleave(sides, rounds=7, warm_up=1), against="two single-task steps")
    return [{"what": f"train {size} x {side}x{side}", **row} for row in found]


def _encoders() -> list[dict]:
    import keras
    import tensorflow as tf

    from tfllv.models import encoder_weights, resnet

    size, side = _FORWARD
    images = tf.constant(np.random.default_rng(0).random((size, side, side, 3), dtype=np.float32))
    source = keras.applications.ResNet50(include_top=False, weights=None)
    ends = ("conv1_relu", *(f"conv{stage}_block{blocks}_out" for stage, blocks in enumerate((3, 4, 6, 3), start=2)))
    theirs = keras.Model(
        source.input, dict(zip(resnet.STAGES, (source.get_layer(n).output for n in ends), strict=True))
    )

    def graph(model: Any) -> Callable[[], Any]:
        function = tf.function(lambda images: dict(model(images, training=False)))
        return lambda: function(images)["c5"].numpy()

    sides = {
        "keras.applications.ResNet50": graph(theirs),
        "tfllv v1, the same layout": graph(resnet.ResNet50(variant="v1")),
        "tfllv v1.5": graph(resnet.ResNet50()),
        "tfllv v1, folded": graph(encoder_weights.make_folded(resnet.ResNet50(variant="v1"))),
        "tfllv v1.5, folded": graph(encoder_weights.make_folded(resnet.ResNet50())),
    }
    found = timing.rows(timing.interleave(sides, rounds=9, warm_up=2), against="keras.applications.ResNet50")
    return [{"what": f"five maps of {size} x {side}x{side}", **row} for row in found]
