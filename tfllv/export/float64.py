"""A detector's graph in float64: what its float32 numbers should be, whoever computes them.

Two builds of float32 differ by their roundings, and neither is right. A file is compared with this instead, and
TensorFlow's own float32 is too, which shows how much of the difference is the network's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfllv.export import retell

# Whose kernels take or give float32 alone; they choose and place rather than compute.
_SUPPRESSIONS = ("NonMaxSuppressionV3", "NonMaxSuppressionV4", "NonMaxSuppressionV5", "CombinedNonMaxSuppression")
_IN_FLOAT32 = ("ResizeBilinear", "CropAndResize", *_SUPPRESSIONS)
_NORMALISATIONS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")


def widen(detector: retell.Detector, outputs: Sequence[str], given: Sequence[str] = ()) -> Any:
    """Makes a function of float64 out of a detector; see `retell.Teller.build`."""
    rules = {**dict.fromkeys(_IN_FLOAT32, _narrow), **dict.fromkeys(_NORMALISATIONS, _normalise), "Const": _constant}
    return retell.Teller(detector, rules, {tf.float32: tf.float64}).build(outputs, given)


def _narrow(op: Any, inputs: list[Any]) -> list[Any]:
    narrow = [tf.cast(each, tf.float32) if each.dtype == tf.float64 else each for each in inputs]
    return [tf.cast(each, tf.float64) if each.dtype == tf.float32 else each for each in retell.copy(op, narrow, {})]


def _normalise(op: Any, inputs: list[Any]) -> list[Any]:
    image, gamma, beta, mean, variance = inputs
    if op.get_attr("is_training"):
        raise ValueError(f"A detector must normalise by running averages. Received: '{op.name}' in training.")
    scaled = gamma * tf.math.rsqrt(variance + op.get_attr("epsilon"))
    return [(image - mean) * scaled + beta, *[mean, variance] * 3][: len(op.outputs)]


def _constant(op: Any, inputs: list[Any]) -> list[Any] | None:
    if op.outputs[0].dtype != tf.float32:
        return None
    return [tf.constant(tf.make_ndarray(op.get_attr("value")), tf.float64)]
