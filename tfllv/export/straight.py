"""A detector's graph for converters: in operations that they know, and that round the same everywhere.

- The loop over pictures runs once, and is gone.
- `CropAndResize`, for which LiteRT has no kernel, gathers the four neighbours of each place.
- Means over many pixels are taken axis by axis: kernels that add 16,384 numbers one after another, as LiteRT's and
  ONNX Runtime's do, are 1e-4 off after the squeeze-and-excitation of EfficientNet's first block.
- Bilinear resizing computes its places as TensorFlow does, for ONNX Runtime rounds them otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfllv.export import retell


def straighten(detector: retell.Detector, outputs: Sequence[str]) -> Any:
    """Makes a function in plain operations out of a detector.

    Args:
      detector: see `retell.freeze`.
      outputs: the names to keep, where the detector has them.

    Returns:
      A concrete function: `image` [1, H, W, 3] float32 in [0, 1] -> the named tensors. Weights are constants in it.

    Raises:
      ValueError: if it cuts pictures out otherwise than TFOD does.
    """
    return retell.Teller(detector, _RULES).build(outputs)


def _add_axis(op: Any, inputs: list[Any]) -> list[Any] | None:
    """`tensor[None]` is a slice that LiteRT knows of fixed sizes alone."""
    masks = {key: op.get_attr(f"{key}_mask") for key in ("begin", "end", "new_axis", "shrink_axis")}
    whole = masks["begin"] == masks["end"] and masks["begin"] & (masks["begin"] + 2) == 0  # 0b1...10
    return [tf.expand_dims(inputs[0], 0)] if whole and (masks["new_axis"], masks["shrink_axis"]) == (1, 0) else None


def _average(op: Any, inputs: list[Any]) -> list[Any] | None:
    axes = tf.get_static_value(inputs[1])
    if axes is None or np.size(axes) < 2 or np.min(axes) < 0:
        return None
    mean = inputs[0]
    for axis in sorted(axes.tolist(), reverse=True):
        mean = tf.reduce_mean(mean, axis, keepdims=op.get_attr("keep_dims"))
    return [mean]


def _crop(op: Any, inputs: list[Any]) -> list[Any]:
    kind = op.get_attr("method").decode() or "bilinear", op.get_attr("extrapolation_value")
    if kind != ("bilinear", 0.0):
        raise ValueError(f"`CropAndResize` must be bilinear and 0 outside of the picture. Received: {kind}.")
    return [crop(*inputs)]


def _resize(op: Any, inputs: list[Any]) -> list[Any] | None:
    if op.get_attr("align_corners"):
        return None
    return [resize(tf.cast(inputs[0], tf.float32), inputs[1], centres=op.get_attr("half_pixel_centers"))]


_RULES: dict[str, retell.Rule] = {
    "StridedSlice": _add_axis,
    "Mean": _average,
    "CropAndResize": _crop,
    "ResizeBilinear": _resize,
}


def crop(images: tf.Tensor, boxes: tf.Tensor, picture: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Does what `tf.image.crop_and_resize` does by default, without an operation of that name.

    Args:
      images: [B, H, W, C] float32.
      boxes: [N, 4] float32 ymin, xmin, ymax, xmax; 0 and 1 are the centres of the first and last pixel.
      picture: [N] int32, which of `images` a box is of.
      size: [2] int32, height h and width w of a crop.

    Returns:
      [N, h, w, C] float32; 0 outside of the image.
    """
    shape = tf.shape(images)
    height, width, channels = shape[1], shape[2], shape[3]
    up, down, y, rows_inside = _neighbours(boxes[:, 0], boxes[:, 2], height, size[0])
    left, right, x, columns_inside = _neighbours(boxes[:, 1], boxes[:, 3], width, size[1])
    pixels = tf.reshape(images, [-1, channels])
    first = picture[:, None] * height

    def take(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        return tf.gather(pixels, ((first + rows) * width)[:, :, None] + columns[:, None, :])

    x, y = x[:, None, :, None], y[:, :, None, None]
    top = take(up, left) + (take(up, right) - take(up, left)) * x
    bottom = take(down, left) + (take(down, right) - take(down, left)) * x
    return (top + (bottom - top) * y) * (rows_inside[:, :, None] * columns_inside[:, None, :])[..., None]


def _neighbours(low: tf.Tensor, high: tf.Tensor, side: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Along one axis, for each of N boxes [N, count]: the pixels before and after, the share of the latter, inside."""
    last = tf.cast(side - 1, tf.float32)
    # A tensor, for LiteRT multiplies by the reciprocal of a constant: a box's last sample, on the border, may then
    # round to a place outside where it is inside by division, or the other way.
    steps = tf.cast(tf.maximum(count - 1, 1), tf.float32) + 0.0 * low
    one = tf.cast(tf.equal(count, 1), tf.float32)  # a single sample is in the middle
    start = (low + 0.5 * one * (high - low)) * last
    places = start[:, None] + tf.cast(tf.range(count), tf.float32) * ((high - low) * last / steps)[:, None]
    inside = tf.cast(tf.logical_and(places >= 0.0, places <= last), tf.float32)
    places = tf.clip_by_value(places, 0.0, last)
    before = tf.floor(places)
    after = tf.minimum(before + 1.0, last)
    return tf.cast(before, tf.int32), tf.cast(after, tf.int32), places - before, inside


def resize(images: tf.Tensor, size: tf.Tensor, *, centres: bool) -> tf.Tensor:
    """Does what TensorFlow's `ResizeBilinear` does, without an operation of that name.

    Args:
      images: [B, H, W, C] float32.
      size: [2] int32, height h and width w.
      centres: whether pixels are squares, and not points at their upper left corners (`half_pixel_centers`).

    Returns:
      [B, h, w, C] float32.
    """
    shape = tf.shape(images)
    up, down, y = _between(shape[1], size[0], centres)
    left, right, x = _between(shape[2], size[1], centres)
    x, y = x[:, None], y[:, None, None]
    top, bottom = tf.gather(images, up, axis=1), tf.gather(images, down, axis=1)
    top = tf.gather(top, left, axis=2) + (tf.gather(top, right, axis=2) - tf.gather(top, left, axis=2)) * x
    bottom = tf.gather(bottom, left, axis=2) + (tf.gather(bottom, right, axis=2) - tf.gather(bottom, left, axis=2)) * x
    return top + (bottom - top) * y


def _between(side: tf.Tensor, count: tf.Tensor, centres: bool) -> tuple[tf.Tensor, ...]:
    """Along one axis [count]: the pixels before and after, the share of the latter."""
    scale = tf.cast(side, tf.float32) / tf.cast(count, tf.float32)
    offset = 0.5 if centres else 0.0
    places = (tf.cast(tf.range(count), tf.float32) + offset) * scale - offset
    before = tf.floor(places)
    share = places - before
    before, after = (tf.clip_by_value(tf.cast(each, tf.int32), 0, side - 1) for each in (before, before + 1.0))
    return before, after, share
