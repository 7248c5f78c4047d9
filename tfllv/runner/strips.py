"""Works through pictures in strips of whole rows, inside a TensorFlow graph, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def rows_for(images: tf.Tensor, pixels: tf.Tensor, *, multiple: int | tf.Tensor = 1) -> tf.Tensor:
    """Returns the height of strips of about `pixels` pixels, all alike, in whole multiples of `multiple` rows.

    Args:
      images: [B, H, W, C].
      pixels: of a strip, >= 1.
      multiple: a strip starts at a multiple of this.
    """
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    strips = tf.maximum(1, (height * width + pixels // 2) // pixels)
    return (height + strips * multiple - 1) // (strips * multiple) * multiple


def map_strips(
    images: tf.Tensor,
    rows: tf.Tensor,
    function: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor],
    *,
    width: tf.Tensor,
    channels: int,
    dtype: tf.DType,
) -> tf.Tensor:
    """Calls a function on the strips of every picture of a batch and puts the results together.

    Args:
      images: [B, H, W, C], for its sides alone.
      rows: of a strip, >= 1; the last one may be lower.
      function: (index of the picture, first row, row behind the last) -> [1, any rows, width, channels].
      width: of the result.
      channels: of the result.
      dtype: of the result.

    Returns:
      [B, the sum of a picture's strips, width, channels].
    """
    batch, height = tf.shape(images)[0], tf.shape(images)[1]
    strips = (height + rows - 1) // rows
    parts = tf.TensorArray(dtype, batch * strips, infer_shape=False, element_shape=[None, None, channels])

    def body(step: tf.Tensor, parts: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        top = step % strips * rows
        return step + 1, parts.write(step, function(step // strips, top, tf.minimum(top + rows, height))[0])

    # Two at a time: while one waits for memory, the other computes.
    _, parts = tf.while_loop(lambda step, _: step < batch * strips, body, (0, parts), parallel_iterations=2)
    return tf.reshape(parts.concat(), (batch, -1, width, channels))
