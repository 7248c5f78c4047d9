"""Gradients of convolutions that a CPU computes in less time than TensorFlow's own; equal to them to rounding.

oneDNN has a kernel for the filter gradient of depthwise convolutions with up to three columns. Wider ones it takes for
dense convolutions of padded channels: 3 to 11 ms each in EfficientDet-D0, 1 ms in parts of three columns. A 1x1
convolution is a product of matrices, whose gradients as such need no other layout of the filter. The gradient of swish,
x sigmoid(x), reads memory once where TensorFlow's five operations do so ten times.

    with gradients.for_cpu():       # TensorFlow looks gradients up by name while it traces
        losses = training_step(batch)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

# Columns of a depthwise kernel up to which oneDNN has a filter gradient.
_COLUMNS = 3
# Pictures x rows x columns up to which a product is the faster way to a 1x1 convolution's input gradient.
_POSITIONS = 4096

Gradient = Callable[[Any, Any], Any]


@contextlib.contextmanager
def for_cpu() -> Iterator[None]:
    """Has TensorFlow take these gradients in what is traced inside the block; changes nothing where there is a GPU.

    `tf.RegisterGradient` refuses a second gradient of a name, and a tape does not ask the graph for another one, so
    this replaces entries of TensorFlow's own register for the time of the block.
    """
    import tensorflow as tf
    from tensorflow.python.framework import ops

    kept = {}
    if not tf.config.list_logical_devices("GPU") + tf.config.list_logical_devices("TPU"):
        kept = {name: ops.gradient_registry._registry[name] for name in REPLACEMENTS}
    try:
        for name, entry in kept.items():
            ops.gradient_registry._registry[name] = entry | {"type": REPLACEMENTS[name](entry["type"])}
        yield
    finally:
        ops.gradient_registry._registry.update(kept)


def conv2d(original: Gradient) -> Gradient:
    """Products of matrices for 1x1 kernels in steps of 1; `original` for all others.

    Args:
      original: (operation, gradient [N, H, W, F] of its output) -> gradients of its picture [N, H, W, C] and its
        filter [1, 1, C, F].
    """
    import tensorflow as tf

    def gradient(op: Any, upstream: Any) -> Any:
        image, kernel = op.inputs
        rows, columns, depth, filters = kernel.shape
        if (rows, columns) != (1, 1) or image.shape[-1] != depth or filters is None or not _is_plain(op, stride=1):
            return original(op, upstream)
        flat = tf.reshape(upstream, [-1, filters])
        by_kernel = tf.reshape(tf.matmul(tf.reshape(image, [-1, depth]), flat, transpose_a=True), kernel.shape)
        if flat.shape[0] is None or flat.shape[0] > _POSITIONS:
            # Of the two that it returns, the one that nothing uses is not computed.
            return original(op, upstream)[0], by_kernel
        by_image = tf.matmul(flat, tf.reshape(kernel, [depth, filters]), transpose_b=True)
        return tf.reshape(by_image, tf.shape(image)), by_kernel

    return gradient


def depthwise_conv2d(original: Gradient) -> Gradient:
    """Filter gradients of kernels wider than three columns in parts of three; `original` for all others.

    Args:
      original: (operation, gradient [N, h, w, C] of its output) -> gradients of its picture [N, H, W, C] and its
        filter [R, S, C, 1].
    """
    import tensorflow as tf

    def gradient(op: Any, upstream: Any) -> Any:
        image, kernel = op.inputs
        _, height, width, depth = image.shape
        rows, columns, _, multiplier = kernel.shape
        known = None not in (height, width, depth, rows, columns, multiplier)
        if not known or columns <= _COLUMNS or not _is_plain(op):
            return original(op, upstream)
        step = op.get_attr("strides")[1]
        tall, wide = upstream.shape[1:3]
        same = op.get_attr("padding") == b"SAME"
        top = max((tall - 1) * step + rows - height, 0) // 2 if same else 0
        left = max((wide - 1) * step + columns - width, 0) // 2 if same else 0
        parts = []
        for first in range(0, columns, _COLUMNS):
            count = min(_COLUMNS, columns - first)
            part = _window(image, (-top, (tall - 1) * step + rows - top), axis=1)
            part = _window(part, (first - left, first - left + (wide - 1) * step + count), axis=2)
            parts.append(
                tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                    input=part,
                    filter_sizes=[rows, count, depth, multiplier],
                    out_backprop=upstream,
                    strides=[1, step, step, 1],
                    padding="VALID",
                )
            )
        return original(op, upstream)[0], tf.concat(parts, 1)

    return gradient


def mul(original: Gradient) -> Gradient:
    """One pass over memory for the gradient of swish, x sigmoid(x), in place of five; `original` for other products.

    Args:
      original: (operation, gradient [...] of its output) -> gradients of its two factors.
    """
    import tensorflow as tf

    @tf.function(jit_compile=True, autograph=False)
    def swish(x: Any, upstream: Any) -> Any:
        gate = tf.sigmoid(x)
        return upstream * gate * (1 + x * (1 - gate))

    def gradient(op: Any, upstream: Any) -> Any:
        x, gate = op.inputs
        # Eager tensors do not know where they come from.
        is_gated = not tf.executing_eagerly() and gate.op.type == "Sigmoid" and gate.op.inputs[0] is x
        if not is_gated or not x.shape.is_fully_defined():
            return original(op, upstream)
        # The whole derivative goes by way of `x`, so that the sigmoid need not be kept.
        return swish(x, upstream), None

    return gradient


def _is_plain(op: Any, stride: int | None = None) -> bool:
    """Whether a convolution is float32 or float64, channels last, undilated and padded by "SAME" or "VALID"."""
    strides = op.get_attr("strides")
    return (
        op.inputs[0].dtype.name in ("float32", "float64")
        and op.get_attr("data_format") == b"NHWC"
        and op.get_attr("padding") in (b"SAME", b"VALID")
        and list(op.get_attr("dilations")) == [1, 1, 1, 1]
        and strides[1] == strides[2]
        and stride in (None, strides[1])
    )


def _window(image: Any, ends: tuple[int, int], *, axis: int) -> Any:
    """Rows or columns `ends[0]` to `ends[1]` of pictures, zeros where there are none."""
    import tensorflow as tf

    first, last = ends
    size = image.shape[axis]
    begin, end = min(max(first, 0), size), max(min(last, size), 0)
    start, count, padding = [0, 0, 0, 0], [-1, -1, -1, -1], [[0, 0]] * 4
    start[axis], count[axis] = begin, max(end - begin, 0)
    before = min(max(-first, 0), last - first)
    padding[axis] = [before, last - first - count[axis] - before]
    return tf.pad(tf.slice(image, start, count), padding)


# By operation, a function of TensorFlow's own gradient that returns another.
REPLACEMENTS: dict[str, Callable[[Gradient], Gradient]] = {
    "Conv2D": conv2d,
    "DepthwiseConv2dNative": depthwise_conv2d,
    "Mul": mul,
}
