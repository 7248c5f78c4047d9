"""A detector's graph in float64: what its float32 numbers should be, whoever computes them.

Two builds of float32 differ by their roundings, and neither is right. A file is compared with this instead, and
TensorFlow's own float32 is too, which shows how much of the difference is the network's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfllv.export import retell

_NORMALISATIONS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")


def widen(detector: retell.Detector, outputs: Sequence[str], given: Sequence[str] = ()) -> Any:
    """Makes a function of float64 out of a detector; see `retell.Teller.build`."""
    rules = {**dict.fromkeys(_NORMALISATIONS, _normalise), "Const": _constant}
    return retell.Teller(detector, rules, {tf.float32: tf.float64}).build(outputs, given)


def _normalise(op: Any, inputs: list[Any]) -> list[Any]:
    image, gamma, beta, mean, variance = inputs
    if op.get_attr("is_training") or op.get_attr("data_format") != b"NHWC":
        raise ValueError(f"A detector must normalise [B, H, W, C] by running averages. '{op.name}' does not.")
    scaled = gamma * tf.math.rsqrt(variance + op.get_attr("epsilon"))
    return [(image - mean) * scaled + beta, *[mean, variance] * 3][: len(op.outputs)]


def _constant(op: Any, inputs: list[Any]) -> list[Any] | None:
    if op.outputs[0].dtype != tf.float32:
        return None
    return [tf.constant(tf.make_ndarray(op.get_attr("value")), tf.float64)]
